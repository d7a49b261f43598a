"""From a recipe to steps, and what each one needs. What two artifacts have in common is one step."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from converters.digest import Key
from converters.exporters.job import Exported
from converters.exporters.onnx.onnx import OnnxExporter, OnnxOptions
from converters.passes.change import Changed
from converters.passes.quantize.run import Engine, Quantized
from converters.plan.plan import ArtifactPlan, Plan
from converters.plan.work import LOAD, Change, Export, Load, LoadedFacts, Quantize, Studied, Study
from converters.recipe.artifact import ExporterOptions
from converters.recipe.order import on_the_model
from converters.recipe.passes import PassOptions
from converters.recipe.schema import Recipe
from converters.sources.load import Source
from converters.steps.step import Step
from converters.steps.store import Store
from runtimes.machine.machine import cache_folder

_MODEL = ("model", "args", "weights")
_SHAPES = ("inputs", "outputs", "dims", "task", "seed")
_SAMPLES = ("data", "preprocess", "classes")


@dataclass(frozen=True)
class ModelSteps:
    """Where the model that an artifact is exported from comes from.

    Attributes:
        state: the step that left it.
        facts: the step that knows its inputs and outputs, and wrote its reference.
        passes: the steps that changed it.
        key: of the passes; empty for the model as it was loaded.
    """

    state: str = LOAD
    facts: str = LOAD
    passes: tuple[str, ...] = ()
    key: str = ""


@dataclass(frozen=True)
class Chain:
    """The steps of one artifact: its model, the quantization of its graph, its export."""

    model: ModelSteps
    quantize: str | None
    export: str


@dataclass
class StepGraph:
    """All steps of a build by name; each stands behind those that it needs."""

    plan: Plan
    source: Source
    by_name: dict[str, Step] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)
    _same: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, source: Source) -> StepGraph:
        """Those of every artifact."""
        steps = cls(plan, source)
        asked = {**_asked(plan.recipe, _MODEL, _SHAPES, _SAMPLES), **_hub(plan.recipe)}
        work = Load(source, plan.recipe)
        steps._add(Step(LOAD, f"loading {plan.recipe.model}", work, LoadedFacts, asked, machine=True))
        for artifact in _graphs_first(plan.artifacts):
            steps.chain(artifact)
        return steps

    def _add(self, step: Step) -> str:
        self.by_name[step.name] = step
        return step.name

    def chain(self, artifact: ArtifactPlan) -> Chain:
        """The steps of an artifact, added where they are new."""
        options, exporter, recipe = artifact.options, artifact.exporter, self.plan.recipe
        model = self._model(tuple(on_the_model(options.passes)))
        graph_options = exporter.graph_options(options)
        graph = quantize = None
        if graph_options is not None:
            graph = self._graph(OnnxOptions(format="onnx", **graph_options), model)
            quantize = self._quantize(artifact, graph) if options.quantize else None
        start = quantize or graph
        state = None if start else model.state
        work = Export(self.source, recipe, exporter.format, options, state, model.facts, start)
        # Only a cast and an exporter's own quantization look at samples: what is not read changes no key.
        own = options.quantize and graph is None
        samples = _SAMPLES if own or options.float_precision != "fp32" else ()
        asked = {"format": exporter.format, "options": _options(options), **_asked(recipe, _SHAPES, samples)}
        if state:
            asked |= _asked(recipe, ("model", "args"))
        needs = tuple(dict.fromkeys(one for one in (state, model.facts, start) if one))
        name = self._free(artifact.name)
        self._add(Step(name, f"exporting {artifact.name}", work, Exported, asked, needs,
                       exporter.depends_on_machine(options)))  # fmt: skip
        if graph is None and isinstance(options, OnnxOptions):  # others may start from it
            self._same.setdefault(_graph_key(options, model), name)
        self.chains[artifact.name] = Chain(model, quantize, name)
        return self.chains[artifact.name]

    def _free(self, name: str, kind: str = "artifact") -> str:
        while name in self.by_name:
            name = f"{name}-{kind}"
        return name

    def _model(self, passes: tuple[PassOptions, ...]) -> ModelSteps:
        if not passes:
            return ModelSteps()
        names = [self._change(passes[: count + 1]) for count in range(len(passes))]
        key = _key(passes)
        work, asked = Study(self.source, self.plan.recipe, names[-1]), _asked(self.plan.recipe, _MODEL[:2], _SHAPES)
        needs = (LOAD, names[-1])
        study = Step(f"study-{key}", "studying the changed model", work, Studied, asked, needs, machine=True)
        return ModelSteps(names[-1], self._add(study), tuple(names), key)

    def _change(self, passes: tuple[PassOptions, ...]) -> str:
        """The last of these passes: artifacts that begin with the same ones share them."""
        one, before = passes[-1], LOAD if len(passes) == 1 else self._change(passes[:-1])
        name = f"{one.name}-{_key(passes)}"
        if name not in self.by_name:
            recipe = self.plan.recipe
            work = Change(self.source, recipe, one, before, cache_folder() / "recover")
            learns = one.recover or (one.prune and one.prune.importance == "taylor")
            samples = _SAMPLES if learns else ()
            asked = {"pass": one.model_dump(mode="json"), **_asked(recipe, _MODEL[:2], _SHAPES, samples)}
            needs = tuple(dict.fromkeys((LOAD, before)))
            # A lesson of some minutes shares them with nobody; nor does what measures layers.
            self._add(Step(name, f"{one.name} the model", work, Changed, asked, needs, machine=True, alone=True))
        return name

    def _graph(self, options: OnnxOptions, model: ModelSteps) -> str:
        """The ONNX graph of these options: an artifact's, where the recipe asks for the same, or one of its own."""
        key = _graph_key(options, model)
        if key not in self._same:
            name = self._free(key.replace(" ", "-"), "step")
            work = Export(self.source, self.plan.recipe, OnnxExporter.format, options, model.state, model.facts)
            recipe = _asked(self.plan.recipe, ("model", "args"), _SHAPES)
            asked = {"format": "onnx", "options": _options(options), **recipe}
            needs = tuple(dict.fromkeys((model.state, model.facts)))
            what = f"exporting an ONNX graph of opset {options.opset}"
            self._same[key] = self._add(Step(name, what, work, Exported, asked, needs))
        return self._same[key]

    def _quantize(self, artifact: ArtifactPlan, graph: str) -> str:
        """The graph quantized as the artifact asks; one calibration serves all that ask for the same."""
        options, recipe = artifact.options.quantize, self.plan.recipe
        assert options is not None  # asked only then
        engine = Engine(artifact.exporter.format, artifact.options.float_precision)
        # A budget is held in an engine, and each finds the calibration in the store; else the graph is one for all.
        held = engine if options.max_drop else None
        key = f"{graph} {options.model_dump_json()} {held}"
        if key not in self._same:
            store = Store(cache_folder() / "calibration")
            work = Quantize(recipe, self.plan.folder, options, engine, graph, store)
            asked = {"quantize": options.model_dump(mode="json"), "engine": str(held),
                     **_asked(recipe, _SHAPES, _SAMPLES)}  # fmt: skip
            name, what = self._free(f"{artifact.name}-quantize", "step"), f"quantizing for {artifact.name}"
            self._same[key] = self._add(Step(name, what, work, Quantized, asked, (graph,), machine=True,
                                             alone=options.max_drop is not None))  # fmt: skip
        return self._same[key]


