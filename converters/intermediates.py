"""What artifacts share on their way, each made once: changed models, ONNX graphs, quantized graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from converters import steps
from converters.cache import Key, Store
from converters.exporters.base import Exported, ExporterOptions, ModelFacts
from converters.exporters.onnx import OnnxExporter, OnnxOptions
from converters.passes.options import PassOptions
from converters.passes.order import on_the_model
from converters.passes.quantize.run import Engine, Quantized
from converters.recipe import Artifact, Plan
from converters.sources.load import Source
from runtimes.errors import BurnishError
from runtimes.machine import cache_folder
from runtimes.validator.reference import FILE as REFERENCE
from runtimes.validator.validate import Progress

Made = TypeVar("Made")


@dataclass(frozen=True)
class Model:
    """An eager model that exporters start from.

    Attributes:
        folder: holds its state, and what passes changed of its structure.
        facts: what is known of it.
        key: of the passes that changed it; empty for the model as it was loaded.
        passes: what each of them did.
        notes: what a reader must know of that.
    """

    folder: Path
    facts: ModelFacts
    key: str = ""
    passes: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def reference(self) -> Path | None:
        """The reference of a changed model."""
        return self.folder / REFERENCE if self.key else None


@dataclass
class Intermediates:
    """One build's.

    Attributes:
        plan, source: the recipe and its model.
        work: scratch folder of the build, which holds the state of the loaded model.
        reference: file of the loaded model's reference.
        facts: of the loaded model.
        run: runs a step in a process of its own: its name, a function, its arguments.
        progress: told what is being done.
    """

    plan: Plan
    source: Source
    work: Path
    reference: Path
    facts: ModelFacts
    run: Callable[..., Any]
    progress: Progress
    _made: dict[str, Any] = field(default_factory=dict)

    def _once(self, key: str, make: Callable[[], Made]) -> Made:
        """What `make` makes, once; its error again each time that it is asked for."""
        if key not in self._made:
            try:
                self._made[key] = make()
            except BurnishError as error:
                self._made[key] = error
        found = self._made[key]
        if isinstance(found, BurnishError):
            raise found
        return found  # type: ignore[no-any-return]

    def model(self, options: ExporterOptions) -> Model:
        """The model after the passes that change it."""
        passes = on_the_model(options.passes)
        if not passes:
            return Model(self.work, self.facts)
        last = self._after(tuple(passes))
        return self._once(f"reference {last.key}", lambda: self._studied(last))

    def _after(self, passes: tuple[PassOptions, ...]) -> Model:
        """The model after some passes: what artifacts have in common is done once."""
        if not passes:
            return Model(self.work, self.facts)
        key = Key()
        for one in passes:
            key.add("pass", one.model_dump_json())
        name = key.hex()[:12]
        return self._once(f"model {name}", lambda: self._changed(self._after(passes[:-1]), passes[-1], name))

    def _changed(self, before: Model, one: PassOptions, key: str) -> Model:
        self.progress(f"{one.name} the model")
        folder = self.work / "models" / key
        folder.parent.mkdir(exist_ok=True)
        # Named here: a child process that the fork server starts has the environment of that server.
        store = Store(cache_folder() / "models")
        args = (self.source, self.plan.recipe, before.facts, one, self.work, before.folder, folder, store)
        found = self.run(f"{one.name}-{key}", steps.change, *args)
        return Model(folder, before.facts, key, [*before.passes, found.report], [*before.notes, *found.notes])

    def _studied(self, model: Model) -> Model:
        args = (self.source, self.plan.recipe, self.reference, model.folder)
        facts, notes = self.run(f"study-{model.key}", steps.refer, *args)
        return Model(model.folder, facts, model.key, model.passes, [*model.notes, *notes])

    def graph(self, options: OnnxOptions, model: Model) -> Path:
        """The ONNX graph of these options: an artifact's, where the recipe asks for the same, or one made now."""
        key = _key(options, model)
        try:
            return self._once(key, lambda: self._exported(options, model, key))
        except BurnishError as error:
            raise BurnishError(
                f"the ONNX graph that this artifact starts from could not be made: {error}"
            ) from error

    def _exported(self, options: OnnxOptions, model: Model, key: str) -> Path:
        folder = self.work / "graphs" / key.replace(" ", "-")
        folder.mkdir(parents=True)
        self.progress(f"exporting an ONNX graph of opset {options.opset}")
        args = (model.facts, model.folder, folder, OnnxExporter.format, options, None)
        exported: Exported = self.run(folder.name, steps.export, self.source, *args)
        return folder / exported.entry

    def graph_made(self, options: OnnxOptions, model: Model, path: Path) -> None:
        """Remember an artifact's graph: others may start from it."""
        self._made[_key(options, model)] = path

    def quantized(self, artifact: Artifact, graph: Path) -> Quantized:
        """The graph quantized as the artifact asks; one calibration serves all that ask for the same."""
        options = artifact.options.quantize
        assert options is not None  # asked only then
        engine = Engine(artifact.exporter.format, artifact.options.float_precision)
        # A budget is held in an engine, and each finds the calibration in the store; else the graph is one for all.
        key = f"{graph} {options.model_dump_json()} {engine if options.max_drop else ''}"

        def make() -> Quantized:
            folder = self.work / "quantized" / str(len(self._made))
            folder.mkdir(parents=True)
            self.progress(f"quantizing for {artifact.name}")
            store = Store(cache_folder() / "calibration")
            args = (graph, self.plan.recipe, self.plan.folder, options, engine, folder, store)
            return self.run(f"{artifact.name}-quantize", steps.quantize, *args)  # type: ignore[no-any-return]

        return self._once(key, make)


def _key(options: OnnxOptions, model: Model) -> str:
    """What makes two ONNX graphs the same."""
    return f"graph {options.exporter} opset{options.opset} {model.key}".strip()
