"""Repeat a quantization after operators that move values, for the layers that read them.

A quantizer lies before a Concat, a Split or a Slice, and the layer after it reads no dequantization:
its engine computes it in float. To quantize values again by the scale that they were quantized by
changes none of them. If the parts of a Concat have several scales, the new one covers all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converters.graph.flow.follow import sources
from converters.graph.qdq import (
    Array,
    constant,
    dequantizer,
    is_dequantized,
    layers,
    new_constant,
    scale_of,
    zero_point_of,
)

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class _Grid:
    """Scale and zero point of a tensor's quantization."""

    scale: Array
    zero_point: Array

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest value that it holds."""
        limits = np.iinfo(self.zero_point.dtype)
        zero, scale = float(self.zero_point), float(self.scale)
        return (limits.min - zero) * scale, (limits.max - zero) * scale


def repeat_pairs(model: ir.Model) -> int:
    """Quantize what layers with quantized weights, and products of two computed values, read.

    Only values that are quantized before operators that move them; return the number of new pairs.
    """
    pairs: dict[ir.Value, ir.Value] = {}
    for layer in list(layers(model)):
        factors = layer.node.inputs[:2]
        missing = [value for value in factors if value is not None and not is_dequantized(value)]
        grids = {value: _common_grid(value) for value in missing}
        for value, grid in grids.items():
            if grid is None or None in grids.values():
                continue  # one float factor makes the product a float one
            if value not in pairs:
                pairs[value] = _insert_pair(model, layer.node, value, grid)
            layer.node.replace_input_with(factors.index(value), pairs[value])
    return len(pairs)


def _common_grid(value: ir.Value) -> _Grid | None:
    """Return the grid of all parts of a value; None if one of them is not quantized."""
    grids = []
    for source in sources(value):
        node = dequantizer(source)
        if node is None or constant(node.inputs[0]) is not None or scale_of(node).size != 1:
            return None
        grids.append(_Grid(scale_of(node).reshape(()), zero_point_of(node).reshape(())))
    if not grids:
        return None
    first = grids[0]
    same = all(
        (grid.scale, grid.zero_point, grid.zero_point.dtype)
        == (first.scale, first.zero_point, first.zero_point.dtype)
        for grid in grids
    )
    return first if same else _covering(grids)


def _covering(grids: list[_Grid]) -> _Grid:
    """Return the grid of the smallest range that holds those of all `grids`."""
    low = min(0.0, *(grid.bounds[0] for grid in grids))
    high = max(0.0, *(grid.bounds[1] for grid in grids))
    limits = np.iinfo(np.int8 if low < 0 else np.uint8)
    scale = (high - low) / (int(limits.max) - int(limits.min))
    zero_point = np.clip(np.rint(limits.min - low / scale), limits.min, limits.max)
    return _Grid(np.asarray(scale, np.float32), zero_point.astype(limits.dtype).reshape(()))


def _insert_pair(model: ir.Model, before: ir.Node, value: ir.Value, grid: _Grid) -> ir.Value:
    """Insert a quantization and its reverse of `value` before a node; return the result."""
    import onnx_ir as ir

    name = f"{value.name}_again"
    scale = new_constant(model, f"{name}_scale", grid.scale)
    zero_point = new_constant(model, f"{name}_zero_point", grid.zero_point)
    quantize = ir.node("QuantizeLinear", [value, scale, zero_point], name=f"{name}_quantize")
    code = quantize.outputs[0]
    dequantize = ir.node("DequantizeLinear", [code, scale, zero_point], name=f"{name}_dequantize")
    result = dequantize.outputs[0]
    code.name, code.dtype = f"{name}_codes", ir.DataType.from_numpy(grid.zero_point.dtype)
    result.name, result.dtype = f"{name}_values", value.dtype or ir.DataType.FLOAT
    code.shape = result.shape = value.shape
    model.graph.insert_before(before, [quantize, dequantize])
    return result
