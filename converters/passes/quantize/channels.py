"""Channels that say nothing on the calibration samples: dead (always 0) or constant (always one other value).

They cost what the others cost, and tell of a model that could be smaller, of samples that show too little, or of
preprocessing that is not the model's. They are reported; nothing is changed.
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
"""Samples to look at, spread over all. A convolution's channel has many values on each: of the 66 channels of
MobileNetV2 that are dead on so many photographs, 65 are on fifteen times as many."""
_PLACES = 300
# Values that must all be the same before that means something behind an activation: a channel that is active at one
# place of a hundred is 0 at so many once in twenty times (the rule of three; Hanley and Lippman-Hand, JAMA, 1983).
_LISTED = 10  # layers that the manifest names, those with most such channels first
_ACTIVATIONS = ("Relu", "Clip")
_CHANNELWISE = ("BatchNormalization", "Add", "Sub", "Mul")
_AXES_ARE_INPUTS = 18  # the opset since which ReduceMin and ReduceMax take them so


@dataclass(frozen=True)
class _Layer:
    """Where to look.

    Attributes:
        path: of its module.
        before, behind: the values before and behind its activation; the same one where it has none.
        axes: number of axes of both.
        channels: size of the last axis where that has the channels; None where it is axis 1.
    """

    path: str
    before: str
    behind: str
    axes: int
    channels: int | None


@dataclass
class _Seen:
    """The extremes of each channel of a value, how many of its values they are of, and of how many samples."""

    low: Array
    high: Array
    places: int
    samples: int

    @property
    def still(self) -> Array:
        """Which channels had one value only."""
        return np.asarray(self.low == self.high)

    @property
    def zero(self) -> Array:
        """Which channels were 0 only."""
        return np.asarray((self.low == 0) & (self.high == 0))

    def and_too(self, other: _Seen) -> _Seen:
        """Both together."""
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return _Seen(low, high, self.places + other.places, self.samples + other.samples)


def silent_channels(model: ir.Model, samples: Iterable[Arrays], count: int, folder: Path) -> dict[str, Any]:
    """Look for dead and constant channels behind the layers of a float32 graph.

    Args:
        model: the graph.
        samples: inputs, of which `SAMPLES` are looked at; gone through once for each group of tapped values.
        count: how many they are.
        folder: for files that are gone afterwards.

    Returns:
        `dead` and `constant`: the number of `samples` that were looked at, of `layers` and `channels` that are so,
        and the layers with `most` of them, by module path: how many `channels` of how many.

    Raises ExportError where ONNX Runtime cannot run the graph.
    """
    found = list(_layers(model))
    opset = model.opset_imports.get("", 0)
    taps = {name: partial(_extremes, one, opset) for one in found for name in (one.before, one.behind)}
    seen: dict[str, _Seen] = {}
    for name, [lows, highs, shape] in reduce_values(model, taps, _Spread(samples, count), folder):
        low, high = np.atleast_2d(lows).min(0), np.atleast_2d(highs).max(0)
        # A batch is made of copies of one sample: they are no more places.
        one = _Seen(low, high, int(np.prod(shape[1:])) // low.size, 1)
        seen[name] = seen[name].and_too(one) if name in seen else one
    dead, still, every = Counter[str](), Counter[str](), Counter[str]()
    for layer in found:
        zeros, others = _silent(seen[layer.before], seen[layer.behind])
        every[layer.path] += seen[layer.behind].low.size
        dead[layer.path] += zeros
        still[layer.path] += others
    looked = max((one.samples for one in seen.values()), default=0)
    return {"dead": _report(dead, every, looked), "constant": _report(still, every, looked)}


def in_words(report: Mapping[str, Any]) -> str | None:
    """What `silent_channels` found in a sentence; None where that is nothing."""
    clauses = []
    for name, what in (("dead", "dead (0 at every place)"), ("constant", "constant")):
        if (one := report[name])["channels"]:
            path, most = next(iter(one["most"].items()))
            where = f"{most['channels']} of {most['of']} channels of {path}"
            rest = f", and {one['channels'] - most['channels']} of other layers," if one["layers"] > 1 else ""
            clauses.append(f"{where}{rest} were {what} on all {one['samples']} samples looked at")
    if not clauses:
        return None
    return f"{'; '.join(clauses)}: the model could be smaller, or the samples do not show what it knows"


class _Spread:
    """At most `SAMPLES` of `count` samples, spread evenly; one is in memory."""

    def __init__(self, samples: Iterable[Arrays], count: int) -> None:
        self._samples = samples
        self._picked = {index * count // SAMPLES for index in range(SAMPLES)} if count > SAMPLES else range(count)

    def __len__(self) -> int:
        return len(self._picked)

    def __iter__(self) -> Iterator[Arrays]:
        for index, sample in enumerate(self._samples):
            if index in self._picked:
                yield sample


def _silent(before: _Seen, behind: _Seen) -> tuple[int, int]:
    """How many channels are dead, and how many constant.

    Before an activation two values are never the same by chance, so two samples tell; behind it 0 is common.
    """
    if behind.samples < 2:
        return 0, 0
    sure = before.still | (behind.places >= _PLACES)
    return int((behind.zero & sure).sum()), int((behind.still & ~behind.zero & sure).sum())


def _report(silent: Counter[str], every: Counter[str], samples: int) -> dict[str, Any]:
    layers = {path: count for path, count in silent.most_common() if count}
    most = {path: {"channels": layers[path], "of": every[path]} for path in list(layers)[:_LISTED]}
    return {"samples": samples, "layers": len(layers), "channels": sum(layers.values()), "most": most}


def _layers(model: ir.Model) -> Iterator[_Layer]:
    """The layers with weights, then the activations that stand behind something else, such as an addition."""
    known: set[str] = set()
    for node in model.graph:
        weight = constant(node.inputs[1]) if node.op_type in COMPUTE and node.domain in ("", "ai.onnx") else None
        if weight is not None and weight.dtype == np.float32:
            value = node.outputs[0]
            axes, channels = (weight.ndim, None) if node.op_type.startswith("Conv") else (2, _columns(node, weight))
            yield _Layer(_path(node), str(value.name), str(_behind(value).name), axes, channels)
            known |= {str(value.name), str(_behind(value).name)}
    for node in model.graph:
        if node.op_type in _ACTIVATIONS and (layer := _alone(node, known)) is not None:
            yield layer


def _columns(node: ir.Node, weight: Array) -> int:
    """The size of the last axis of a matrix product with a constant."""
    turned = node.attributes.get("transB") if node.op_type == "Gemm" else None
    if turned is not None and turned.as_int():
        return int(weight.shape[0])
    return int(weight.shape[-1]) if weight.ndim > 1 else 1


def _behind(value: ir.Value) -> ir.Value:
    """What is left of a layer's output behind its activation; the output itself where none follows alone."""
    at = value
    while len(readers := users(at)) == 1 and not at.is_graph_output():
        [reader] = readers
        if reader.op_type in _ACTIVATIONS:
            return reader.outputs[0]
        # Of an addition only that of a constant: what comes from elsewhere is not this layer's.
        fixed = all(constant(each) is not None for each in reader.inputs if each is not at and each is not None)
        shape = reader.outputs[0].shape
        if reader.op_type not in _CHANNELWISE or not fixed or shape is None or shape != value.shape:
            break
        at = reader.outputs[0]
    return value


