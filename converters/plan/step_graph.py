"""The graph of a recipe's steps. Artifacts share the steps that they have in common."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from converters.digest import Key
from converters.exporters.job import Exported
from converters.exporters.onnx.onnx import OnnxExporter, OnnxOptions
from converters.passes.change import Changed
from converters.passes.quantize.run import Engine, Quantized
from converters.plan.plan import ArtifactPlan, Plan
from converters.plan.work import LOAD, Change, Export, Load, LoadedFacts, Quantize, Studied, Study
from converters.recipe.artifact import ExporterOptions
from converters.recipe.order import model_passes
from converters.recipe.passes import PassOptions
from converters.recipe.schema import Recipe
from converters.sources.load import Source
from converters.steps.step import Step
from converters.steps.store import Store
from runtimes.machine.machine import cache_folder

_MODEL = ("model", "args", "weights")
_MODULE = ("model", "args")
_SHAPES = ("inputs", "outputs", "dims", "task", "seed")
_SAMPLES = ("data", "preprocess", "classes")
_PROBES = ("probes", "state")
_ACTIVITIES = {"prune": "pruning", "recover": "recovering"}


@dataclass(frozen=True)
class ModelSteps:
    """Origin of the model that an artifact is exported from.

    Attributes:
        state: the step that wrote its state.
        facts: the step that has its inputs and outputs, and wrote its reference.
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
    """All steps of a build by name; each comes after those that it needs."""

    plan: Plan
    source: Source
    by_name: dict[str, Step] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)
    _shared: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, source: Source) -> StepGraph:
        """Return the steps of every artifact of a plan."""
        graph = cls(plan, source)
        parameters = {
            **_recipe_parameters(plan.recipe, _MODEL, _SHAPES, _SAMPLES, _PROBES),
            **_hub_parameters(plan.recipe),
        }
        load = Load(source, plan.recipe)
        description = f"loading {plan.recipe.model}"
        graph._add(Step(LOAD, description, load, LoadedFacts, parameters, machine=True))
        for artifact in _graphs_first(plan.artifacts):
            graph.chain(artifact)
        return graph

    def _add(self, step: Step) -> str:
        self.by_name[step.name] = step
        return step.name

    def chain(self, artifact: ArtifactPlan) -> Chain:
        """Return the steps of an artifact, after adding those that are new."""
        options = artifact.options
        model = self._model(artifact.name, tuple(model_passes(options.passes)))
        graph_options = artifact.exporter.graph_options(options)
        graph = quantize = None
        if graph_options is not None:
            graph = self._graph(artifact.name, OnnxOptions(format="onnx", **graph_options), model)
            quantize = self._quantize(artifact, graph, model.facts) if options.quantize else None
        name = self._export(artifact, model, graph, quantize)
        if graph is None and isinstance(options, OnnxOptions):  # other artifacts may start from it
            self._shared.setdefault(_graph_key(options, model), name)
        self.chains[artifact.name] = Chain(model, quantize, name)
        return self.chains[artifact.name]

    def _export(
        self, artifact: ArtifactPlan, model: ModelSteps, graph: str | None, quantize: str | None
    ) -> str:
        """Add the step that writes an artifact's files: from a graph, or from the model's state."""
        options, exporter, recipe = artifact.options, artifact.exporter, self.plan.recipe
        start = quantize or graph
        state = None if start else model.state
        parameters = {"format": exporter.format, "options": _exporter_parameters(options)}
        # Only a cast and an exporter's own quantization look at samples: a recipe's keys that are
        # not read must not change the step's key.
        quantizes = options.quantize and graph is None
        samples = _SAMPLES if quantizes or options.float_precision != "fp32" else ()
        parameters |= _recipe_parameters(recipe, _SHAPES, samples)
        if state:
            parameters |= _recipe_parameters(recipe, _MODULE)
        action = Export(self.source, recipe, exporter.format, options, state, model.facts, start)
        return self._add(
            Step(
                self._free_name(artifact.name),
                f"exporting {artifact.name}",
                action,
                Exported,
                parameters,
                _unique(state, model.facts, start),
                exporter.depends_on_machine(options),
            )
        )

    def _free_name(self, name: str, kind: str = "artifact") -> str:
        while name in self.by_name:
            name = f"{name}-{kind}"
        return name

    def _model(self, artifact: str, passes: tuple[PassOptions, ...]) -> ModelSteps:
        """Add the steps of the passes that change the model, and of the study of their result.

        `artifact`: the first that needs them, for their descriptions.
        """
        if not passes:
            return ModelSteps()
        names = []
        for count in range(1, len(passes) + 1):
            names.append(self._change(artifact, passes[:count]))
        key = _passes_key(passes)
        study = Step(
            f"study-{key}",
            f"studying the model for {artifact}",
            Study(self.source, self.plan.recipe, names[-1]),
            Studied,
            _recipe_parameters(self.plan.recipe, _MODULE, _SHAPES),
            (LOAD, names[-1]),
            machine=True,
        )
        return ModelSteps(names[-1], self._add(study), tuple(names), key)

    def _change(self, artifact: str, passes: tuple[PassOptions, ...]) -> str:
        """Add the step of the last of these passes; artifacts that begin with them share it."""
        options = passes[-1]
        before = LOAD if len(passes) == 1 else self._change(artifact, passes[:-1])
        name = f"{options.name}-{_passes_key(passes)}"
        if name in self.by_name:
            return name
        recipe = self.plan.recipe
        uses_samples = options.recover or (options.prune and options.prune.importance == "taylor")
        samples = _SAMPLES if uses_samples else ()
        step = Step(
            name,
            f"{_ACTIVITIES[options.name]} the model for {artifact}",
            Change(self.source, recipe, options, before, cache_folder() / "recover"),
            Changed,
            {
                "pass": options.model_dump(mode="json"),
                **_recipe_parameters(recipe, _MODULE, _SHAPES, samples),
            },
            _unique(LOAD, before),
            machine=True,
            alone=True,  # training is limited in time, and a measurement of layers needs all cores
        )
        return self._add(step)

    def _graph(self, artifact: str, options: OnnxOptions, model: ModelSteps) -> str:
        """Return the step that exports an ONNX graph with these options, possibly an artifact's."""
        key = _graph_key(options, model)
        if key not in self._shared:
            recipe = self.plan.recipe
            step = Step(
                self._free_name(key.replace(" ", "-"), "step"),
                f"exporting an ONNX graph for {artifact}",
                Export(self.source, recipe, OnnxExporter.format, options, model.state, model.facts),
                Exported,
                {
                    "format": "onnx",
                    "options": _exporter_parameters(options),
                    **_recipe_parameters(recipe, _MODULE, _SHAPES),
                },
                _unique(model.state, model.facts),
            )
            self._shared[key] = self._add(step)
        return self._shared[key]

    def _quantize(self, artifact: ArtifactPlan, graph: str, facts: str) -> str:
        """Return the step that quantizes a graph; artifacts with the same options share it."""
        options, recipe = artifact.options.quantize, self.plan.recipe
        assert options is not None  # only called with a quantization
        engine = Engine(artifact.exporter.format, artifact.options.float_precision)
        # An accuracy budget is measured in an engine, so each engine has a graph of its own, and
        # finds the calibration in the store. Without a budget the graph is one for all.
        budget_engine = engine if options.max_drop else None
        metric = ("metric",) if options.max_drop and options.metric == "user" else ()
        key = f"{graph} {options.model_dump_json()} {budget_engine}"
        if key not in self._shared:
            store = Store(cache_folder() / "calibration")
            step = Step(
                self._free_name(f"{artifact.name}-quantize", "step"),
                f"quantizing for {artifact.name}",
                Quantize(recipe, self.plan.folder, options, engine, graph, facts, store),
                Quantized,
                {
                    "quantize": options.model_dump(mode="json"),
                    "engine": str(budget_engine),
                    **_recipe_parameters(recipe, _SHAPES, _SAMPLES, metric),
                },
                _unique(graph, facts),
                machine=True,
                alone=options.max_drop is not None,
            )
            self._shared[key] = self._add(step)
        return self._shared[key]


