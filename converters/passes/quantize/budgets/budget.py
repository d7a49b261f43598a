"""The accuracy budget: the fewest and cheapest layers kept in float that hold it.

1. Sensitivity: the float weights of each layer alone are restored, and the error that this removes
   from the outputs is measured. That takes a run per layer, but includes the layer's error on its
   way to the output, which the error of its weights does not show: in MobileNetV2 one depthwise
   convolution of 53 layers causes a large part of the error while its weights are no worse than
   others.
2. Cost: the layer's time in float less its time in integers, by the engine's profiler.
3. Layers are restored in order of error surely removed per microsecond added, until the held-out
   samples prove the budget: the loss's 95 % interval lies within it, as the validator's gate will
   require. Samples that are too few to prove it, whatever is restored, decide by the loss itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.data.spread import spread
from converters.graph.qdq import layers
from converters.passes.quantize.budgets.judge import Judge, squared_error
from converters.passes.quantize.budgets.restore import restore
from converters.passes.quantize.trial import Trial, layer_times, trial
from converters.recipe.quantize import MIXED_SHARE, QuantizeOptions
from runtimes.progress import counted
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import onnx_ir as ir

Array = np.ndarray[Any, Any]

# Sensitivity takes as many samples as this much time allows, and at least so many.
_SENSITIVITY_SECONDS, _SENSITIVITY_SAMPLES = 10.0, 16
# The least cost of a float layer, as a share of the whole latency: a profile does not distinguish
# less from nothing, and the conversions on both sides of the layer are in no layer's time.
_LEAST_COST = 0.01


@dataclass(frozen=True)
class Sensitivity:
    """The effect of keeping a layer float.

    Attributes:
        layer: name of its node.
        error_removed: share of the output's error that this removes.
        doubt: standard error of the share. Any change of a quantized network's rounding moves its
            error by some percent up or down; most layers show no more than that.
        added_us: microseconds that this adds.
    """

    layer: str
    error_removed: float
    doubt: float
    added_us: float

    @property
    def surely_removed(self) -> float:
        """The lower end of the 95 % interval."""
        return self.error_removed - 2 * self.doubt


@dataclass(frozen=True)
class Point:
    """A step of the search.

    Attributes:
        kept: number of float layers.
        layer: the last of them.
        drop: loss, as of `Loss`; `high` is the upper end of its interval.
        milliseconds: of a run.
    """

    kept: int
    layer: str | None
    drop: float
    high: float
    milliseconds: float


@dataclass(frozen=True)
class Budget:
    """Result of a search: whether the loss is within the budget, and whether that is proven."""

    met: bool
    proven: bool
    kept: list[str]
    sensitivity: list[Sensitivity]
    curve: list[Point]

    def report(self) -> dict[str, Any]:
        """Return the entry of the manifest."""
        return asdict(self)


def hold_budget(
    quantized: ir.Model,
    original: ir.Model,
    format: str,
    precision: str,
    options: QuantizeOptions,
    judge: Judge,
) -> Budget:
    """Restore layers of `quantized` in place until `options.max_drop` holds."""
    limit = options.max_drop
    assert limit is not None
    provable = judge.least_provable(options.metric) <= limit
    ranked = _ranked(quantized, original, format, precision, judge)
    curve: list[Point] = []
    most = int(MIXED_SHARE * len(ranked))
    for count in counted(range(most + 1), "trials", limit=True):
        kept = [layer.layer for layer in ranked[:count]]
        candidate = trial(format, _restored(quantized, original, kept), precision)
        loss = judge.loss(candidate, options.metric)
        milliseconds = candidate.milliseconds(judge.inputs[0])
        last = kept[-1] if kept else None
        curve.append(Point(count, last, loss.drop, loss.high, milliseconds))
        if (loss.high if provable else loss.drop) <= limit:
            break
    chosen = choose(curve, limit)
    kept = [layer.layer for layer in ranked[: chosen.kept]]
    restore(quantized, original, kept)
    return Budget(chosen.drop <= limit, chosen.high <= limit, kept, ranked, curve)


def choose(curve: Sequence[Point], limit: float) -> Point:
    """Return the first step that proves the budget, or else is within it, or loses least."""
    proven = [point for point in curve if point.high <= limit]
    within = [point for point in curve if point.drop <= limit]
    if proven or within:
        return (proven or within)[0]
    return min(curve, key=lambda point: (point.drop, point.kept))


def _restored(quantized: ir.Model, original: ir.Model, names: Sequence[str]) -> ir.Model:
    import onnx_ir as ir

    copy = ir.from_proto(ir.to_proto(quantized))
    restore(copy, original, names)
    return copy


def _ranked(
    quantized: ir.Model, original: ir.Model, format: str, precision: str, judge: Judge
) -> list[Sensitivity]:
    """Return all quantized layers, those that surely remove most error per microsecond first."""
    whole, exact = trial(format, quantized, precision), trial("onnx", original, "fp32")
    nodes = [layer.node for layer in layers(quantized) if layer.weight is not None]
    inputs = _affordable(judge.inputs, len(nodes) * whole.milliseconds(judge.inputs[0]) / 1e3)
    truth = [exact.run(sample)[0] for sample in inputs]
    errors = _errors(whole, inputs, truth)
    fast, slow = whole.profile(inputs[0]), trial(format, original, precision).profile(inputs[0])
    before = {str(node.name): node for node in original.graph}
    costs = _costs(fast, slow, nodes, [before[str(node.name)] for node in nodes])
    sensitivities = []
    for node in counted(nodes, "layers"):
        candidate = trial(format, _restored(quantized, original, [str(node.name)]), precision)
        removed = (errors - _errors(candidate, inputs, truth)) / (errors.mean() or 1.0)
        doubt = float(removed.std() / math.sqrt(len(inputs)))
        cost = costs[str(node.name)]
        sensitivities.append(Sensitivity(str(node.name), float(removed.mean()), doubt, cost))
    least = _LEAST_COST * sum(fast.values())

    def gain(layer: Sensitivity) -> float:
        return layer.surely_removed / max(layer.added_us, least)

    return sorted(sensitivities, key=gain, reverse=True)


def _affordable(inputs: Sequence[Arrays], seconds: float) -> Sequence[Arrays]:
    """Return as many samples, spread over all, as their time allows; `seconds` is that of each."""
    count = int(np.clip(_SENSITIVITY_SECONDS / seconds, _SENSITIVITY_SAMPLES, len(inputs)))
    return spread(inputs, count)


def _errors(candidate: Trial, inputs: Sequence[Arrays], truth: Sequence[Array]) -> Array:
    """Return the energy of the error of each sample."""
    errors = []
    for sample, exact in zip(inputs, truth, strict=True):
        errors.append(squared_error([candidate.run(sample)[0]], [exact]))
    return np.array(errors)


def _costs(
    fast: dict[str, float], slow: dict[str, float], nodes: list[ir.Node], before: list[ir.Node]
) -> dict[str, float]:
    """Return the microseconds that each layer adds in float; the mean if no profile names it."""
    integer_times, float_times = layer_times(fast, nodes), layer_times(slow, before)
    costs = {}
    for name, integer_time in integer_times.items():
        float_time = float_times[name]
        if integer_time is not None and float_time is not None:
            costs[name] = float_time - integer_time
    mean = float(np.mean(list(costs.values()))) if costs else 0.0
    return {name: costs.get(name, mean) for name in integer_times}
