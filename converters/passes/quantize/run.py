"""The step that quantizes a graph: choose the layers, calibrate, say what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.data.calibration import CalibrationSamples
from converters.data.uses import evaluation_samples
from converters.errors import ExportError
from converters.graph.names import module_path
from converters.graph.qdq import COMPUTE, constant, float_products, layers
from converters.passes.quantize.budget import Budget, Judge, hold_budget
from converters.passes.quantize.calibrate import CalibrationRequest, calibrate
from converters.passes.quantize.loose import quantize_loose
from converters.passes.quantize.trial import trial
from converters.recipe.quantize import QuantizeOptions
from converters.recipe.schema import Recipe
from converters.steps.store import Store
from runtimes.errors import UsageError
from runtimes.registry import nearest
from runtimes.validator.probes import synthetic_samples

if TYPE_CHECKING:
    import onnx_ir as ir

GRAPH_FILE = "quantized.onnx"
_LOOSE = (*COMPUTE, "LSTM", "GRU", "RNN", "Gather")


_NOISE = 64  # synthetic samples that a budget is held on where there is no data


@dataclass(frozen=True)
class Engine:
    """What a quantized graph is for: a format, and what its float layers compute in."""

    format: str
    precision: str


@dataclass(frozen=True)
class Quantized:
    """A quantized graph, what was done to it, and what a reader should know."""

    graph: Path
    report: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def kept_layers(self) -> list[str]:
        """The layers that stay float: by the recipe's word, for its budget, or by the quantizer's choice."""
        report = self.report
        return [*report["excluded"], *report.get("budget", {}).get("kept", []), *report.get("left_float", [])]


def quantize(
    graph: Path,
    recipe: Recipe,
    folder: Path,
    options: QuantizeOptions,
    engine: Engine,
    work: Path,
    store: Store,
) -> Quantized:
    """Quantize an ONNX file.

    Args:
        graph: in float32.
        recipe: for the calibration data.
        folder: the recipe's own.
        options: of the pass.
        engine: what the graph is for; an accuracy budget is held there.
        work: where the new graph goes.
        store: of calibrations.

    Raises:
        UsageError: the recipe has no samples for it, or names layers that are not there.
        ExportError: nothing in the graph can be quantized, or the quantizer failed.
    """
    import onnx_ir as ir

    model = ir.load(str(graph))
    exclude = _excluded(model, options.exclude)
    target, notes = work / GRAPH_FILE, list[str]()
    report: dict[str, Any] = {
        "quantizer": options.quantizer,
        "options": options.model_dump(mode="json", exclude_defaults=True),
        "excluded": sorted(exclude),
    }
    if options.mode != "static":
        quantize_loose(graph, options, exclude, target)
        if options.mode == "weight-only":  # products of two computed values have no weights to quantize
            report["left_float"] = float_products(ir.load(str(target)))
    else:
        samples = CalibrationSamples(recipe, folder, options.samples, notes)
        report |= calibrate(CalibrationRequest(graph, model, options, exclude), samples, target, store)
        quantized = ir.load(str(target))
        if options.max_drop is not None:
            judge = _judge(model, recipe, folder, notes)
            budget = hold_budget(quantized, model, engine.format, engine.precision, options, judge)
            ir.save(quantized, str(target))
            report["budget"] = budget.report()
            notes.append(_words(budget, options, len(judge.inputs)))
        done = [layer.quantized for layer in layers(quantized)]
        report |= {"layers": len(done), "quantized_layers": sum(done), "left_float": float_products(quantized)}
    return Quantized(target, report, notes)


def _judge(model: ir.Model, recipe: Recipe, folder: Path, notes: list[str]) -> Judge:
    """Samples to hold a budget on: the recipe's evaluation data, else noise, which is said."""
    if recipe.data.evaluation is not None:
        samples = evaluation_samples(recipe, folder)
        found = [({name: array[None] for name, array in one.inputs.items()}, one.label) for one in samples]
    else:
        notes.append("the accuracy budget was held on noise: name data.evaluation")
        drawn = synthetic_samples(recipe.inputs, recipe.dims, recipe.seed, _NOISE)
        found = [({name: array[:1] for name, array in one.inputs.items()}, None) for one in drawn]
    exact = trial("onnx", model, "fp32")
    inputs = [one for one, _ in found]
    return Judge(inputs, [label for _, label in found], [exact.run(one)[0] for one in inputs])


def _words(budget: Budget, options: QuantizeOptions, samples: int) -> str:
    chosen = next(point for point in budget.curve if point.kept == len(budget.kept))
    held = f"{len(budget.kept)} of {len(budget.sensitivity)} layers stay float"
    ends = "" if budget.met else ": the budget cannot be held"
    return f"{held}: {options.metric} drops by {chosen.drop:.2f} of {options.max_drop:g} on {samples} samples{ends}"


def _excluded(model: ir.Model, patterns: Sequence[str]) -> set[str]:
    """The names of the nodes that the patterns mean, by module path or node name. Raises where one matches none."""
    known = {
        str(node.name): module_path(node.metadata_props) or str(node.name)
        for node in model.graph
        if node.op_type in _LOOSE and any(constant(value) is not None for value in node.inputs)
    }
    if not known:
        raise ExportError("the graph has no convolution, matrix product or recurrent layer to quantize")
    excluded = set()
    for pattern in patterns:
        found = {name for name, path in known.items() if fnmatchcase(path, pattern) or name == pattern}
        if not found:
            hint = nearest(pattern, list(known.values()))
            raise UsageError(f"passes.quantize.exclude: no layer is named {pattern!r}{hint}")
        excluded |= found
    return excluded
