"""The pass `quantize` on a graph: choose the layers, calibrate, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.data.calibration import CalibrationSamples
from converters.data.metric import found_here
from converters.data.uses import evaluation_samples
from converters.errors import ExportError
from converters.graph.flow.weights import with_own_weights
from converters.graph.names import module_path
from converters.graph.qdq import COMPUTE, constant, float_products, layers
from converters.passes.quantize.budgets.budget import Budget, hold_budget
from converters.passes.quantize.budgets.judge import Judge, UserJudge
from converters.passes.quantize.calibrate import CalibrationRequest, calibrate
from converters.passes.quantize.loose import quantize_loose
from converters.passes.quantize.possible import check_possible
from converters.passes.quantize.trial import trial
from converters.recipe.quantize import QuantizeOptions
from converters.recipe.schema import Recipe
from converters.steps.store import Store
from runtimes.errors import UsageError
from runtimes.registry import nearest
from runtimes.spec import Arrays
from runtimes.validator.probes import synthetic_samples

if TYPE_CHECKING:
    import onnx_ir as ir

GRAPH_FILE = "quantized.onnx"
_LOOSE = (*COMPUTE, "LSTM", "GRU", "RNN", "Gather")
_NOISE = 64  # synthetic samples for an accuracy budget if there is no data


@dataclass(frozen=True)
class Engine:
    """The target of a quantized graph: a format, and the precision of its float layers."""

    format: str
    precision: str


@dataclass(frozen=True)
class Quantized:
    """A quantized graph, its entry in the manifest, and notes for the report.

    `lasting`: notes on the graph before, which hold for each artifact made from it.
    """

    graph: Path
    report: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    lasting: list[str] = field(default_factory=list)

    @property
    def kept_layers(self) -> list[str]:
        """The layers that stay float: excluded, kept by the budget, or left by the quantizer."""
        report = self.report
        kept_by_budget = report.get("budget", {}).get("kept", [])
        return [*report["excluded"], *kept_by_budget, *report.get("left_float", [])]


def quantize(
    graph: Path,
    recipe: Recipe,
    folder: Path,
    options: QuantizeOptions,
    engine: Engine,
    work: Path,
    store: Store,
    outputs: Sequence[str] = (),
) -> Quantized:
    """Quantize an ONNX file.

    Args:
        graph: in float32.
        recipe: for the calibration data.
        folder: of the recipe.
        options: of the pass.
        engine: the target of the graph; an accuracy budget is held there.
        work: folder for the new graph.
        store: of calibrations.
        outputs: their names, in the graph's order, for a budget of the recipe's own metric.

    Raises:
        UsageError: the recipe has no samples for it, or names layers that do not exist.
        ExportError: nothing in the graph can be quantized, or the quantizer failed.
    """
    import onnx_ir as ir

    graph = with_own_weights(graph, work)
    check_possible(graph, options, engine.format, recipe.dims)
    model = ir.load(str(graph))
    exclude = _excluded(model, options.exclude)
    target = work / GRAPH_FILE
    report: dict[str, Any] = {
        "quantizer": options.quantizer,
        "options": options.model_dump(mode="json", exclude_defaults=True),
        "excluded": sorted(exclude),
    }
    if options.mode != "static":
        return Quantized(target, report | _quantize_loosely(graph, options, exclude, target))
    samples = CalibrationSamples(recipe, folder, options.samples)
    request = CalibrationRequest(graph, model, options, exclude)
    calibration = calibrate(request, samples, target, store)
    report |= calibration.report
    notes = calibration.notes
    quantized = ir.load(str(target))
    if options.max_drop is not None:
        judge = _judge(model, recipe, folder)
        if options.metric == "user":
            judge = _with_metric(judge, model, recipe, folder, outputs)
        budget = hold_budget(quantized, model, engine.format, engine.precision, options, judge)
        ir.save(quantized, str(target))
        report["budget"] = budget.report()
        notes += _budget_notes(budget, options, judge, recipe)
    return Quantized(target, report | _counts(quantized), notes)


def _quantize_loosely(
    graph: Path, options: QuantizeOptions, exclude: set[str], target: Path
) -> dict[str, Any]:
    """Quantize weights without calibration; return what the report says of it."""
    import onnx_ir as ir

    quantize_loose(graph, options, exclude, target)
    if options.mode != "weight-only":
        return {}
    # Products of two computed values have no weights to quantize.
    return {"left_float": float_products(ir.load(str(target)))}


def _counts(quantized: ir.Model) -> dict[str, Any]:
    """Count the layers, and those in integers; name the products that are left in float."""
    flags = [layer.quantized for layer in layers(quantized)]
    return {
        "layers": len(flags),
        "quantized_layers": sum(flags),
        "left_float": float_products(quantized),
    }


def _judge(model: ir.Model, recipe: Recipe, folder: Path) -> Judge:
    """Return samples to hold a budget on: the recipe's evaluation data, or noise if it has none."""
    labels: list[int | None] = []
    inputs: list[Arrays] = []
    if recipe.data.evaluation is not None:
        for sample in evaluation_samples(recipe, folder):
            inputs.append({name: array[None] for name, array in sample.inputs.items()})
            labels.append(sample.label)
    else:
        for probe in synthetic_samples(recipe.inputs, recipe.dims, recipe.seed, _NOISE):
            inputs.append({name: array[:1] for name, array in probe.inputs.items()})
            labels.append(None)
    exact = trial("onnx", model, "fp32")
    return Judge(inputs, labels, [exact.run(arrays)[0] for arrays in inputs])


