"""Find the nodes whose constants float16 would turn into zero: an epsilon of 1e-12 in a division.

Such a constant keeps a blank picture from becoming 0 / 0. So the node that reads it stays float32,
and the nodes after it up to the one that divides, or takes a logarithm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

# Operators that hand a small value on, and those after which it is of an ordinary size again.
_CARRIES = frozenset(
    (
        *("Add", "Sub", "Max", "Min", "Clip", "Sqrt", "Pow", "Abs", "Where", "Reciprocal"),
        *("Expand", "Unsqueeze", "Squeeze", "Reshape", "Identity", "Transpose"),
    )
)
_ENDS = frozenset(("Div", "Mul", "Log"))
_STEPS = 6


def vanishing(model: ir.Model) -> set[str]:
    """Return the names of nodes that have to stay float32 for a constant that would become 0."""
    kept: set[str] = set()
    for node in model.graph:
        if any(value is not None and _vanishes(value) for value in node.inputs):
            _keep(node, kept, _STEPS)
    return kept


def _keep(node: ir.Node, kept: set[str], steps: int) -> None:
    kept.add(str(node.name))
    if not steps or node.op_type in _ENDS:
        return
    for output in node.outputs:
        for use in output.uses():
            if use.node.op_type in _CARRIES or use.node.op_type in _ENDS:
                _keep(use.node, kept, steps - 1)


def _vanishes(value: ir.Value) -> bool:
    """Return whether a constant has numbers of which float16 leaves none."""
    tensor = value.const_value
    producer = value.producer()
    if tensor is None and producer is not None and producer.op_type == "Constant":
        attribute = producer.attributes.get("value")
        scalar = producer.attributes.get("value_float")
        if scalar is not None:
            return scalar.as_float() != 0.0 and not np.float16(scalar.as_float())
        tensor = None if attribute is None else attribute.as_tensor()
    if tensor is None or tensor.dtype.name != "FLOAT":
        return False
    numbers = tensor.numpy()
    with np.errstate(under="ignore", over="ignore"):
        return bool(numbers.any()) and not numbers.astype(np.float16).any()
