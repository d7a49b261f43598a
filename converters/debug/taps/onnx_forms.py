"""Encoded values of an ONNX graph: integers with a scale, and ONNX Runtime's blocked layout.

Quantizers and ONNX Runtime's offline optimizations write both. Each has an operator that turns it
into plain float values; that operator is added after a value when it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

_BLOCKED = "com.microsoft.nchwc"
# The position of the first of two inputs, scale and zero point, that encode an operator's result.
_SCALE_AT = {
    "QuantizeLinear": 1,
    "QLinearConv": 6,
    "QLinearMatMul": 6,
    "QLinearAdd": 6,
    "QLinearMul": 6,
    "QGemm": 7,
    "QLinearSigmoid": 3,
    "QLinearLeakyRelu": 3,
    "QLinearSoftmax": 3,
    "QLinearAveragePool": 3,
    "QLinearGlobalAveragePool": 3,
    "QLinearConcat": 0,
}
# Operators that leave the axes of their inputs as they are.
_POINTWISE = {
    *("QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu"),
    *("QuantizeLinear", "DequantizeLinear", "NhwcMaxPool"),
    *("Add", "Sub", "Mul", "Div", "Relu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish"),
}
_COMPUTE = {"QLinearConv", "QLinearMatMul", "QGemm"}
# Operators whose result has the scale of their first input: they select or move integers.
_MOVES = {
    *("MaxPool", "NhwcMaxPool", "Resize", "Slice", "Identity"),
    *("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"),
}


def plain_name(value: str) -> str:
    """Return the name of the plain form of a value."""
    return f"burnish plain {value}"


def decoders(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Return the nodes that decode each encoded value."""
    import onnx

    decoders = {}
    for value, node in (_dequantizers(graph) | _unblockers(graph)).items():
        decoders[value] = [node]
    for value, rank in _channels_last(graph):
        nodes = decoders.setdefault(value, [])
        source = value
        if nodes:
            source = f"{plain_name(value)}, channels last"
            nodes[-1].output[0] = source
        order = [0, rank - 1, *range(1, rank - 1)]
        transpose = onnx.helper.make_node("Transpose", [source], [plain_name(value)], perm=order)
        nodes.append(transpose)
    return decoders


def clamped(graph: onnx.GraphProto) -> set[str]:
    """Return results of convolutions and matrix products whose integers cannot go below zero.

    An activation was fused into them.
    """
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    values = set()
    for node in graph.node:
        position = _SCALE_AT.get(node.op_type, 0) + 1
        if node.op_type not in _COMPUTE or position >= len(node.input):
            continue
        if node.input[position] in tensors:
            zero_point = numpy_helper.to_array(tensors[node.input[position]])
            if (zero_point == np.iinfo(zero_point.dtype).min).all():
                values.add(node.output[0])
    return values


def _channels_last(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    """Yield values whose channels are last and not second as in the model, and their ranks."""
    weight_ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    ranks: dict[str, int] = {}
    for node in graph.node:
        if node.domain == _BLOCKED:
            continue
        input_ranks = [ranks[name] for name in node.input if name in ranks]
        wide = [weight_ranks[name] for name in node.input if weight_ranks.get(name, 0) > 2]
        declared = any(
            attribute.name == "channels_last" and attribute.i for attribute in node.attribute
        )
        inherited = bool(input_ranks) and node.op_type in _POINTWISE
        if (input_ranks or wide) and (declared or inherited):
            ranks[node.output[0]] = (input_ranks or wide)[0]
            yield node.output[0], ranks[node.output[0]]


def _dequantizers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Return a DequantizeLinear for each value of integers with a scale."""
    import onnx

    dequantizers: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        value = node.output[0] if node.output else ""
        position = _SCALE_AT.get(node.op_type)
        if position is not None:
            parameters = node.input[position : position + 2]
            attributes = node.attribute if position == 1 else []
        elif node.op_type in _MOVES and node.input[0] in dequantizers:
            source = dequantizers[node.input[0]]
            parameters, attributes = source.input[1:], source.attribute
        else:
            continue
        axis = {attribute.name: attribute.i for attribute in attributes if attribute.name == "axis"}
        dequantizers[value] = onnx.helper.make_node(
            "DequantizeLinear", [value, *parameters], [plain_name(value)], **axis
        )
    return dequantizers


def _unblockers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Return a ReorderOutput for each value in blocks of channels."""
    import onnx

    unblockers = {}
    for value, channels in _blocked(graph):
        unblockers[value] = onnx.helper.make_node(
            "ReorderOutput", [value], [plain_name(value)], domain=_BLOCKED, channels=channels
        )
    return unblockers


def _blocked(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    """Yield values in blocks of channels, and the number of channels.

    It is the padded one of whole blocks, unless a consumer states the number without padding.
    """
    weights = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    unpadded = _unpadded_channels(graph)
    channels: dict[str, int] = {}
    for node in graph.node:
        input_channels = [channels[name] for name in node.input if name in channels]
        is_blocked = node.domain == _BLOCKED or input_channels
        if node.op_type == "ReorderOutput" or not is_blocked:
            continue
        count = weights.get(node.input[1]) if node.op_type == "Conv" else None
        if count is None and input_channels:
            count = sum(input_channels) if node.op_type == "Concat" else input_channels[0]
        if count is not None:
            channels[node.output[0]] = count
            yield node.output[0], unpadded.get(node.output[0], count)


def _unpadded_channels(graph: onnx.GraphProto) -> dict[str, int]:
    """Return the number of channels without padding, as the decoders of blocked values state it."""
    channels: dict[str, int] = {}
    for node in reversed(graph.node):
        if (node.domain, node.op_type) == (_BLOCKED, "ReorderOutput"):
            attributes = {attribute.name: attribute.i for attribute in node.attribute}
            channels[node.input[0]] = attributes["channels"]
        elif node.output[0] in channels and node.op_type != "Concat":
            # A convolution adds its fourth input to its result; all other operators have as many
            # channels in their inputs as in their result.
            same = node.input[3:] if node.op_type == "Conv" else node.input
            for name in same:
                channels.setdefault(name, channels[node.output[0]])
    return channels
