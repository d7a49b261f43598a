"""Channels without information: dead (always 0) or constant on the calibration samples.

They cost as much as the others, and are a sign of a model that could be smaller, of samples that
show too little, or of the wrong preprocessing. They are reported; nothing is changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.graph.names import module_path
from converters.graph.qdq import COMPUTE, constant, users
from converters.graph.taps import reduce_values
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

Array = np.ndarray[Any, Any]

SAMPLES = 32
"""Samples to look at, spread over all.

A convolution's channel has many values on each: of the 66 channels of MobileNetV2 that are dead on
so many photographs, 65 are dead on fifteen times as many."""
_PLACES = 300
# Number of equal values after an activation that is significant: a channel that is active at one
# place of a hundred is 0 at so many once in twenty times (the rule of three; Hanley and
# Lippman-Hand, JAMA, 1983).
_LISTED = 10  # layers that the manifest names, those with most such channels first
_ACTIVATIONS = ("Relu", "Clip")
_CHANNELWISE = ("BatchNormalization", "Add", "Sub", "Mul")
_AXES_ARE_INPUTS = 18  # the opset since which ReduceMin and ReduceMax take them so


@dataclass(frozen=True)
class _Tap:
    """A layer whose values are looked at.

    Attributes:
        path: of its module.
        before, after: the values before and after its activation; the same one if it has none.
        axes: number of axes of both.
        channels: size of the last axis if that has the channels; None if it is axis 1.
    """

    path: str
    before: str
    after: str
    axes: int
    channels: int | None


@dataclass
class _Extremes:
    """Extremes of each channel of a value, and the number of values and samples they cover."""

    low: Array
    high: Array
    places: int
    samples: int

    @property
    def still(self) -> Array:
        """The channels that had one value only."""
        return np.asarray(self.low == self.high)

    @property
    def zero(self) -> Array:
        """The channels that were 0 only."""
        return np.asarray((self.low == 0) & (self.high == 0))

    def merge(self, new: _Extremes) -> _Extremes:
        """Return the extremes of both together."""
        low, high = np.minimum(self.low, new.low), np.maximum(self.high, new.high)
        return _Extremes(low, high, self.places + new.places, self.samples + new.samples)


def silent_channels(
    model: ir.Model, samples: Iterable[Arrays], count: int, folder: Path
) -> dict[str, Any]:
    """Look for dead and constant channels after the layers of a float32 graph.

    Args:
        model: the graph.
        samples: inputs, of which `SAMPLES` are used; read once for each group of tapped values.
        count: number of samples.
        folder: for temporary files.

    Returns:
        `dead` and `constant`, each with the number of `samples` used, of `layers` and `channels`
        affected, and the layers with `most` of them, by module path: how many `channels` of how
        many.

    Raises ExportError if ONNX Runtime cannot run the graph.
    """
    layers = list(_layers(model))
    opset = model.opset_imports.get("", 0)
    taps = {}
    for layer in layers:
        taps[layer.before] = partial(_add_extremes, layer, opset)
        taps[layer.after] = taps[layer.before]
    extremes: dict[str, _Extremes] = {}
    for name, [lows, highs, shape] in reduce_values(model, taps, _Spread(samples, count), folder):
        low, high = np.atleast_2d(lows).min(0), np.atleast_2d(highs).max(0)
        # A batch consists of copies of one sample: they are no more places.
        new = _Extremes(low, high, int(np.prod(shape[1:])) // low.size, 1)
        extremes[name] = extremes[name].merge(new) if name in extremes else new
    dead, constants, channels = Counter[str](), Counter[str](), Counter[str]()
    for layer in layers:
        zeros, equal = _count_silent(extremes[layer.before], extremes[layer.after])
        channels[layer.path] += extremes[layer.after].low.size
        dead[layer.path] += zeros
        constants[layer.path] += equal
    used = max((value.samples for value in extremes.values()), default=0)
    return {"dead": _report(dead, channels, used), "constant": _report(constants, channels, used)}


def channel_summary(report: Mapping[str, Any]) -> str | None:
    """Return the result of `silent_channels` in a sentence, or None if it has no channels."""
    clauses = []
    for name, description in (("dead", "dead (0 at every place)"), ("constant", "constant")):
        entry = report[name]
        if not entry["channels"]:
            continue
        path, most = next(iter(entry["most"].items()))
        clause = f"{most['channels']} of {most['of']} channels of {path}"
        if entry["layers"] > 1:
            clause += f", and {entry['channels'] - most['channels']} of other layers,"
        clauses.append(f"{clause} were {description} on all {entry['samples']} samples looked at")
    if not clauses:
        return None
    summary = "; ".join(clauses)
    return f"{summary}: the model could be smaller, or the samples do not show all of its inputs"


class _Spread:
    """At most `SAMPLES` of `count` samples, spread evenly; one is in memory."""

    def __init__(self, samples: Iterable[Arrays], count: int) -> None:
        self._samples = samples
        used = min(count, SAMPLES)
        self._picked = {index * count // used for index in range(used)}

    def __len__(self) -> int:
        return len(self._picked)

    def __iter__(self) -> Iterator[Arrays]:
        for index, sample in enumerate(self._samples):
            if index in self._picked:
                yield sample


def _count_silent(before: _Extremes, after: _Extremes) -> tuple[int, int]:
    """Count the dead and the constant channels.

    Before an activation two values are never equal by chance, so two samples suffice; after it 0 is
    common.
    """
    if after.samples < 2:
        return 0, 0
    sure = before.still | (after.places >= _PLACES)
    return int((after.zero & sure).sum()), int((after.still & ~after.zero & sure).sum())


def _report(silent: Counter[str], channels: Counter[str], samples: int) -> dict[str, Any]:
    layers = {path: count for path, count in silent.most_common() if count}
    most = {
        path: {"channels": layers[path], "of": channels[path]} for path in list(layers)[:_LISTED]
    }
    return {
        "samples": samples,
        "layers": len(layers),
        "channels": sum(layers.values()),
        "most": most,
    }


def _layers(model: ir.Model) -> Iterator[_Tap]:
    """Yield the layers with weights, then other activations, such as after an addition."""
    tapped: set[str] = set()
    for node in model.graph:
        if node.op_type not in COMPUTE or node.domain not in ("", "ai.onnx"):
            continue
        weight = constant(node.inputs[1])
        if weight is not None and weight.dtype == np.float32:
            before = node.outputs[0]
            axes, channels = 2, None
            if node.op_type.startswith("Conv"):
                axes = weight.ndim
            else:
                channels = _columns(node, weight)
            layer = _Tap(
                _path(node), str(before.name), str(_activated(before).name), axes, channels
            )
            yield layer
            tapped |= {layer.before, layer.after}
    for node in model.graph:
        if (
            node.op_type in _ACTIVATIONS
            and (activation := _activation_tap(node, tapped)) is not None
        ):
            yield activation


def _columns(node: ir.Node, weight: Array) -> int:
    """Return the size of the last axis of a matrix product with a constant."""
    turned = node.attributes.get("transB") if node.op_type == "Gemm" else None
    if turned is not None and turned.as_int():
        return int(weight.shape[0])
    return int(weight.shape[-1]) if weight.ndim > 1 else 1


def _activated(value: ir.Value) -> ir.Value:
    """Return a layer's output after its activation, or the output itself if it has none."""
    at = value
    while len(readers := users(at)) == 1 and not at.is_graph_output():
        [reader] = readers
        if reader.op_type in _ACTIVATIONS:
            return reader.outputs[0]
        # An addition is followed only if it adds a constant: other values are not this layer's.
        operands = [
            operand for operand in reader.inputs if operand is not at and operand is not None
        ]
        fixed = all(constant(operand) is not None for operand in operands)
        shape = reader.outputs[0].shape
        if reader.op_type not in _CHANNELWISE or not fixed or shape is None or shape != value.shape:
            break
        at = reader.outputs[0]
    return value


