"""Defects of operators: replaced by a near one, removed, a branch folded."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import onnx
import onnx_ir as ir

from mutation.changes.change import Place
from mutation.formats.graph import Graph

_NEAR: dict[str, tuple[str, ...]] = {
    "Relu": ("LeakyRelu", "Elu", "Softplus", "Gelu"),
    "LeakyRelu": ("Relu", "Elu"),
    "Elu": ("Selu", "Relu", "Celu"),
    "Softplus": ("Relu", "Elu"),
    "HardSwish": ("Relu", "Mish"),
    "HardSigmoid": ("Sigmoid",),
    "Sigmoid": ("HardSigmoid", "Tanh"),
    "Tanh": ("Softsign", "Erf", "HardSigmoid"),
    "Erf": ("Tanh",),
    "Floor": ("Round", "Ceil"),
    "Round": ("Floor", "Ceil"),
    "ReduceMean": ("ReduceMax", "ReduceSum", "ReduceL2"),
    "ReduceMax": ("ReduceMean", "ReduceMin"),
    "ReduceMin": ("ReduceMean", "ReduceMax"),
    "ReduceSum": ("ReduceMean", "ReduceL1"),
    "ReduceL2": ("ReduceL1", "ReduceSumSquare"),
    "ReduceL1": ("ReduceL2",),
    "ArgMax": ("ArgMin",),
    "Greater": ("GreaterOrEqual", "Less"),
    "GreaterOrEqual": ("Greater",),
    "Less": ("LessOrEqual", "Greater"),
    "LessOrEqual": ("Less",),
    "Add": ("Sub", "Max"),
    "Sub": ("Add",),
    "Mul": ("Div", "Add"),
    "Div": ("Mul",),
    "Max": ("Min", "Add"),
    "Min": ("Max",),
    "Softmax": ("LogSoftmax", "Hardmax"),
    "LogSoftmax": ("Softmax",),
    "GlobalAveragePool": ("GlobalMaxPool",),
    "Exp": ("Softplus",),
    "Log": ("Sqrt",),
    "Sqrt": ("Abs",),
    "Sin": ("Cos",),
    "Cos": ("Sin",),
}
_POOLS = {"AveragePool": "MaxPool", "MaxPool": "AveragePool"}
_REMOVABLE = (
    *("Relu", "LeakyRelu", "Elu", "Softplus", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh"),
    *(
        "Clip",
        "Round",
        "Floor",
        "Softmax",
        "LogSoftmax",
        "Gelu",
        "Exp",
        "Log",
        "Sqrt",
        "Neg",
        "Abs",
    ),
    *("LayerNormalization", "InstanceNormalization", "CumSum"),
)


def operator_replaced(graph: Graph) -> Iterator[Place]:
    """Replace an operator by a near one."""
    for node in graph.nodes():
        for kind in _near(node) if len(node.outputs) == 1 else ():
            where = f"{node.op_type} {node.outputs[0].name}"
            yield Place(where, partial(_replace, graph, node, kind))


def operator_removed(graph: Graph) -> Iterator[Place]:
    """Leave out an operator that keeps the shape."""
    for node in graph.nodes():
        if node.op_type in _REMOVABLE and len(node.outputs) == 1:
            where = f"{node.op_type} {node.outputs[0].name}"
            yield Place(where, partial(_replace, graph, node, "Identity"))


def branch_folded(graph: Graph) -> Iterator[Place]:
    """Fold an If or a Where to one of its sides."""
    for node in graph.nodes():
        if node.op_type in ("If", "Where"):
            for side in (True, False):
                where = f"{node.op_type} {node.outputs[0].name} is {side}"
                yield Place(where, partial(_fold, graph, node, side))


def _near(node: ir.Node) -> tuple[str, ...]:
    if node.op_type == "Gelu":
        return ("Gelu",)
    if node.op_type in _POOLS:
        return (_POOLS[node.op_type],)
    return _NEAR.get(node.op_type, ())


def _replace(graph: Graph, node: ir.Node, kind: str, rng: np.random.Generator) -> str:
    """Put another operator of the same inputs in the node's place."""
    attributes = {name: value for name, value in node.attributes.items() if _keeps(kind, name)}
    if kind == "Gelu" and node.op_type == "Gelu":
        form = node.attributes.get("approximate")
        exact = form is None or form.as_string() == "none"
        attributes = {"approximate": ir.AttrString("approximate", "tanh" if exact else "none")}
    inputs = [node.inputs[0]] if kind == "Identity" else list(node.inputs)
    replacement = ir.Node("", kind, inputs, list(attributes.values()), num_outputs=1)
    output, new = node.outputs[0], replacement.outputs[0]
    owner = node.graph
    assert owner is not None
    owner.insert_before(node, replacement)
    name = output.name
    output.name, new.name, new.type = f"{name}_replaced", name, output.type
    output.replace_all_uses_with(new, replace_graph_outputs=True)
    owner.remove(node, safe=False)
    return f"{kind} instead of {node.op_type}"


def _keeps(kind: str, attribute: str) -> bool:
    """Return whether an operator has an attribute of the one that it replaces."""
    return attribute != "alpha" and attribute in onnx.defs.get_schema(kind).attributes


def _fold(graph: Graph, node: ir.Node, side: bool, rng: np.random.Generator) -> str:
    node.replace_input_with(0, graph.add_constant(np.asarray(side)))
    return "always"
