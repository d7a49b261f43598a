"""int8 tables of embeddings: each row has its own scale, and is multiplied after it is looked up.

ONNX Runtime's quantizer has such tables in int4 only. The lookup is exact but for the rounding of
the table: half a step of the largest value of a row.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from converters.graph.qdq import Array, constant, drop_unused, new_constant, users

if TYPE_CHECKING:
    import onnx_ir as ir

_SMALLEST = 1024
"""Elements of a table that is worth two more operators."""
_INT8_MAX = 127


def quantize_embeddings(model: ir.Model, exclude: Collection[str]) -> int:
    """Replace lookups in float tables in place, except the nodes `exclude`; return how many."""
    replaced = 0
    for node in list(model.graph):
        table = _table(node)
        if table is not None and node.name not in exclude:
            _replace(model, node, table)
            replaced += 1
    if replaced:
        drop_unused(model)
    return replaced


def _table(node: ir.Node) -> Array | None:
    """Return the table [rows, width] that a node looks up rows of, and nothing else reads."""
    value = node.inputs[0] if node.op_type == "Gather" else None
    axis = node.attributes.get("axis")
    if value is None or (axis is not None and axis.as_int() != 0):
        return None
    array = constant(value)
    if array is None or array.ndim != 2 or array.dtype != np.float32 or array.size < _SMALLEST:
        return None
    return array if all(reader.op_type == "Gather" for reader in users(value)) else None


def _replace(model: ir.Model, node: ir.Node, table: Array) -> None:
    import onnx_ir as ir

    value, ids = node.inputs
    assert value is not None
    largest = np.abs(table).max(1, keepdims=True)
    steps = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(_INT8_MAX)
    codes = np.rint(table / steps).astype(np.int8)
    name = node.name or value.name
    parts = {"codes": codes, "steps": steps}
    lookups = {}
    for part, array in parts.items():
        source = new_constant(model, f"{value.name}_{part}", array)
        lookups[part] = ir.node("Gather", [source, ids], name=f"{name}_{part}")
    cast = ir.node("Cast", lookups["codes"].outputs, {"to": ir.DataType.FLOAT}, name=f"{name}_cast")
    factors = [cast.outputs[0], lookups["steps"].outputs[0]]
    product = ir.node("Mul", factors, name=f"{name}_values")
    chain = [*lookups.values(), cast, product]
    for added in chain:
        added.metadata_props.update(node.metadata_props)
        added.outputs[0].name = f"{added.name}_out"
    product.outputs[0].dtype, product.outputs[0].shape = ir.DataType.FLOAT, node.outputs[0].shape
    model.graph.insert_before(node, chain)
    original = node.outputs[0].name
    node.outputs[0].replace_all_uses_with(product.outputs[0], replace_graph_outputs=True)
    model.graph.remove(node, safe=True)
    product.outputs[0].name = original
