"""Publishes outputs of steps in the folder of a build: artifacts, references, changed models."""

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
from runtimes.artifact.artifact import (
    MANIFEST,
    Artifact,
    FileEntry,
    Manifest,
    files_of,
    publish,
    sha256,
)
from runtimes.errors import ArtifactError, UsageError
from runtimes.files.layout import CHANGED, REFERENCE_FILE, STATE_FILE
from runtimes.machine import machine


@dataclass(frozen=True)
class PassRecord:
    """Record of an artifact's passes for its manifest: reports, notes, and layers kept float."""

    reports: list[dict[str, Any]]
    notes: list[str]
    kept_layers: list[str] | None = None


@dataclass(frozen=True)
class Publisher:
    """Publishes the outputs of one build; correct files that exist already are left alone.

    Attributes:
        plan, runner: of the build.
        output: folder of the build.
        scratch: folder on the same disk.
        loaded: facts of the loaded model.
    """

    plan: Plan
    output: Path
    scratch: Path
    runner: Runner
    loaded: LoadedFacts
    _lock: threading.Lock = field(default_factory=threading.Lock)  # artifacts share models

    def publish_reference(self, step: str, folder: Path) -> None:
        """Publish the reference that a step wrote, in `folder`."""
        target = folder / REFERENCE_FILE
        digest = self.runner.file_digests(step)[REFERENCE_FILE]
        if not target.exists() or sha256(target) != digest:
            source = self.runner.verified_output(step).folder / REFERENCE_FILE
            copy = self.scratch / REFERENCE_FILE
            shutil.copy(source, copy)
            copy.replace(target)

    def publish_artifact(self, artifact: ArtifactPlan, chain: Chain, target: Path) -> Artifact:
        """Publish an artifact in `target`, unless exactly this artifact is there already."""
        try:
            files = self._files(chain.export)
        except FileNotFoundError:  # a file of the cached output is gone: the step runs again
            self.runner.verified_output(chain.export)
            files = self._files(chain.export)
        manifest = self._manifest(artifact, chain).model_copy(update={"files": files})
        if _is_published(target, manifest):
            trust.remember(sha256(target / MANIFEST))
            return Artifact(target, manifest)
        exported = self.runner.verified_output(chain.export)
        folder = self.scratch / "artifacts" / artifact.name
        try:
            shutil.copytree(exported.folder, folder)
            target.parent.mkdir(exist_ok=True)
            return publish(folder, target, manifest)
        finally:  # on a full disk, leftovers would take the room of the other artifacts
            shutil.rmtree(folder, ignore_errors=True)

    def _files(self, step: str) -> dict[str, FileEntry]:
        folder = self.runner.output(step).folder
        entries = {}
        for name, digest in sorted(self.runner.file_digests(step).items()):
            entries[name] = FileEntry(sha256=digest, size=(folder / name).stat().st_size)
        return entries

    def _manifest(self, artifact: ArtifactPlan, chain: Chain) -> Manifest:
        recipe, exporter = self.plan.recipe, artifact.exporter
        facts = self.runner.output(chain.model.facts).result.facts
        exported = self.runner.output(chain.export).result
        weights = self.loaded.weights
        state = self.runner.file_digests(LOAD)[STATE_FILE]
        return Manifest(
            burnish=machine.burnish_version(),
            name=artifact.name,
            format=exporter.format,
            runtime=exporter.runtime,
            entry=exported.entry,
            devices=exporter.runs_on(artifact.options),
            precision=exported.precision,
            model=recipe.model,
            task=recipe.task,
            inputs=facts.inputs,
            outputs=facts.outputs,
            dims=facts.dims,
            preprocess=recipe.preprocess,
            classes=self.loaded.classes,
            gates=artifact.gates,
            # The reasons why other weights were not used change daily: only build.json has them.
            weights={key: value for key, value in weights.items() if key != "tried"},
            reference=sha256(self._reference(chain.model)),
            deterministic=exporter.varies(artifact.options) is None,
            provenance=provenance(self.plan, artifact, weights, state),
            build=self._build_record(artifact, chain),
        )

    def _build_record(self, artifact: ArtifactPlan, chain: Chain) -> dict[str, Any]:
        """Return the manifest's `build`: how the artifact was made."""
        facts = self.runner.output(chain.model.facts).result.facts
        exported = self.runner.output(chain.export).result
        passes = self._passes(chain)
        record = {
            "options": artifact.options.model_dump(mode="json", exclude={"gates"}),
            "model_args": self.plan.recipe.args,
            "parameters": facts.parameters,
            "flops": facts.flops,
            "versions": machine.versions(),
            "by_keyword": facts.by_keyword,
            "flat": facts.flat,
        }
        if chain.model.key:
            record["changed"] = f"{CHANGED}/{chain.model.key}"
        record |= exported.build
        if passes.kept_layers is not None:
            record["kept_layers"] = passes.kept_layers
        if passes.reports:
            record["passes"] = passes.reports
        record["notes"] = [*passes.notes, *exported.notes]
        return record

    def _passes(self, chain: Chain) -> PassRecord:
        """Return the record of an artifact's passes."""
        reports: list[dict[str, Any]] = []
        notes: list[str] = []
        for name in chain.model.passes:
            changed = self.runner.output(name).result
            reports.append(changed.report)
            notes += changed.notes
        if chain.model.key:
            notes += self.runner.output(chain.model.facts).result.notes
        if not chain.quantize:
            exported = self.runner.output(chain.export).result
            return PassRecord([*reports, *exported.passes], notes)
        quantized = self.runner.output(chain.quantize).result
        reports.append({"quantize": quantized.report})
        return PassRecord(reports, [*notes, *quantized.notes], quantized.kept_layers)

    def _reference(self, model: ModelSteps) -> Path:
        """Return the published reference of a model; a changed model is published first."""
        if not model.key:
            return self.output / REFERENCE_FILE
        with self._lock:
            return self._publish_model(model)

    def _publish_model(self, model: ModelSteps) -> Path:
        """Publish a changed model with its reference, unless it is there already."""
        target = self.output / CHANGED / model.key
        digests = {
            **self.runner.file_digests(model.state),
            **self.runner.file_digests(model.facts),
        }
        if not _holds(target, digests):
            shutil.rmtree(target, ignore_errors=True)
            scratch = self.scratch / CHANGED
            shutil.rmtree(scratch, ignore_errors=True)
            for step in (model.state, model.facts):
                folder = self.runner.verified_output(step).folder
                shutil.copytree(folder, scratch, dirs_exist_ok=True)
            target.parent.mkdir(exist_ok=True)
            scratch.rename(target)
        return target / REFERENCE_FILE


def _holds(folder: Path, digests: dict[str, str]) -> bool:
    """Return whether a folder holds exactly the files with these digests."""
    if not folder.is_dir():
        return False
    return {name: sha256(folder / name) for name in files_of(folder)} == digests


def _is_published(target: Path, manifest: Manifest) -> bool:
    """Return whether exactly this artifact is in its place, with all its files."""
    if not (target / MANIFEST).is_file():
        return False
    try:
        artifact = Artifact.open(target)
        artifact.verify()
    except (ArtifactError, UsageError, OSError):
        return False
    return artifact.manifest == manifest
