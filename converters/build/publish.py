"""Puts what steps have made into the folder of a build: artifacts, references, changed models."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.plan.plan import ArtifactPlan, Plan
from converters.plan.provenance import provenance
from converters.plan.step_graph import Chain, ModelSteps
from converters.plan.work import LOAD, LoadedFacts
from converters.steps.runner import Runner
from runtimes.artifact import trust
from runtimes.artifact.artifact import MANIFEST, Artifact, FileEntry, Manifest, files_of, publish, sha256
from runtimes.errors import ArtifactError, UsageError
from runtimes.files.layout import CHANGED, REFERENCE_FILE, STATE_FILE
from runtimes.machine import machine


@dataclass(frozen=True)
class Press:
    """One build's. What lies in its place already, and is what it should be, is left alone."""

    plan: Plan
    output: Path
    work: Path
    runner: Runner
    loaded: LoadedFacts
    _lock: threading.Lock = field(default_factory=threading.Lock)  # artifacts share models

    def reference(self, step: str, folder: Path) -> None:
        """The reference that a step wrote, in `folder`."""
        target = folder / REFERENCE_FILE
        if not target.exists() or sha256(target) != self._digest(step, REFERENCE_FILE):
            copied = shutil.copy(self.runner.whole(step).folder / REFERENCE_FILE, self.work / REFERENCE_FILE)
            Path(copied).replace(target)

    def _digest(self, step: str, name: str) -> str:
        return self.runner.listed(step)[name]

    def publish(self, artifact: ArtifactPlan, chain: Chain, target: Path) -> Artifact:
        """The artifact in its place, where it may be already."""
        try:
            files = self._files(chain.export)
        except FileNotFoundError:  # a part of what was kept is gone: it is made anew
            self.runner.whole(chain.export)
            files = self._files(chain.export)
        manifest = self._manifest(artifact, chain).model_copy(update={"files": files})
        if _is_there(target, manifest):
            trust.remember(sha256(target / MANIFEST))
            return Artifact(target, manifest)
        made = self.runner.whole(chain.export)
        folder = self.work / "artifacts" / artifact.name
        try:
            shutil.copytree(made.folder, folder)
            target.parent.mkdir(exist_ok=True)
            return publish(folder, target, manifest)
        finally:
            shutil.rmtree(
                folder, ignore_errors=True
            )  # of a disk that is full, what is left leaves no room for others

    def _files(self, step: str) -> dict[str, FileEntry]:
        folder, listed = self.runner.made(step).folder, self.runner.listed(step)
        return {name: FileEntry(sha256=digest, size=(folder / name).stat().st_size)
                for name, digest in sorted(listed.items())}  # fmt: skip

    def _manifest(self, artifact: ArtifactPlan, chain: Chain) -> Manifest:
        recipe, facts = self.plan.recipe, self.runner.made(chain.model.facts).result.facts
        exported = self.runner.made(chain.export).result
        options = artifact.options.model_dump(mode="json", exclude={"gates"})
        passes, notes, kept = self._passes(chain)
        return Manifest(
            burnish=machine.burnish_version(),
            name=artifact.name,
            format=artifact.exporter.format,
            runtime=artifact.exporter.runtime,
            entry=exported.entry,
            devices=artifact.exporter.runs_on(artifact.options),
            precision=exported.precision,
            model=recipe.model,
            task=recipe.task,
            inputs=facts.inputs,
            outputs=facts.outputs,
            dims=facts.dims,
            preprocess=recipe.preprocess,
            classes=self.loaded.classes,
            gates=artifact.gates,
            # Why other weights were not used differs from day to day: build.json tells it.
            weights={key: value for key, value in self.loaded.weights.items() if key != "tried"},
            reference=sha256(self._model(chain.model)),
            deterministic=artifact.exporter.varies(artifact.options) is None,
            provenance=provenance(self.plan, artifact, self.loaded.weights, self.runner.listed(LOAD)[STATE_FILE]),
            build={
                "options": options,
                "model_args": recipe.args,
                "parameters": facts.parameters,
                "flops": facts.flops,
                "versions": machine.versions(),
                "by_keyword": facts.by_keyword,
                **({"changed": f"{CHANGED}/{chain.model.key}"} if chain.model.key else {}),
                **exported.build,
                **kept,
                **({"passes": passes} if passes else {}),
                "notes": [*notes, *exported.notes],
            },
        )

    def _passes(self, chain: Chain) -> tuple[list[dict[str, Any]], list[str], dict[str, Any]]:
        """What each pass did, what a reader must know of it, and what of that the manifest says apart."""
        changed = [self.runner.made(name).result for name in chain.model.passes]
        reports, notes = [one.report for one in changed], [note for one in changed for note in one.notes]
        if chain.model.key:
            notes += self.runner.made(chain.model.facts).result.notes
        if not chain.quantize:
            return [*reports, *self.runner.made(chain.export).result.passes], notes, {}
        quantized = self.runner.made(chain.quantize).result
        return (
            [*reports, {"quantize": quantized.report}],
            [*notes, *quantized.notes],
            {"kept_layers": quantized.kept_layers},
        )

    def _model(self, model: ModelSteps) -> Path:
        """The reference of a model in the output folder; a changed model is put there with its own."""
        if not model.key:
            return self.output / REFERENCE_FILE
        with self._lock:
            return self._changed(model)

    def _changed(self, model: ModelSteps) -> Path:
        kept = self.output / CHANGED / model.key
        wanted = {**self.runner.listed(model.state), **self.runner.listed(model.facts)}
        if not _holds(kept, wanted):
            shutil.rmtree(kept, ignore_errors=True)
            scratch = self.work / CHANGED
            shutil.rmtree(scratch, ignore_errors=True)
            for step in (model.state, model.facts):
                shutil.copytree(self.runner.whole(step).folder, scratch, dirs_exist_ok=True)
            kept.parent.mkdir(exist_ok=True)
            scratch.rename(kept)
        return kept / REFERENCE_FILE


def _holds(folder: Path, wanted: dict[str, str]) -> bool:
    return folder.is_dir() and {name: sha256(folder / name) for name in files_of(folder)} == wanted


def _is_there(target: Path, manifest: Manifest) -> bool:
    """Whether exactly this artifact is in its place, whole."""
    if not (target / MANIFEST).is_file():
        return False
    try:
        found = Artifact.open(target)
        found.verify()
    except (ArtifactError, UsageError, OSError):
        return False
    return found.manifest == manifest
