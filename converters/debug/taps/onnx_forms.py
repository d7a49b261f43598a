"""Values that an ONNX graph keeps in a form of its own: integers with a scale, ONNX Runtime's blocked layout.

Quantizers and ONNX Runtime's offline optimizations write both. Each has an operator that turns it into plain
float values; that one is put behind a value when it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

_BLOCKED = "com.microsoft.nchwc"
# The first of two inputs, scale and zero point, that say what the integers of an operator's result mean.
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
    *("QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QuantizeLinear", "DequantizeLinear"),
    *("Add", "Sub", "Mul", "Div", "Relu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "NhwcMaxPool"),
}
_COMPUTE = {"QLinearConv", "QLinearMatMul", "QGemm"}
# Operators whose result means what their first input means: they choose or move integers.
_MOVES = {
    *("MaxPool", "NhwcMaxPool", "Reshape", "Flatten", "Transpose", "Resize", "Squeeze", "Unsqueeze", "Slice"),
    "Identity",
}


def plain_name(value: str) -> str:
    """What the plain form of a value is called."""
    return f"burnish plain {value}"


def decoders(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Per value in a form of its own the nodes that make a plain one of it."""
    import onnx

    found = {value: [node] for value, node in (*_dequantizers(graph).items(), *_unblockers(graph).items())}
    for value, rank in _channels_last(graph):
        nodes, order = found.setdefault(value, []), [0, rank - 1, *range(1, rank - 1)]
        source = f"{plain_name(value)}, channels last" if nodes else value
        if nodes:
            nodes[-1].output[0] = source
        nodes.append(onnx.helper.make_node("Transpose", [source], [plain_name(value)], perm=order))
    return found


def clamped(graph: onnx.GraphProto) -> set[str]:
    """Results of convolutions and matrix products whose integers cannot go below zero: an activation is in them."""
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    found = set()
    for node in graph.node:
        at = _SCALE_AT.get(node.op_type, 0) + 1
        if node.op_type in _COMPUTE and at < len(node.input) and node.input[at] in tensors:
            zero = numpy_helper.to_array(tensors[node.input[at]])
            if (zero == np.iinfo(zero.dtype).min).all():
                found.add(node.output[0])
    return found


def _channels_last(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    """Values with the channels last where the model has them second, and their ranks."""
    weights = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    ranks: dict[str, int] = {}
    for node in graph.node:
        given = [ranks[name] for name in node.input if name in ranks]
        wide = [weights[name] for name in node.input if weights.get(name, 0) > 2]
        says_so = any(one.name == "channels_last" and one.i for one in node.attribute)
        if node.domain != _BLOCKED and (given or wide) and (says_so or (given and node.op_type in _POINTWISE)):
            ranks[node.output[0]] = (given or wide)[0]
            yield node.output[0], ranks[node.output[0]]


def _dequantizers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    import onnx

    found: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        value, at = node.output[0] if node.output else "", _SCALE_AT.get(node.op_type)
        if at is not None:
            read = [value, *node.input[at : at + 2]]
            axis = {one.name: one.i for one in node.attribute if one.name == "axis" and at == 1}
        elif node.op_type in _MOVES and node.input[0] in found:
            source = found[node.input[0]]
            read, axis = [value, *source.input[1:]], {one.name: one.i for one in source.attribute}
        else:
            continue
        found[value] = onnx.helper.make_node("DequantizeLinear", read, [plain_name(value)], **axis)
    return found


def _unblockers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    import onnx

    return {
        value: onnx.helper.make_node(
            "ReorderOutput", [value], [plain_name(value)], domain=_BLOCKED, channels=channels
        )
        for value, channels in _blocked(graph)
    }


def _blocked(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    """The values in blocks of channels, with their number: padded to whole blocks, unless a consumer tells."""
    weights = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    told = _told(graph)
    channels: dict[str, int] = {}
    for node in graph.node:
        given = [channels[name] for name in node.input if name in channels]
        if node.op_type == "ReorderOutput" or not (node.domain == _BLOCKED or given):
            continue
        made = weights.get(node.input[1]) if node.op_type == "Conv" else None
        if made is None and given:
            made = sum(given) if node.op_type == "Concat" else given[0]
        if made is not None:
            channels[node.output[0]] = made
            yield node.output[0], told.get(node.output[0], made)


def _told(graph: onnx.GraphProto) -> dict[str, int]:
    """How many channels blocked values have that are no padding: what makes plain ones of them says it."""
    told: dict[str, int] = {}
    for node in reversed(graph.node):
        if (node.domain, node.op_type) == (_BLOCKED, "ReorderOutput"):
            told[node.input[0]] = next(one.i for one in node.attribute if one.name == "channels")
        elif node.output[0] in told and node.op_type != "Concat":
            # A convolution adds its fourth input to its result; all others have as many channels as they make.
            same = node.input[3:] if node.op_type == "Conv" else node.input
            told.update({name: told[node.output[0]] for name in same if name not in told})
    return told