def _graphs_first(artifacts: tuple[ArtifactPlan, ...]) -> list[ArtifactPlan]:
    """Sort plain ONNX artifacts before those that may start from their graphs."""

    def starts_from_graph(artifact: ArtifactPlan) -> bool:
        options = artifact.options
        is_onnx = isinstance(options, OnnxOptions)
        return not is_onnx or artifact.exporter.graph_options(options) is not None

    return sorted(artifacts, key=starts_from_graph)


def _unique(*names: str | None) -> tuple[str, ...]:
    """Return the names in order, each once."""
    return tuple(dict.fromkeys(filter(None, names)))


def _graph_key(options: OnnxOptions, model: ModelSteps) -> str:
    """Return the key under which two ONNX graphs are the same."""
    return f"graph {options.exporter} opset{options.opset} {model.key}".strip()


def _passes_key(passes: tuple[PassOptions, ...]) -> str:
    key = Key()
    for options in passes:
        key.add("pass", options.model_dump_json())
    return key.hex()[:12]


def _exporter_parameters(options: ExporterOptions) -> dict[str, Any]:
    """Return an exporter's options with defaults written out; gates change no file."""
    return options.model_dump(mode="json", exclude={"gates"})


def _hub_parameters(recipe: Recipe) -> dict[str, str]:
    """Return the folder of torchvision's weights, if it is used and not the usual one."""
    home = os.environ.get("TORCH_HOME")
    is_torchvision = recipe.model.startswith("torchvision:")
    if home and is_torchvision and "DEFAULT" in (recipe.weights or ("DEFAULT",)):
        return {"TORCH_HOME": home}
    return {}


def _recipe_parameters(recipe: Recipe, *groups: tuple[str, ...]) -> dict[str, Any]:
    """Return the values of these keys of the recipe, with defaults written out."""
    return recipe.model_dump(mode="json", include=set(chain.from_iterable(groups)))
