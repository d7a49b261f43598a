"""Shapes of a graph's values at given sizes of its dynamic dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

_SMALL = 1024
"""Elements of a constant that may be a shape; larger ones are weights, whose values do not matter."""


def load_at_sizes(path: Path, sizes: Mapping[str, int]) -> ir.Model:
    """Load an ONNX file without its weights, with the shapes of all values that can be inferred."""
    import onnx
    import onnx_ir as ir

    model = onnx.load(str(path), load_external_data=False)
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
    _empty_weights(model.graph)
    return ir.from_proto(onnx.shape_inference.infer_shapes(model, data_prop=True))


def _empty_weights(graph: onnx.GraphProto) -> None:
    """Drop the values of weights, in place: they stay constants, of a type and a shape."""
    for tensor in graph.initializer:
        size = 1
        for length in tensor.dims:
            size *= length
        if size > _SMALL:
            empty = (tensor.data_type, tensor.name, list(tensor.dims))
            tensor.Clear()
            tensor.data_type, tensor.name = empty[:2]
            tensor.dims.extend(empty[2])
