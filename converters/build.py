"""Run a plan: load, export each artifact, prove it, write build.json. One failure never stops the others."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from converters import steps
from converters.data import some_samples
from converters.exporters.base import Exported
from converters.exporters.onnx import OnnxOptions
from converters.intermediates import Intermediates, Model
from converters.recipe import Artifact, Plan
from converters.sources.load import Source
from runtimes import machine
from runtimes.artifact import MANIFEST, Manifest, publish, sha256
from runtimes.artifact import Artifact as Built
from runtimes.errors import BurnishError, Unavailable, UsageError
from runtimes.process import isolated, stopwatch
from runtimes.results import Build, Row, Status
from runtimes.session import unavailable
from runtimes.validator.defaults import BUDGET_SECONDS
from runtimes.validator.reference import FILE as REFERENCE
from runtimes.validator.reference import Reference
from runtimes.validator.validate import Progress, Target, default_options, validate

STEP_SECONDS = 3600.0  # a step that says nothing for so long has hung
CHANGED = "models"
"""Folder of a build with the models that passes changed, each with its own reference."""


def source_of(plan: Plan) -> Source:
    """What the model of a recipe is loaded from."""
    recipe = plan.recipe
    where = str(plan.document.mark(("model",)))
    return Source(recipe.model, recipe.args, recipe.weights, plan.folder, where, recipe.inputs, recipe.dims)


def devices_of(artifact: Artifact, asked: Sequence[str]) -> list[str]:
    """The devices an artifact is judged on: those asked for that it can run on, else its first one."""
    own = artifact.exporter.runs_on(artifact.options)
    return [device for device in asked if device in own] or [own[0]]


def build(
    plan: Plan,
    output: Path,
    devices: Sequence[str] = (),
    budget: float = BUDGET_SECONDS,
    progress: Progress = lambda message: None,
) -> Build:
    """Build and prove every artifact of a recipe.

    Args:
        plan: a checked recipe.
        output: folder of the build; artifacts that it holds already are replaced one by one.
        devices: instead of the recipe's.
        budget: seconds of timing per artifact; 0 leaves speed unmeasured.
        progress: told what is being done.

    Returns:
        What was found; it is also in `output`/build.json.

    Raises:
        UsageError: the folder cannot be written, or the model cannot be loaded as the recipe says.
        BurnishError: loading the model ended in an error.
    """
    if not find_spec("torch"):
        raise Unavailable("converting needs PyTorch: pip install 'burnish[convert]'")
    output = output.resolve()  # the user's factory may change the working folder
    _foreign(plan, output)
    with _folders(output) as work:
        return _Run(plan, output, work, tuple(devices) or plan.recipe.devices, budget, progress).run()


def _foreign(plan: Plan, output: Path) -> None:
    """Raise UsageError where the build would replace something that Burnish did not make."""
    taken = [name for one in plan.artifacts if (output / (name := one.name)).exists()]
    foreign = [name for name in taken if not (output / name / MANIFEST).is_file()]
    if (output / REFERENCE).exists() and not (output / "build.json").exists() and not taken:
        foreign.append(REFERENCE)
    if (output / "build.json").exists():
        try:
            Build.read(output)
        except UsageError:
            foreign.append("build.json")
    if foreign:
        raise UsageError(
            f"{output} holds {', '.join(foreign)}, which no build made and this one would replace: "
            "choose another --output, or remove it"
        )


def _check_budgets(plan: Plan, labelled: bool) -> None:
    """Raise UsageError where a budget is one of accuracy on labels, and no sample has brought one along."""
    for artifact in plan.artifacts:
        quantize = artifact.options.quantize
        if quantize and quantize.max_drop and quantize.metric == "top1" and not labelled:
            raise UsageError(
                f"artifacts.{artifact.name}: metric: top1 is accuracy on labels, and the samples of "
                "data.evaluation have none: add them, or use metric: agreement"
            )


@contextlib.contextmanager
def _folders(output: Path) -> Iterator[Path]:
    """The output folder and a scratch folder in it; what stays empty is removed again."""
    created = not output.exists()
    parent = not output.parent.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        work = output / ".work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        (output / "logs").mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {output}: {error.strerror}") from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if created and not any(path.name != "logs" for path in output.iterdir()):
            shutil.rmtree(output, ignore_errors=True)
            if parent and not any(output.parent.iterdir()):
                output.parent.rmdir()


@dataclass
class _Run:
    """One build on its way."""

    plan: Plan
    output: Path
    work: Path
    devices: tuple[str, ...]
    budget: float
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self) -> Build:
        total = stopwatch()
        self.source = source_of(self.plan)
        self.progress(f"loading {self.plan.recipe.model}")
        self.loaded: steps.LoadedFacts = self._isolated(
            "load", steps.load, self.source, self.plan.recipe, self.work
        )
        _check_budgets(self.plan, self.loaded.labelled)
        _forget(self.output)
        # Before the first artifact, so that each one that is finished can be judged, whatever comes then.
        reference = (self.work / REFERENCE).replace(self.output / REFERENCE)
        self.made = Intermediates(
            self.plan, self.source, self.work, reference, self.loaded.facts, self._isolated, self.progress
        )
        outcomes = {artifact.name: self._artifact(artifact) for artifact in self.plan.artifacts}
        rows = self._prove(outcomes)
        self.seconds["total"] = total()
        result = Build(
            recipe={
                "name": self.plan.name,
                **self.plan.recipe.model_dump(mode="json", exclude_defaults=True),
            },
            model=self.plan.recipe.model,
            weights=self.loaded.weights,
            machine=machine.describe(),
            artifacts=rows,
            notes=self.loaded.notes,
            seconds={name: round(value, 3) for name, value in self.seconds.items()},
            burnish=machine.burnish_version(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        try:
            result.write(self.output / "build.json")
        except OSError as error:
            raise BurnishError(f"cannot write {self.output / 'build.json'}: {error.strerror}") from error
        return result

    def _isolated(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        clock, log = stopwatch(), self.output / "logs" / f"{name}.log"
        log.unlink(missing_ok=True)
        told = self.progress
        try:
            return isolated(function, *args, what=f"the step {name!r}", log=log, timeout=STEP_SECONDS, told=told)
        finally:
            self.seconds[name] = clock()

    def _artifact(self, artifact: Artifact, place: Path | None = None) -> Built | Row:
        """Export one artifact and put it in its place; a row where that did not work."""
        row = Row(name=artifact.name, format=artifact.exporter.format, device="", status=Status.ERROR,
                  precision=artifact.options.asked_precision)  # fmt: skip
        if missing := artifact.exporter.missing(artifact.options):
            return row.model_copy(update={"status": Status.SKIPPED, "reason": missing})
        folder = self.work / "artifacts" / artifact.name
        try:
            folder.mkdir(parents=True)
            model = self.made.model(artifact.options)
            exported = self._export(artifact, model, folder)
            manifest = self._manifest(artifact, exported, model)
            return publish(folder, (place or self.output) / artifact.name, manifest)
        except BurnishError as error:
            return row.model_copy(update={"reason": str(error)})
        except OSError as error:
            return row.model_copy(update={"reason": f"cannot write {artifact.name}: {error.strerror}"})

    def _export(self, artifact: Artifact, model: Model, folder: Path) -> Exported:
        graph = None
        if (options := artifact.exporter.graph_options(artifact.options)) is not None:
            graph = self.made.graph(OnnxOptions(format="onnx", **options), model)
        quantized = self.made.quantized(artifact, graph) if graph and artifact.options.quantize else None
        start = quantized.graph if quantized else graph
        self.progress(f"exporting {artifact.name}")
        samples = partial(some_samples, self.plan.recipe, self.plan.folder)
        args = (model.facts, model.folder, folder, artifact.exporter.format, artifact.options, start, samples)
        exported: Exported = self._isolated(artifact.name, steps.export, None if start else self.source, *args)
        passes, notes = list(model.passes), list(model.notes)
        build = dict(exported.build)
        if quantized:
            passes, notes = [*passes, {"quantize": quantized.report}], [*notes, *quantized.notes]
            build["kept_layers"] = quantized.kept_layers
        if passes:
            build["passes"] = passes
        if isinstance(artifact.options, OnnxOptions) and graph is None:
            self.made.graph_made(artifact.options, model, self.output / artifact.name / exported.entry)
        return replace(exported, build=build, notes=[*notes, *exported.notes])

    def _manifest(self, artifact: Artifact, exported: Exported, model: Model) -> Manifest:
        recipe, facts = self.plan.recipe, model.facts
        options = artifact.options.model_dump(mode="json", exclude={"gates"})
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
            weights=self.loaded.weights,
            reference=sha256(self._reference(model)),
            build={
                "options": options,
                "model_args": recipe.args,
                "parameters": facts.parameters,
                "flops": facts.flops,
                "versions": machine.versions(),
                "by_keyword": facts.by_keyword,
                **({"changed": f"{CHANGED}/{model.key}"} if model.key else {}),
                **exported.build,
                "notes": exported.notes,
            },
        )

    def _reference(self, model: Model) -> Path:
        """The reference of a model in the output folder; a changed model is put there with its own."""
        if not model.key:
            return self.output / REFERENCE
        kept = self.output / CHANGED / model.key
        if not kept.exists():
            shutil.copytree(model.folder, kept)
        return kept / REFERENCE

    def _prove(self, outcomes: dict[str, Built | Row]) -> list[Row]:
        """Rows in the recipe's order: of what was built by the validator, of the rest as it ended."""
        clock = stopwatch()
        by_name = {artifact.name: artifact for artifact in self.plan.artifacts}
        targets = [
            Target(built, device, self._parent(by_name[name], device, outcomes), self._own_reference(by_name[name]))
            for name, built in outcomes.items()
            if isinstance(built, Built)
            for device in devices_of(by_name[name], self.devices)
        ]

        def eager(device: str) -> steps.EagerFromState:
            return steps.EagerFromState(self.source, self.loaded.facts, self.work, device, default_options())

        reference = Reference.load(self.output / REFERENCE)
        log = self.output / "logs" / "validate.log"
        log.unlink(missing_ok=True)
        rows = validate(targets, reference, eager, budget=self.budget, log=log, progress=self.progress)
        judged = {(row.name, row.device): row for row in rows}
        self.seconds["validate"] = clock()
        return [
            judged.get((name, device)) or _unbuilt(outcome, device)
            for name, outcome in outcomes.items()
            for device in devices_of(by_name[name], self.devices)
        ]

    def _own_reference(self, artifact: Artifact) -> Reference | None:
        """The reference of the model that the artifact was exported from, where passes changed it."""
        model = self.made.model(artifact.options)
        return Reference.load(model.reference) if model.reference else None

    def _parent(self, artifact: Artifact, device: str, outcomes: Mapping[str, Built | Row]) -> Built | None:
        """The artifact without its passes: the recipe's own, where it has such a one, else one made to be timed."""
        built = outcomes[artifact.name]
        assert isinstance(built, Built)  # what was not built is not timed
        if not artifact.options.passes or not self.budget or unavailable(built, device):
            return None
        if twin := _without_passes(artifact, self.plan.artifacts):
            made = outcomes[twin.name]
        else:
            plain = artifact.options.model_copy(update={"passes": (), "format": artifact.exporter.format})
            made = self._artifact(replace(artifact, name=f"{artifact.name}-float", options=plain), self.work)
        return made if isinstance(made, Built) else None


def _forget(output: Path) -> None:
    """Remove what tells of artifacts that are now replaced."""
    (output / "build.json").unlink(missing_ok=True)
    shutil.rmtree(output / CHANGED, ignore_errors=True)


def _without_passes(artifact: Artifact, others: Sequence[Artifact]) -> Artifact | None:
    """The artifact of the recipe that has the same options but no passes."""
    unlike = {"passes": (), "gates": None}
    wanted = artifact.options.model_copy(update=unlike)
    return next((one for one in others if not one.options.passes and
                 one.options.model_copy(update=unlike) == wanted), None)  # fmt: skip


def _unbuilt(outcome: Built | Row, device: str) -> Row:
    assert isinstance(outcome, Row)  # what was built has been judged
    return outcome.model_copy(update={"device": device})
