"""The steps of a build, each a function that runs in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.cache import Store
from converters.data import probes
from converters.exporters import EXPORTERS
from converters.exporters.base import Exported, Exporter, Job, ModelFacts
from converters.facts import count_classes, study
from converters.recipe import Recipe
from converters.sources.load import Source, build_module, load_model
from runtimes.engines.eager import eager_session
from runtimes.errors import UsageError
from runtimes.session import Session, SessionOptions
from runtimes.spec import Arrays
from runtimes.validator.reference import FILE as REFERENCE
from runtimes.validator.reference import Reference

if TYPE_CHECKING:
    import torch

    from converters.cache import Store
    from converters.passes.change import Changed
    from converters.passes.options import PassOptions
    from converters.passes.quantize.options import QuantizeOptions
    from converters.passes.quantize.run import Engine, Quantized

STATE = "state.pt"


@dataclass(frozen=True)
class LoadedFacts:
    """What the load step tells the rest of the build; `labelled`: whether the samples that judge have labels."""

    facts: ModelFacts
    weights: dict[str, Any]
    notes: list[str]
    classes: tuple[str, ...] | None
    labelled: bool = False


def load(source: Source, recipe: Recipe, work: Path) -> LoadedFacts:
    """Load the model once: save its state for the other steps, and the reference that judges them.

    Raises UsageError where the recipe's samples, labels or class names do not fit the model.
    """
    import torch

    loaded = load_model(source)
    torch.save(loaded.module.state_dict(), work / STATE)
    notes: list[str] = []
    names, count = _classes(recipe), None
    if names is not None or recipe.task == "classification":
        count = count_classes(loaded.module, recipe.inputs, recipe.dims)
    if names is not None and count not in (None, len(names)):
        raise UsageError(f"classes: {len(names)} names, but the model has {count} classes")
    samples = probes(recipe, source.folder, notes.append, count)
    facts, reference = study(loaded.module, recipe.inputs, recipe.dims, samples, recipe.outputs, recipe.task)
    reference.save(work / REFERENCE)
    labelled = any(probe.labels for probe in samples)
    return LoadedFacts(facts, loaded.weights.as_dict(), [*notes, *reference.notes], names, labelled)


def _classes(recipe: Recipe) -> tuple[str, ...] | None:
    from converters.sources.torchvision import imagenet_classes

    return imagenet_classes() if recipe.classes == "imagenet" else recipe.classes


def restore(source: Source, work: Path) -> torch.nn.Module:
    """The model exactly as the load step, or a pass, left it in a folder."""
    import torch

    from converters.passes.structure import Structure, apply

    module = build_module(source)
    apply(Structure.load(work), module)
    state = torch.load(work / STATE, map_location="cpu", weights_only=True, mmap=True)
    module.load_state_dict(state)
    return module.eval()


def export(
    source: Source | None,
    facts: ModelFacts,
    work: Path,
    folder: Path,
    format: str,
    options: Any,
    graph: Path | None,
    samples: Callable[[int], tuple[str, list[Arrays]]] | None = None,
) -> Exported:
    """Write one format into `folder`. `source` is None for exporters that start from `graph`."""
    exporter: Exporter = EXPORTERS.get(format)()
    module = restore(source, work) if source else None
    return exporter.export(Job(module, facts, folder, graph, samples), options)


def change(
    source: Source,
    recipe: Recipe,
    facts: ModelFacts,
    one: PassOptions,
    original: Path,
    before: Path,
    after: Path,
    store: Store,
) -> Changed:
    """Apply one pass to the model as `before` holds it, and leave the result in `after`."""
    from converters.passes.change import Bench
    from converters.passes.change import change as run

    teacher, module = (restore(source, folder) for folder in (original, before))
    bench = Bench(source, recipe, facts, store)
    return run(bench, one, teacher, module, after)


def refer(source: Source, recipe: Recipe, reference: Path, folder: Path) -> tuple[ModelFacts, list[str]]:
    """Study a changed model as the loaded one was: its facts, and the reference that judges its artifacts."""
    before = Reference.load(reference)
    module = restore(source, folder)
    facts, found = study(module, recipe.inputs, recipe.dims, before.probes, recipe.outputs, recipe.task)
    replace(found, original=before.eager).save(folder / REFERENCE)
    return facts, found.notes


def quantize(
    graph: Path,
    recipe: Recipe,
    folder: Path,
    options: QuantizeOptions,
    engine: Engine,
    work: Path,
    store: Store,
) -> Quantized:
    """Quantize an ONNX graph into `work`."""
    from converters.passes.quantize.run import quantize as run

    return run(graph, recipe, folder, options, engine, work, store)


@dataclass(frozen=True)
class EagerFromState:
    """Opens the eager model of a running build, in the process that times it."""

    source: Source
    facts: ModelFacts
    work: Path
    device: str
    options: SessionOptions

    def __call__(self) -> Session:
        """Restore the model and wrap it."""
        module = restore(self.source, self.work)
        facts = self.facts
        return eager_session(
            module, facts.inputs, facts.outputs, facts.dims, self.device, self.options, facts.by_keyword
        )


@dataclass(frozen=True)
class EagerFromSource:
    """Opens the eager model of a recipe, for artifacts that were built earlier."""

    source: Source
    inputs: Any
    outputs: Any
    by_keyword: bool
    device: str
    options: SessionOptions

    def __call__(self) -> Session:
        """Load the model with the first weights that can be had, and wrap it."""
        module = load_model(self.source).module
        dims = self.source.dims
        return eager_session(module, self.inputs, self.outputs, dims, self.device, self.options, self.by_keyword)
