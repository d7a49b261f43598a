"""The accuracy budget: the fewest and cheapest layers kept in float that hold it.

1. Sensitivity: each layer alone is given its float weights back, and the error that goes from the outputs with it
   is measured. That one layer at a time takes a run per layer, but sees what a layer's error becomes on its way to
   the output, which its own error does not tell: in MobileNetV2 one depthwise convolution of 53 layers makes a
   large part of all error while its weights are no worse than others.
2. Cost: what the layer takes in float less what it takes in integers, by the engine's own profiler.
3. Layers are restored in order of error surely removed per microsecond added, until the
   samples that calibration never saw hold the budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.graph.qdq import layers
from converters.passes.quantize.restore import restore
from converters.passes.quantize.trial import Trial, layer_times, trial
from converters.recipe.quantize import MIXED_SHARE, QuantizeOptions
from runtimes.progress import counted
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import onnx_ir as ir

# Sensitivity takes as many samples as this much time allows, and at least so many.
_SENSITIVITY_SECONDS, _SENSITIVITY_SAMPLES = 10.0, 16
# The least that keeping a layer float costs, as a share of the whole latency: a profile tells no less from
# nothing, and the conversions on both sides of the layer are in nobody's time.
_LEAST_COST = 0.01


@dataclass(frozen=True)
class Judge:
    """Samples that calibration never saw, with eager's float32 answers (by the float graph) and labels."""

    inputs: Sequence[Arrays]
    labels: Sequence[int | None]
    truth: Sequence[np.ndarray[Any, Any]]

    def drop(self, one: Trial, metric: str) -> float:
        """What is lost, in percentage points; see `QuantizeOptions.metric`."""
        found = [one.run(inputs)[0] for inputs in self.inputs]
        if metric == "sqnr":
            return 100.0 * float(np.sqrt(_error(found, self.truth) / _energy(self.truth)))
        best, before = ([row.argmax(-1).reshape(-1)[0] for row in rows] for rows in (found, self.truth))
        if metric == "agreement":
            return 100.0 * float(np.mean([a != b for a, b in zip(best, before, strict=True)]))
        known = [(a, b, label) for a, b, label in zip(best, before, self.labels, strict=True) if label is not None]
        return 100.0 * float(np.mean([(b == label) - float(a == label) for a, b, label in known]))


def _error(found: Sequence[np.ndarray[Any, Any]], truth: Sequence[np.ndarray[Any, Any]]) -> float:
    return float(sum(np.square(np.float64(a) - b).sum() for a, b in zip(found, truth, strict=True)))


def _energy(arrays: Sequence[np.ndarray[Any, Any]]) -> float:
    return float(sum(np.square(np.float64(a)).sum() for a in arrays)) or 1.0


@dataclass(frozen=True)
class Sensitivity:
    """A layer: the share of the output's error that goes when it is float, and microseconds that this adds.

    doubt: standard error of the share. What any change does to a quantized network's rounding moves its error by
    some percent this way or that; of most layers no more than that is seen.
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
    """A step of the search: so many layers float, what is lost, what one run takes."""

    kept: int
    layer: str | None
    drop: float
    milliseconds: float


@dataclass(frozen=True)
class Budget:
    """What a search found."""

    met: bool
    kept: list[str]
    sensitivity: list[Sensitivity]
    curve: list[Point]

    def report(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)


def hold_budget(
    quantized: ir.Model, original: ir.Model, format: str, precision: str, options: QuantizeOptions, judge: Judge
) -> Budget:
    """Restore layers of `quantized` in place until `options.max_drop` holds."""
    limit = options.max_drop
    assert limit is not None
    ranked = _ranked(quantized, original, format, precision, judge)
    curve: list[Point] = []
    kept: list[str] = []
    most = int(MIXED_SHARE * len(ranked))
    for count in counted(range(most + 1), "trials", limit=True):
        kept = [layer.layer for layer in ranked[:count]]
        one = trial(format, _restored(quantized, original, kept), precision)
        drop = judge.drop(one, options.metric)
        curve.append(Point(count, kept[-1] if kept else None, drop, one.milliseconds(judge.inputs[0])))
        if drop <= limit:
            break
    chosen = min(curve, key=lambda point: (point.drop, point.kept))
    kept = [one.layer for one in ranked[: chosen.kept]]
    restore(quantized, original, kept)
    return Budget(chosen.drop <= limit, kept, ranked, curve)


def _restored(quantized: ir.Model, original: ir.Model, names: Sequence[str]) -> ir.Model:
    import onnx_ir as ir

    copy = ir.from_proto(ir.to_proto(quantized))
    restore(copy, original, names)
    return copy


def _ranked(
    quantized: ir.Model, original: ir.Model, format: str, precision: str, judge: Judge
) -> list[Sensitivity]:
    """Every quantized layer, those that surely remove most error per microsecond first."""
    whole, exact = trial(format, quantized, precision), trial("onnx", original, "fp32")
    nodes = [layer.node for layer in layers(quantized) if layer.weight is not None]
    inputs = _affordable(judge.inputs, len(nodes) * whole.milliseconds(judge.inputs[0]) / 1e3)
    truth = [exact.run(one)[0] for one in inputs]
    errors = _errors(whole, inputs, truth)
    fast, slow = whole.profile(inputs[0]), trial(format, original, precision).profile(inputs[0])
    before = {str(node.name): node for node in original.graph}
    costs = _costs(fast, slow, nodes, [before[str(node.name)] for node in nodes])
    found = []
    for node in counted(nodes, "layers"):
        one = trial(format, _restored(quantized, original, [str(node.name)]), precision)
        removed = (errors - _errors(one, inputs, truth)) / (errors.mean() or 1.0)
        doubt = float(removed.std() / math.sqrt(len(inputs)))
        found.append(Sensitivity(str(node.name), float(removed.mean()), doubt, costs[str(node.name)]))
    least = _LEAST_COST * sum(fast.values())
    return sorted(found, key=lambda one: one.surely_removed / max(one.added_us, least), reverse=True)


def _affordable(inputs: Sequence[Arrays], seconds: float) -> Sequence[Arrays]:
    """As many samples, spread over all, as the time for them allows; `seconds` for each."""
    count = int(np.clip(_SENSITIVITY_SECONDS / seconds, _SENSITIVITY_SAMPLES, len(inputs)))
    return [inputs[index * len(inputs) // count] for index in range(min(count, len(inputs)))]


def _errors(one: Trial, inputs: Sequence[Arrays], truth: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """The energy of the error of each sample."""
    return np.array([_error([one.run(each)[0]], [exact]) for each, exact in zip(inputs, truth, strict=True)])


def _costs(
    fast: dict[str, float], slow: dict[str, float], nodes: list[ir.Node], before: list[ir.Node]
) -> dict[str, float]:
    """Microseconds that each layer adds in float; the mean where a profile does not name it."""
    own, other = layer_times(fast, nodes), layer_times(slow, before)
    known = {}
    for name, quick in own.items():
        lasting = other[name]
        if quick is not None and lasting is not None:
            known[name] = lasting - quick
    usual = float(np.mean(list(known.values()))) if known else 0.0
    return {name: known.get(name, usual) for name in own}