def _with_metric(
    judge: Judge, model: ir.Model, recipe: Recipe, folder: Path, outputs: Sequence[str]
) -> Judge:
    """Return a judge by the recipe's own metric. The step's process may run the user's code."""
    metric = found_here(recipe, folder)
    assert metric is not None  # the plan has checked it
    exact = trial("onnx", model, "fp32")
    user = UserJudge.of(metric, outputs, exact, judge.inputs, judge.labels)
    return replace(judge, user=user)


def _budget_notes(
    budget: Budget, options: QuantizeOptions, judge: Judge, recipe: Recipe
) -> list[str]:
    """Return what the report says of a budget, and of what it was held on."""
    notes = [_summary(budget, options, judge)]
    if recipe.data.evaluation is None:
        notes.insert(0, "the accuracy budget was held on noise: name data.evaluation")
    return notes


def _summary(budget: Budget, options: QuantizeOptions, judge: Judge) -> str:
    """Return the result of a budget in a sentence: kept layers, loss, and what it proves."""
    chosen = next(point for point in budget.curve if point.kept == len(budget.kept))
    held = f"{len(budget.kept)} of {len(budget.sensitivity)} layers stay float"
    limit = options.max_drop or 0.0
    samples = f"on {len(judge.inputs)} samples"
    unit = "% of the output's RMS" if options.metric == "sqnr" else " points"
    drop = f"{options.metric} drops by {chosen.drop:.2f} of {limit:g}{unit} {samples}"
    if judge.user is not None:
        drop = f"{judge.user.metric.name} is worse by {chosen.drop:.3g} of {limit:g} {samples}"
    if not budget.met:
        return f"{held}: {drop}: the budget cannot be held"
    if budget.proven:
        return f"{held}: {drop}"
    least = judge.least_provable(options.metric)
    why = f"its interval reaches {chosen.high:.2f} points"
    if least > limit:
        why = f"so many samples prove no less than {least:.2f} points, whatever stays float"
    return f"{held}: {drop}; that is not proven, as {why}: name more samples in data.evaluation"


def _excluded(model: ir.Model, patterns: Sequence[str]) -> set[str]:
    """Return the names of the nodes that the patterns match, by module path or node name.

    Raises UsageError if a pattern matches none.
    """
    paths = {}
    for node in model.graph:
        if node.op_type in _LOOSE and any(constant(value) is not None for value in node.inputs):
            paths[str(node.name)] = module_path(node.metadata_props) or str(node.name)
    if not paths:
        raise ExportError(
            "the graph has no convolution, matrix product or recurrent layer to quantize"
        )
    excluded = set()
    for pattern in patterns:
        matches = {
            name for name, path in paths.items() if fnmatchcase(path, pattern) or name == pattern
        }
        if not matches:
            hint = nearest(pattern, list(paths.values()))
            raise UsageError(f"passes.quantize.exclude: no layer is named {pattern!r}{hint}")
        excluded |= matches
    return excluded