def _activation_tap(node: ir.Node, tapped: Collection[str]) -> _Tap | None:
    """Return the tap of an activation, or None if a layer has it or channels are unknown."""
    import onnx_ir as ir

    before, after = node.inputs[0], node.outputs[0]
    shape = after.shape
    if (
        before is None
        or after.dtype != ir.DataType.FLOAT
        or {before.name, after.name} & set(tapped)
    ):
        return None
    if shape is None or len(shape) < 2:
        return None
    columns: int | None = None
    if len(shape) <= 3:  # more axes: a picture's or a video's, with the channels on axis 1
        last = shape[-1]
        if not isinstance(last, int):
            return None
        columns = last
    return _Tap(_path(node), str(before.name), str(after.name), len(shape), columns)


def _path(node: ir.Node) -> str:
    return module_path(node.metadata_props) or str(node.name)


def _add_extremes(
    layer: _Tap, opset: int, graph: onnx.GraphProto, value: str, suffix: str
) -> list[str]:
    """Add nodes for the smallest and the largest value of each channel, and the shape of the value.

    If axis 1 has the channels, the extremes are per row of the batch. Returns the names of the
    three outputs.
    """
    from onnx import TensorProto, helper, numpy_helper

    low, high, sizes, shape = (
        f"low {suffix}",
        f"high {suffix}",
        f"sizes {suffix}",
        f"shape {suffix}",
    )
    source, reduced_axes = (
        value,
        list(range(2, layer.axes)),
    )  # with the batch, it takes half as long again
    if layer.channels is not None:
        rows, columns = f"rows {suffix}", f"columns {suffix}"
        graph.initializer.append(numpy_helper.from_array(np.array([-1, layer.channels]), columns))
        graph.node.append(helper.make_node("Reshape", [value, columns], [rows]))
        source, reduced_axes = rows, [0]
    inputs, attributes = [source], dict[str, Any]()
    if opset >= _AXES_ARE_INPUTS:
        axes = f"axes {suffix}"
        graph.initializer.append(numpy_helper.from_array(np.array(reduced_axes), axes))
        inputs.append(axes)
    else:
        attributes["axes"] = reduced_axes
    graph.node.extend(
        [
            helper.make_node("ReduceMin", inputs, [low], keepdims=0, **attributes),
            helper.make_node("ReduceMax", inputs, [high], keepdims=0, **attributes),
            helper.make_node("Shape", [value], [sizes]),
            helper.make_node("Cast", [sizes], [shape], to=TensorProto.FLOAT),
        ]
    )
    return [low, high, shape]
