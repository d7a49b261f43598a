"""Widen convolutions of few channels: ONNX Runtime gathers their inputs byte by byte.

The three channels of a picture are three bytes in a row, gathered once for each position and row of
the kernel. A large kernel of stride 2 becomes one of half the size over blocks of 2x2 pixels
(SpaceToDepth), as entries to MLPerf did it for the first layer of ResNet; a small one gets a fourth
channel of zeros. Sums of the same integers in another order are the same to the bit. On x86 the
first layer of ResNet-18 took a sixth of its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converters.graph.qdq import (
    Array,
    GraphLayer,
    constant,
    layers,
    new_constant,
    users,
    zero_point_of,
)

if TYPE_CHECKING:
    import onnx_ir as ir

_CHANNELS = 4  # the kernels gather these in one piece
# A kernel of this size on both sides gains from blocks: smaller ones pay more for the zeros.
_LARGE = 5


@dataclass(frozen=True)
class _Stem:
    """A quantized convolution of fewer channels than `_CHANNELS`.

    Attributes:
        layer: the convolution with its dequantizations.
        weight: codes, [out, in, height, width], with a zero point of 0.
        pads: top, left, bottom, right.
        size: height and width of its input; None if unknown.
    """

    layer: GraphLayer
    weight: Array
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    size: tuple[int, int] | None


def widen_stems(model: ir.Model) -> int:
    """Rewrite all stems; return their number."""
    stems = []
    for layer in layers(model):
        stem = _stem(layer)
        if stem is not None:
            stems.append(stem)
    for stem in stems:
        if stem.size and stem.strides == (2, 2) and min(stem.weight.shape[2:]) >= _LARGE:
            _in_blocks(model, stem, stem.size)
        else:
            _with_zeros(model, stem)
    return len(stems)


def _stem(layer: GraphLayer) -> _Stem | None:
    """Return the layer as a stem; None if it is not one."""
    node, read, weight = layer.node, layer.activation, layer.weight
    if read is None or weight is None or not _is_plain_conv(node):
        return None
    codes = constant(weight.inputs[0])
    shape = read.inputs[0].shape if read.inputs[0] is not None else None
    if codes is None or shape is None or codes.ndim != 4 or codes.dtype != np.int8:
        return None
    if zero_point_of(weight).any() or zero_point_of(read).size != 1:
        return None
    if read.outputs[0] is not node.inputs[0]:
        return None
    if users(read.outputs[0]) != [node] or users(weight.outputs[0]) != [node]:
        return None
    if not 1 < codes.shape[1] < _CHANNELS or shape[1] != codes.shape[1]:
        return None
    height, width = shape[2], shape[3]
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    strides, pads = _ints(node, "strides", (1, 1)), _ints(node, "pads", (0, 0, 0, 0))
    return _Stem(layer, codes, strides, pads, size)


def _is_plain_conv(node: ir.Node) -> bool:
    """Whether a node is a convolution without dilation and groups, and with explicit padding."""
    if node.op_type != "Conv" or _ints(node, "dilations", (1, 1)) != (1, 1):
        return False
    group, auto_pad = node.attributes.get("group"), node.attributes.get("auto_pad")
    one_group = group is None or group.as_int() == 1
    return one_group and (auto_pad is None or auto_pad.as_string() in ("NOTSET", ""))


def _ints(node: ir.Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    attribute = node.attributes.get(name)
    return default if attribute is None else tuple(attribute.as_ints())


def _with_zeros(model: ir.Model, stem: _Stem) -> None:
    """Add channels of zeros; their weights are zeros, too."""
    more = _CHANNELS - stem.weight.shape[1]
    _insert(model, stem, _pad(model, stem, (0, 0, 0, 0), (0, more, 0, 0)))
    _replace_weight(model, stem, np.pad(stem.weight, ((0, 0), (0, more), (0, 0), (0, 0))))


def _in_blocks(model: ir.Model, stem: _Stem, size: tuple[int, int]) -> None:
    """Halve the kernel over blocks of 2x2 pixels, and pad before the convolution."""
    import onnx_ir as ir

    out, channels, *kernel = stem.weight.shape
    half = [(side + 1) // 2 for side in kernel]
    even = np.pad(stem.weight, ((0, 0), (0, 0), (0, kernel[0] % 2), (0, kernel[1] % 2)))
    # SpaceToDepth orders by row in the block, column in the block, channel.
    blocks = even.reshape(out, channels, half[0], 2, half[1], 2).transpose(0, 3, 5, 1, 2, 4)
    top, left, bottom, right = stem.pads
    end_rows = _end_padding(size[0], top, bottom, kernel[0])
    end_columns = _end_padding(size[1], left, right, kernel[1])
    padded = _pad(model, stem, (0, 0, top, left), (0, 0, end_rows, end_columns))
    name = f"{stem.layer.node.name}_blocks"
    to_blocks = ir.node("SpaceToDepth", [padded.outputs[0]], {"blocksize": 2}, name=name)
    _insert(model, stem, padded, to_blocks)
    _replace_weight(model, stem, np.ascontiguousarray(blocks.reshape(out, 4 * channels, *half)))
    node = stem.layer.node
    for key, value in (("strides", (1, 1)), ("pads", (0, 0, 0, 0)), ("kernel_shape", half)):
        node.attributes[key] = ir.AttrInt64s(key, list(value))


def _end_padding(size: int, start: int, end: int, kernel: int) -> int:
    """Return the padding (or cut, if negative) at the end of an axis.

    With it, blocks of 2 end at the end of the last kernel.
    """
    positions = (size + start + end - kernel) // 2 + 1
    return 2 * (positions - 1) + kernel + kernel % 2 - size - start


def _pad(model: ir.Model, stem: _Stem, start: Sequence[int], end: Sequence[int]) -> ir.Node:
    """Return a node that pads the start and end of each axis of a stem's input by the code of 0."""
    import onnx_ir as ir

    read, name = stem.layer.activation, f"{stem.layer.node.name}_wide"
    assert read is not None  # a stem is quantized
    amounts = np.array([*start, *end], np.int64)
    zero = zero_point_of(read).reshape(())
    inputs = [
        read.inputs[0],
        new_constant(model, f"{name}_pads", amounts),
        new_constant(model, f"{name}_{zero.dtype}", zero),
    ]
    return ir.node("Pad", inputs, {"mode": "constant"}, name=name)


def _insert(model: ir.Model, stem: _Stem, *chain: ir.Node) -> None:
    """Insert nodes between the codes and their dequantization."""
    import onnx_ir as ir

    read = stem.layer.activation
    assert read is not None  # a stem is quantized
    kind = ir.DataType.from_numpy(zero_point_of(read).dtype)
    for node in chain:
        node.outputs[0].name, node.outputs[0].dtype = f"{node.name}_out", kind
        model.graph.insert_before(read, node)
    read.replace_input_with(0, chain[-1].outputs[0])
    read.outputs[0].shape = None  # it has changed


def _replace_weight(model: ir.Model, stem: _Stem, codes: Array) -> None:
    weight = stem.layer.weight
    assert weight is not None and weight.inputs[0] is not None  # a stem is quantized
    weight.replace_input_with(0, new_constant(model, f"{weight.inputs[0].name}_wide", codes))
    weight.outputs[0].shape = None
