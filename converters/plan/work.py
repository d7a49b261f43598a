"""The actions of a build's steps.

Each is a picklable call that runs in a process of its own and writes into a new folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from converters.data.calibration import CalibrationSamples
from converters.data.uses import probes, some_samples
from converters.exporters import EXPORTERS
from converters.exporters.base import Exporter
from converters.exporters.job import Exported, ExportJob
from converters.models.facts import ModelFacts, count_classes, estimate_work, study
from converters.passes.bench import Bench
from converters.passes.change import Changed
from converters.passes.quantize.run import Engine, Quantized
from converters.recipe.artifact import ExporterOptions
from converters.recipe.passes import PassOptions
from converters.recipe.quantize import QuantizeOptions
from converters.recipe.schema import Recipe
from converters.sources.load import Source, load_model
from converters.sources.restore import restore
from converters.steps.step import StepOutput
from converters.steps.store import Store
from runtimes.errors import UsageError
from runtimes.files.layout import REFERENCE_FILE, STATE_FILE
from runtimes.validator.gates.honest import EXPECTED
from runtimes.validator.reference import Reference

LOAD = "load"


@dataclass(frozen=True)
class LoadedFacts:
    """Facts of the loaded model for the other steps.

    Attributes:
        facts: inputs, outputs, parameters.
        weights: record of the weights that were loaded.
        notes: for the build's reader.
        classes: names of the classes, if there are any.
        labelled: whether the evaluation samples have labels.
    """

    facts: ModelFacts
    weights: dict[str, Any]
    notes: list[str]
    classes: tuple[str, ...] | None
    labelled: bool = False


@dataclass(frozen=True)
class Load:
    """Load the model once: save its state for other steps, and the reference for the validator."""

    source: Source
    recipe: Recipe

    def __call__(self, folder: Path, needs: Mapping[str, StepOutput]) -> LoadedFacts:
        """Raise UsageError if the recipe's samples, labels or class names do not fit the model."""
        import torch

        recipe, loaded = self.recipe, load_model(self.source)
        torch.save(loaded.module.state_dict(), folder / STATE_FILE)
        names, count = _class_names(recipe), None
        if names is not None or recipe.task == "classification":
            count = count_classes(loaded.module, recipe.inputs, recipe.dims)
        if names is not None and count not in (None, len(names)):
            raise UsageError(f"classes: {len(names)} names, but the model has {count} classes")
        notes: list[str] = []
        work = estimate_work(loaded.module, recipe.inputs, recipe.dims)
        samples = probes(recipe, self.source.folder, notes.append, count, work)
        facts, reference = study(
            loaded.module,
            recipe.inputs,
            recipe.dims,
            samples,
            recipe.outputs,
            recipe.task,
            recipe.state,
        )
        reference.save(folder / REFERENCE_FILE)
        labelled = any(probe.labels for probe in samples)
        weights = loaded.weights.as_dict()
        return LoadedFacts(facts, weights, [*notes, *reference.notes], names, labelled)


def _class_names(recipe: Recipe) -> tuple[str, ...] | None:
    from converters.sources.torchvision import imagenet_classes

    return imagenet_classes() if recipe.classes == "imagenet" else recipe.classes


@dataclass(frozen=True)
class Change:
    """Apply one pass to the model.

    Attributes:
        source, recipe: of the model.
        options: of the pass.
        before: name of the step whose output the pass changes.
        checkpoints: folder of unfinished training, which a later build continues.
    """

    source: Source
    recipe: Recipe
    options: PassOptions
    before: str
    checkpoints: Path

    def __call__(self, folder: Path, needs: Mapping[str, StepOutput]) -> Changed:
        """Write state and structure of the changed model into `folder`."""
        from converters.passes.change import change

        loaded = needs[LOAD]
        teacher = restore(self.source, loaded.folder)
        module = restore(self.source, needs[self.before].folder)
        bench = Bench(self.source, self.recipe, loaded.result.facts, self.checkpoints)
        return change(bench, self.options, teacher, module, folder)


@dataclass(frozen=True)
class Studied:
    """Facts of a changed model."""

    facts: ModelFacts
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Study:
    """Study a changed model: its facts, and the reference that judges its artifacts."""

    source: Source
    recipe: Recipe
    changed: str

    def __call__(self, folder: Path, needs: Mapping[str, StepOutput]) -> Studied:
        """Write the reference into `folder`."""
        recipe, before = self.recipe, Reference.load(needs[LOAD].folder / REFERENCE_FILE)
        module = restore(self.source, needs[self.changed].folder)
        facts, reference = study(
            module, recipe.inputs, recipe.dims, before.probes, recipe.outputs, recipe.task
        )
        replace(reference, original=before.eager).save(folder / REFERENCE_FILE)
        return Studied(facts, reference.notes)


@dataclass(frozen=True)
class Quantize:
    """Quantize an ONNX graph.

    Attributes:
        recipe: names the samples.
        home: the recipe's folder.
        options: of the quantization.
        engine: in which an accuracy budget is measured.
        graph: name of the step that wrote the graph.
        facts: name of the step that wrote the model's reference.
        store: of calibrations.
    """

    recipe: Recipe
    home: Path
    options: QuantizeOptions
    engine: Engine
    graph: str
    facts: str
    store: Store

    def __call__(self, folder: Path, needs: Mapping[str, StepOutput]) -> Quantized:
        """Write the quantized graph into `folder`."""
        from converters.passes.quantize.expected import expected_errors
        from converters.passes.quantize.run import quantize

        graph = needs[self.graph]
        start = graph.folder / graph.result.entry
        outputs = list(needs[self.facts].result.facts.outputs)
        quantized = quantize(
            start, self.recipe, self.home, self.options, self.engine, folder, self.store, outputs
        )
        reference = Reference.load(needs[self.facts].folder / REFERENCE_FILE)
        integers = self.options.mode != "static"
        expected, notes = expected_errors(quantized.graph, reference, integers)
        return replace(
            quantized,
            graph=Path(quantized.graph.name),
            report=quantized.report | {EXPECTED: expected},
            notes=[*quantized.notes, *notes],
            lasting=graph.result.lasting,
        )


@dataclass(frozen=True)
class Export:
    """Write one format.

    Attributes:
        source, recipe: of the model; its state is restored if the exporter starts from the module.
        format, options: of the artifact.
        model: the step that wrote the model's state; None if the exporter starts from a graph.
        facts: the step that has the model's inputs and outputs.
        start: the step that wrote the graph to start from.
    """

    source: Source
    recipe: Recipe
    format: str
    options: ExporterOptions
    model: str | None
    facts: str
    start: str | None = None

    def __call__(self, folder: Path, needs: Mapping[str, StepOutput]) -> Exported:
        """Write the files into `folder`."""
        exporter: Exporter = EXPORTERS.get(self.format)()
        module = restore(self.source, needs[self.model].folder) if self.model else None
        start = graph_file(needs[self.start]) if self.start else None
        samples = partial(some_samples, self.recipe, self.source.folder)
        calibration = partial(CalibrationSamples, self.recipe, self.source.folder)
        facts = needs[self.facts].result.facts
        job = ExportJob(module, facts, folder, start, samples, calibration)
        exported = exporter.export(job, self.options)
        lasting = needs[self.start].result.lasting if self.start else []
        return replace(exported, notes=[*lasting, *exported.notes])


def graph_file(output: StepOutput) -> Path:
    """Return the ONNX file of a step that exported or quantized a graph."""
    result = output.result
    return output.folder / (result.graph if isinstance(result, Quantized) else result.entry)
