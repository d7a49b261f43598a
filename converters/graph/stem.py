"""Give a convolution of few channels more to do at once: ONNX Runtime gathers its inputs byte by byte.

The three channels of a picture are three bytes in a row, gathered once for each place and row of the kernel. A
large kernel of stride 2 becomes one of half the size over blocks of 2x2 pixels (SpaceToDepth), as entries to MLPerf
did it for the first layer of ResNet; a small one gets a fourth channel of zeros. Sums of the same integers in
another order are the same to the bit. On x86 the first layer of ResNet-18 took a sixth of its time.
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

_CHANNELS = 4  # what the kernels gather in one piece
_LARGE = 5  # a kernel of so much on both sides gains from blocks: smaller ones pay more for the zeros


@dataclass(frozen=True)
class _Stem:
    """A quantized convolution of fewer channels than `_CHANNELS`.

    Attributes:
        layer: the convolution with its dequantizations.
        weight: codes, [out, in, height, width], with a zero point of 0.
        pads: top, left, bottom, right.
        size: height and width of its input; None where they are not known.
    """

    layer: GraphLayer
    weight: Array
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    size: tuple[int, int] | None


def widen_stems(model: ir.Model) -> int:
    """Rewrite each of them; how many there were."""
    found = [stem for layer in list(layers(model)) if (stem := _stem(layer))]
    for stem in found:
        if stem.size and stem.strides == (2, 2) and min(stem.weight.shape[2:]) >= _LARGE:
            _in_blocks(model, stem, stem.size)
        else:
            _with_zeros(model, stem)
    return len(found)


def _stem(layer: GraphLayer) -> _Stem | None:
    node, read, weight = layer.node, layer.activation, layer.weight
    if node.op_type != "Conv" or read is None or weight is None or read.outputs[0] is not node.inputs[0]:
        return None
    codes, shape = constant(weight.inputs[0]), read.inputs[0].shape if read.inputs[0] is not None else None
    if codes is None or codes.ndim != 4 or codes.dtype != np.int8 or zero_point_of(weight).any() or shape is None:
        return None
    if users(read.outputs[0]) != [node] or users(weight.outputs[0]) != [node] or zero_point_of(read).size != 1:
        return None
    plain = _ints(node, "dilations", (1, 1)) == (1, 1) and _ints(node, "group", (1,)) == (1,) and _explicit(node)
    if not plain or not 1 < codes.shape[1] < _CHANNELS or shape[1] != codes.shape[1]:
        return None
    height, width = shape[2], shape[3]
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    return _Stem(layer, codes, _ints(node, "strides", (1, 1)), _ints(node, "pads", (0, 0, 0, 0)), size)


def _ints(node: ir.Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    found = node.attributes.get(name)
    if found is None:
        return default
    return (found.as_int(),) if name == "group" else tuple(found.as_ints())


def _explicit(node: ir.Node) -> bool:
    found = node.attributes.get("auto_pad")
    return found is None or found.as_string() in ("NOTSET", "")


def _with_zeros(model: ir.Model, stem: _Stem) -> None:
    """A channel of zeros, whatever the weights for it: they are zeros, too."""
    more = _CHANNELS - stem.weight.shape[1]
    _insert(model, stem, _pad(model, stem, (0, more, 0, 0)))
    _replace_weight(model, stem, np.pad(stem.weight, ((0, 0), (0, more), (0, 0), (0, 0))))


def _in_blocks(model: ir.Model, stem: _Stem, size: tuple[int, int]) -> None:
    """Half the kernel over blocks of 2x2 pixels; what the convolution padded is padded before."""
    import onnx_ir as ir

    out, channels, *kernel = stem.weight.shape
    half = [(side + 1) // 2 for side in kernel]
    even = np.pad(stem.weight, ((0, 0), (0, 0), (0, kernel[0] % 2), (0, kernel[1] % 2)))
    # SpaceToDepth orders by row in the block, column in the block, channel.
    blocks = even.reshape(out, channels, half[0], 2, half[1], 2).transpose(0, 3, 5, 1, 2, 4)
    after = [_rest(size[axis], stem.pads[axis], stem.pads[axis + 2], kernel[axis]) for axis in (0, 1)]
    padded = _pad(model, stem, (0, 0, stem.pads[0], stem.pads[1]), (0, 0, after[0], after[1]))
    name = f"{stem.layer.node.name}_blocks"
    _insert(model, stem, padded, ir.node("SpaceToDepth", [padded.outputs[0]], {"blocksize": 2}, name=name))
    _replace_weight(model, stem, np.ascontiguousarray(blocks.reshape(out, 4 * channels, *half)))
    node = stem.layer.node
    for key, value in (("strides", (1, 1)), ("pads", (0, 0, 0, 0)), ("kernel_shape", half)):
        node.attributes[key] = ir.AttrInt64s(key, list(value))


def _rest(size: int, before: int, behind: int, kernel: int) -> int:
    """What is padded behind one axis (or cut off), so that blocks of 2 end where the last kernel does."""
    places = (size + before + behind - kernel) // 2 + 1
    return 2 * (places - 1) + kernel + kernel % 2 - size - before


def _pad(model: ir.Model, stem: _Stem, before: Sequence[int], behind: Sequence[int] | None = None) -> ir.Node:
    import onnx_ir as ir

    read, name = stem.layer.activation, f"{stem.layer.node.name}_wide"
    assert read is not None  # a stem is quantized
    zeros, pads = [0] * 4, np.array([*before, *(behind or ())], np.int64)
    amounts = pads if behind is not None else np.array([*zeros, *before], np.int64)
    zero = zero_point_of(read).reshape(())
    inputs = [
        read.inputs[0],
        new_constant(model, f"{name}_pads", amounts),
        new_constant(model, f"{name}_{zero.dtype}", zero),
    ]
    return ir.node("Pad", inputs, {"mode": "constant"}, name=name)


def _insert(model: ir.Model, stem: _Stem, *chain: ir.Node) -> None:
    """Put nodes between the codes and their dequantization."""
    import onnx_ir as ir

    read = stem.layer.activation
    assert read is not None  # a stem is quantized
    kind = ir.DataType.from_numpy(zero_point_of(read).dtype)
    for made in chain:
        made.outputs[0].name, made.outputs[0].dtype = f"{made.name}_out", kind
        model.graph.insert_before(read, made)
    read.replace_input_with(0, chain[-1].outputs[0])
    read.outputs[0].shape = None  # another one than before


def _replace_weight(model: ir.Model, stem: _Stem, codes: Array) -> None:
    weight = stem.layer.weight
    assert weight is not None and weight.inputs[0] is not None  # a stem is quantized
    weight.replace_input_with(0, new_constant(model, f"{weight.inputs[0].name}_wide", codes))
    weight.outputs[0].shape = None
