"""Check a graph for the pattern 2:4, which an export or a fold may have undone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.errors import ExportError
from converters.graph.qdq import COMPUTE, constant, dequantizer

if TYPE_CHECKING:
    import onnx_ir as ir

_OF, _KEEP = 4, 2


def sparse_layers(model: ir.Model) -> dict[str, int]:
    """Count convolutions and matrix products with constant weights that `follow` the pattern.

    `of` is the number of all such layers. Raises ExportError if none follows the pattern.
    """
    sparse = [follows(weight, axis) for weight, axis in _weights(model)]
    if not any(sparse):
        raise ExportError(
            "prune: no layer of the exported graph follows the pattern 2:4, which was requested"
        )
    return {"follow": sum(sparse), "of": len(sparse)}


def _weights(model: ir.Model) -> Iterator[tuple[np.ndarray[Any, Any], int]]:
    """Yield each layer's weight, and the axis that is summed over."""
    for node in model.graph:
        if node.op_type not in COMPUTE:
            continue
        quantized = dequantizer(node.inputs[1])
        weight = constant(quantized.inputs[0] if quantized else node.inputs[1])
        if weight is None or weight.ndim < 2:
            continue
        transposition = node.attributes.get("transB") if node.op_type == "Gemm" else None
        is_transposed = transposition is not None and transposition.as_int()
        yield weight, 1 if node.op_type == "Conv" or is_transposed else weight.ndim - 2


def follows(weight: np.ndarray[Any, Any], axis: int) -> bool:
    """Whether at most two of each four neighbours along `axis` are not zero."""
    if weight.shape[axis] % _OF:
        return False
    fours = np.moveaxis(weight, axis, -1).reshape(-1, _OF)
    return bool((np.count_nonzero(fours, axis=1) <= _KEEP).all())