def _graphs_first(artifacts: tuple[ArtifactPlan, ...]) -> list[ArtifactPlan]:
    """Plain ONNX artifacts before those that may start from their graphs."""

    def later(one: ArtifactPlan) -> bool:
        return not isinstance(one.options, OnnxOptions) or one.exporter.graph_options(one.options) is not None

    return sorted(artifacts, key=later)


def _graph_key(options: OnnxOptions, model: ModelSteps) -> str:
    """What makes two ONNX graphs the same."""
    return f"graph {options.exporter} opset{options.opset} {model.key}".strip()


def _key(passes: tuple[PassOptions, ...]) -> str:
    key = Key()
    for one in passes:
        key.add("pass", one.model_dump_json())
    return key.hex()[:12]


def _options(options: ExporterOptions) -> dict[str, Any]:
    """What an exporter is asked, with defaults written out; gates judge, and change no file."""
    return options.model_dump(mode="json", exclude={"gates"})


def _hub(recipe: Recipe) -> dict[str, str]:
    """Where torchvision's weights are looked for, if not in the usual place."""
    home = os.environ.get("TORCH_HOME")
    asks = recipe.model.startswith("torchvision:") and "DEFAULT" in (recipe.weights or ("DEFAULT",))
    return {"TORCH_HOME": home} if home and asks else {}


def _asked(recipe: Recipe, *names: tuple[str, ...]) -> dict[str, Any]:
    """These keys of the recipe, with defaults written out."""
    return recipe.model_dump(mode="json", include={one for group in names for one in group})
