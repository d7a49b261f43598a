"""Whether the pattern 2:4 is really there in a graph: a sparse kernel cannot use what an export or a fold undid."""

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
    """How many convolutions and matrix products with constant weights `follow` the pattern, `of` all.

    Raises ExportError where none does.
    """
    found = [follows(weight, axis) for weight, axis in _weights(model)]
    if not any(found):
        raise ExportError("prune: no layer of the exported graph follows the pattern 2:4, which was asked for")
    return {"follow": sum(found), "of": len(found)}


def _weights(model: ir.Model) -> Iterator[tuple[np.ndarray[Any, Any], int]]:
    """Each layer's weight, and the axis that is summed over."""
    for node in model.graph:
        if node.op_type not in COMPUTE:
            continue
        quantized = dequantizer(node.inputs[1])
        weight = constant(quantized.inputs[0] if quantized else node.inputs[1])
        if weight is None or weight.ndim < 2:
            continue
        transposed = node.op_type == "Gemm" and (flag := node.attributes.get("transB")) and flag.as_int()
        yield weight, 1 if node.op_type == "Conv" or transposed else weight.ndim - 2


def follows(weight: np.ndarray[Any, Any], axis: int) -> bool:
    """Whether of every four neighbours along `axis` at most two are not zero."""
    if weight.shape[axis] % _OF:
        return False
    fours = np.moveaxis(weight, axis, -1).reshape(-1, _OF)
    return bool((np.count_nonzero(fours, axis=1) <= _KEEP).all())
