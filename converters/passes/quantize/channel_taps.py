"""Where channels are looked at: layers and activations of a graph, and the nodes added there."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.graph.names import module_path
from converters.graph.qdq import COMPUTE, constant, users

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

Array = np.ndarray[Any, Any]

_ACTIVATIONS = ("Relu", "Clip")
_CHANNELWISE = ("BatchNormalization", "Add", "Sub", "Mul")
_AXES_ARE_INPUTS = 18  # the opset since which ReduceMin and ReduceMax take them so


@dataclass(frozen=True)
class ChannelTap:
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


def find_taps(model: ir.Model) -> Iterator[ChannelTap]:
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
            layer = ChannelTap(
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


def _activation_tap(node: ir.Node, tapped: Collection[str]) -> ChannelTap | None:
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
    return ChannelTap(_path(node), str(before.name), str(after.name), len(shape), columns)


def _path(node: ir.Node) -> str:
    return module_path(node.metadata_props) or str(node.name)


def add_extremes(
    layer: ChannelTap, opset: int, graph: onnx.GraphProto, value: str, suffix: str
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
