"""The step that quantizes a graph: choose the layers, calibrate, say what was done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.data import CALIBRATION, calibration_batches, evaluation_samples
from converters.exporters.base import ExportError
from converters.names import module_path
from converters.passes.quantize.budget import Budget, Judge, hold_budget
from converters.passes.quantize.loose import quantize_loose
from converters.passes.quantize.options import QuantizeOptions
from converters.passes.quantize.qdq import COMPUTE, constant, float_products, layers
from converters.passes.quantize.static import Calibration, has_attention, quantize_static
from converters.passes.quantize.trial import trial
from converters.recipe import Recipe
from runtimes.errors import UsageError
from runtimes.registry import nearest
from runtimes.spec import Arrays
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
    graph: Path, recipe: Recipe, folder: Path, options: QuantizeOptions, engine: Engine, work: Path
) -> Quantized:
    """Quantize an ONNX file.

    Args:
        graph: in float32.
        recipe: for the calibration data.
        folder: the recipe's own.
        options: of the pass.
        engine: what the graph is for; an accuracy budget is held there.
        work: where the new graph goes.

    Raises:
        UsageError: the recipe has no samples for it, or names layers that are not there.
        ExportError: nothing in the graph can be quantized, or the quantizer failed.
    """
    import onnx_ir as ir

    model = ir.load(str(graph))
    exclude = _excluded(model, options.exclude)
    target, notes = work / GRAPH_FILE, list[str]()
    if options.mode == "static":
        data = Samples(recipe, folder, options.samples, notes)
        attention = has_attention(ir.to_proto(model.graph))
        quantize_static(graph, options, Calibration(data, data.count, exclude, attention), target)
    else:
        quantize_loose(graph, options, exclude, target)
    report: dict[str, Any] = {
        "quantizer": options.quantizer,
        "options": options.model_dump(mode="json", exclude_defaults=True),
        "excluded": sorted(exclude),
    }
    if options.mode == "static":
        quantized = ir.load(str(target))
        if not any(layer.quantized for layer in layers(quantized)):
            raise ExportError(f"{options.quantizer} quantized none of the graph's layers")
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


class Samples:
    """The calibration samples, read anew from their files each time they are gone through."""

    def __init__(self, recipe: Recipe, folder: Path, count: int | None, notes: list[str]) -> None:
        """What is noticed while reading is added to `notes`, once."""
        self._source, self._notes, self._told = (recipe, folder, count), notes, False
        source = recipe.data.calibration
        most = (source.samples if source else None) or CALIBRATION
        self.count = min(count, most) if count else most
        if source and source.random is not None:
            notes.append("calibrated with noise, not with data: its ranges and its accuracy are those of noise")

    def __iter__(self) -> Iterator[Arrays]:
        """Go through the samples from the start."""
        found: list[str] = []
        yield from calibration_batches(*self._source, found.append)
        if not self._told:
            self._notes += found
            self._told = True


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