def _alone(node: ir.Node, known: Collection[str]) -> _Layer | None:
    """An activation as a layer of its own; None where a layer has it, or its channels are not known."""
    import onnx_ir as ir

    before, behind = node.inputs[0], node.outputs[0]
    shape = behind.shape
    if before is None or behind.dtype != ir.DataType.FLOAT or {before.name, behind.name} & set(known):
        return None
    if shape is None or len(shape) < 2:
        return None
    if len(shape) > 3:  # a picture's or a video's
        return _Layer(_path(node), str(before.name), str(behind.name), len(shape), None)
    columns = shape[-1]
    if not isinstance(columns, int):
        return None
    return _Layer(_path(node), str(before.name), str(behind.name), len(shape), columns)


def _path(node: ir.Node) -> str:
    return module_path(node.metadata_props) or str(node.name)


def _extremes(layer: _Layer, opset: int, graph: onnx.GraphProto, value: str, suffix: str) -> list[str]:
    """Nodes for the smallest and the largest value of each channel, and the shape of all.

    Where axis 1 has the channels they are told for each row of the batch.
    """
    from onnx import TensorProto, helper, numpy_helper

    low, high, sizes, shape, rows, columns, axes = (
        f"{step} {suffix}" for step in ("low", "high", "sizes", "shape", "rows", "columns", "axes")
    )
    others = list(range(2, layer.axes))  # with the batch, ONNX Runtime takes half as long again
    flat, source = [], value
    if layer.channels is not None:
        graph.initializer.append(numpy_helper.from_array(np.array([-1, layer.channels]), columns))
        flat, source, others = [helper.make_node("Reshape", [value, columns], [rows])], rows, [0]
    by_input = opset >= _AXES_ARE_INPUTS
    if by_input:
        graph.initializer.append(numpy_helper.from_array(np.array(others), axes))
    more: dict[str, Any] = {} if by_input else {"axes": others}
    graph.node.extend(
        [
            *flat,
            helper.make_node("ReduceMin", [source, axes] if by_input else [source], [low], keepdims=0, **more),
            helper.make_node("ReduceMax", [source, axes] if by_input else [source], [high], keepdims=0, **more),
            helper.make_node("Shape", [value], [sizes]),
            helper.make_node("Cast", [sizes], [shape], to=TensorProto.FLOAT),
        ]
    )
    return [low, high, shape]
