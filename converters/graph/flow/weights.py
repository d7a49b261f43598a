"""Give each layer a weight of its own, as a constant: quantizers look for one, and for no more.

Exporters write the head of a language model as a transposed embedding, and reorder the gates of an
LSTM in the graph. Quantizers skip such layers without a word, or fail on them; and one that writes
the transposed weight of a layer in its place would change it for all other readers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converters.graph.qdq import COMPUTE, Array, constant, drop_unused, new_constant, users

if TYPE_CHECKING:
    import onnx_ir as ir

_WEIGHTS = {**dict.fromkeys(COMPUTE, (1, 2)), **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2, 3))}
"""Indices of the inputs of a layer that are its weights."""
_LARGE = 1_900_000_000
"""Bytes of constants in one file: protobuf holds 2 GiB."""
_MOST_STEPS = 16
"""Operators between a constant and the weight that is made from it."""


def with_own_weights(graph: Path, work: Path) -> Path:
    """Return an ONNX file whose layers have constant weights of their own: `graph`, if they have.

    Args:
        graph: an ONNX file.
        work: folder for a new one.
    """
    import onnx_ir as ir

    model = ir.load(str(graph))
    if not own_weights(model):
        return graph
    target = work / "weights.onnx"
    tensors = [value.const_value for value in model.graph.initializers.values()]
    size = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    ir.save(model, str(target), external_data="weights.onnx.data" if size > _LARGE else None)
    return target


def own_weights(model: ir.Model) -> int:
    """Compute weights from constants, and copy those that others read, in place; return how many."""
    changed = 0
    for node in list(model.graph):
        for index in _WEIGHTS.get(node.op_type, ()):
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is None:
                continue
            if constant(value) is None:
                array = _folded(model, value)
            else:
                array = constant(value) if _is_shared(node, value) else None
            if array is not None:
                name = f"{value.name}_of_{node.name}"
                node.replace_input_with(index, new_constant(model, name, array))
                changed += 1
    if changed:
        drop_unused(model)
    return changed


def _is_shared(layer: ir.Node, value: ir.Value) -> bool:
    """Return whether a change of the weight in its place would change another operator's input."""
    readers = [reader for reader in users(value) if reader is not layer]
    transposed = layer.op_type == "Gemm"  # quantizers rewrite it as a MatMul
    return bool(readers) and (transposed or any(node.op_type not in COMPUTE for node in readers))


def _folded(model: ir.Model, value: ir.Value) -> Array | None:
    """Compute a value that depends on constants alone; None if it does not."""
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    chain = _chain(model, value)
    if chain is None:
        return None
    arrays: dict[str, Array] = {}
    for node in chain:
        feeds = {}
        for source in node.inputs:
            if source is not None:
                name = str(source.name)
                array = arrays.get(name)
                feeds[name] = constant(source) if array is None else array
        opsets = dict(model.graph.opset_imports)
        results = ReferenceEvaluator(ir.to_proto(node), opsets=opsets).run(None, feeds)
        for output, result in zip(node.outputs, results, strict=False):
            arrays[str(output.name)] = np.asarray(result)
    return arrays[str(value.name)]


def _chain(model: ir.Model, value: ir.Value) -> list[ir.Node] | None:
    """Return the operators that compute a value from constants, in order; None if one has an input."""
    chain: list[ir.Node] = []
    pending = [value]
    while pending:
        current = pending.pop()
        if constant(current) is not None:
            continue
        node = current.producer()
        if node is None or len(chain) >= _MOST_STEPS or node.op_type.startswith("Random"):
            return None
        if node not in chain:
            chain.append(node)
        pending += [source for source in node.inputs if source is not None]
    order = {node: index for index, node in enumerate(model.graph)}
    return sorted(chain, key=order.__getitem__)
