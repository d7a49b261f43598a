"""Defects of TorchScript's graphs beside those of their tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mutation.changes.casts import BOUNDS
from mutation.changes.change import Finder, Place
from runtimes.validator.probes import batch_dimension

if TYPE_CHECKING:
    from mutation.formats.torchscript import ScriptModel

_NEAR: dict[str, tuple[str, ...]] = {
    "relu": ("selu", "relu6", "mish"),
    "relu6": ("relu",),
    "silu": ("mish", "relu"),
    "hardswish": ("silu", "relu"),
    "sigmoid": ("hardsigmoid", "tanh"),
    "hardsigmoid": ("sigmoid",),
    "tanh": ("erf", "sigmoid"),
    "floor": ("round", "ceil"),
    "round": ("floor", "ceil"),
    "amax": ("amin",),
    "amin": ("amax",),
    "add": ("sub",),
    "sub": ("add",),
    "mul": ("div",),
    "div": ("mul",),
    "gt": ("ge", "lt"),
    "exp": ("expm1",),
    "log": ("log1p",),
    "square": ("abs",),
}
_REMOVABLE = (
    *("relu", "relu6", "silu", "gelu", "elu", "hardswish", "sigmoid", "hardsigmoid", "tanh"),
    *("leaky_relu", "softplus", "softmax", "log_softmax", "clamp", "floor", "round", "log"),
    *("layer_norm", "group_norm", "cumsum"),
)
_ORDERED = ("sub", "div", "matmul", "gt", "lt")


def all_nodes(block: Any) -> Iterator[Any]:
    """Yield the nodes of a graph or a block, those of branches too."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from all_nodes(inner)


def _attribute_moved(graph: ScriptModel) -> Iterator[Place]:
    """Move one number that is an argument: a stride, an axis, an epsilon, a switch."""
    for node in graph.nodes():
        if node.kind() == "prim::Constant" and node.hasAttribute("value"):
            kind = node.kindOf("value")
            if kind in ("i", "f") and list(node.output().uses()):
                yield Place(_reader(node), partial(_move, node, kind))


def _operator_replaced(graph: ScriptModel) -> Iterator[Place]:
    """Replace an operator by a near one of the same arguments."""
    for node in graph.nodes():
        for kind in _NEAR.get(_name(node), ()):
            yield Place(_label(node), partial(_replace, graph, node, kind))


def _operator_removed(graph: ScriptModel) -> Iterator[Place]:
    """Leave out an operator that keeps the shape."""
    for node in graph.nodes():
        if _name(node) in _REMOVABLE:
            yield Place(_label(node), partial(_remove, node))


def _branch_folded(graph: ScriptModel) -> Iterator[Place]:
    """Fold an If to one of its sides."""
    for node in graph.nodes():
        if node.kind() == "prim::If":
            for side in (True, False):
                yield Place(f"{_label(node)} is {side}", partial(_fold, graph, node, side))


def _inputs_exchanged(graph: ScriptModel) -> Iterator[Place]:
    """Exchange two arguments of an operator whose arguments have an order."""
    for node in graph.nodes():
        if _name(node) in _ORDERED:
            yield Place(f"of {_label(node)}", partial(_exchange, node))


def _classes_exchanged(graph: ScriptModel) -> Iterator[Place]:
    """Exchange two indices of an output's axis."""
    for value, (name, spec) in _outputs(graph):
        for axis, size in enumerate(spec.shape):
            if axis and isinstance(size, int) and size > 1:
                where = f"axis {axis} of {name}"
                yield Place(where, partial(_exchange_classes, graph, value, axis, size))


def _samples_mixed(graph: ScriptModel) -> Iterator[Place]:
    """Mix the rows of an output's batch: reversed or rolled."""
    batch = batch_dimension(graph.inputs)
    for value, (name, spec) in _outputs(graph):
        if batch and spec.shape[:1] == (batch,):
            for form in ("flip", "roll"):
                yield Place(f"rows of {name}, {form}", partial(_mix, graph, value, form))


def _value_saturated(graph: ScriptModel) -> Iterator[Place]:
    """Cut a computed value to a range, as a cast with saturation does."""
    for node in graph.nodes():
        if node.kind().startswith("aten::"):
            for value in node.outputs():
                if value.type().kind() == "TensorType" and list(value.uses()):
                    yield Place(_label(node), partial(_saturate, graph, value))


KINDS: dict[str, Finder] = {
    "attribute moved": _attribute_moved,
    "operator replaced": _operator_replaced,
    "operator removed": _operator_removed,
    "branch folded": _branch_folded,
    "inputs exchanged": _inputs_exchanged,
    "classes exchanged": _classes_exchanged,
    "samples mixed": _samples_mixed,
    "value saturated": _value_saturated,
}


def _name(node: Any) -> str:
    """Return the name of torch's operator; "" for others."""
    return str(node.kind()).partition("aten::")[2].rstrip("_")


def _label(node: Any) -> str:
    outputs = [value.debugName() for value in node.outputs()]
    return f"{node.kind().partition('::')[2]} {outputs[0] if outputs else ''}".strip()


def _reader(node: Any) -> str:
    """Name a constant by the argument that it is, in a list or by itself."""
    use = next(iter(node.output().uses()))
    place = f"number {use.offset} of {_label(use.user)}"
    outer = list(use.user.output().uses()) if use.user.kind() == "prim::ListConstruct" else []
    return f"{place} of {_label(outer[0].user)}" if outer else place


def _outputs(graph: ScriptModel) -> Iterator[tuple[Any, tuple[str, Any]]]:
    """Yield the values of the outputs, with names and specifications."""
    [value] = list(graph.module.graph.outputs())
    values = [value]
    if value.node().kind() in ("prim::TupleConstruct", "prim::ListConstruct"):
        values = list(value.node().inputs())
    if len(values) == len(graph.outputs):
        yield from zip(values, graph.outputs.items(), strict=True)


def _move(node: Any, kind: str, rng: np.random.Generator) -> str:
    if kind == "f":
        before = node.f("value")
        after = before * float(rng.choice([0.5, 0.9, 1.1, 2.0, 100.0])) or 0.1
        node.f_("value", after)
        return f"{after:g} instead of {before:g}"
    before = node.i("value")
    is_switch = node.output().type().kind() == "BoolType"
    after = 1 - before if is_switch else before + int(rng.choice([-1, 1]))
    node.i_("value", after)
    return f"{after} instead of {before}"


def _replace(graph: ScriptModel, node: Any, kind: str, rng: np.random.Generator) -> str:
    created = graph.module.graph.create(f"aten::{kind}", list(node.inputs()), 1)
    created.insertBefore(node)
    created.output().setType(node.output().type())
    node.output().replaceAllUsesWith(created.output())
    words = f"{kind} instead of {_name(node)}"
    node.destroy()
    return words


def _remove(node: Any, rng: np.random.Generator) -> str:
    node.output().replaceAllUsesWith(next(iter(node.inputs())))
    node.destroy()
    return "left out"


def _fold(graph: ScriptModel, node: Any, side: bool, rng: np.random.Generator) -> str:
    constant = _number(graph, int(side), torch._C.BoolType.get())
    constant.insertBefore(node)
    node.replaceInput(0, constant.output())
    return "always"


def _exchange(node: Any, rng: np.random.Generator) -> str:
    first, second = list(node.inputs())[:2]
    node.replaceInput(0, second)
    node.replaceInput(1, first)
    return "exchanged"


def _exchange_classes(
    graph: ScriptModel, value: Any, axis: int, size: int, rng: np.random.Generator
) -> str:
    first = int(rng.integers(size - 1))
    order = torch.arange(size)
    order[[first, first + 1]] = order[[first + 1, first]]
    tensor = graph.module.graph.create("prim::Constant", 1)
    tensor.t_("value", order)
    tensor.output().inferTypeFrom(order)
    number = _number(graph, axis, torch._C.IntType.get())
    _route(graph, value, "aten::index_select", [number, tensor])
    return f"{first} and {first + 1} exchanged"


def _mix(graph: ScriptModel, value: Any, form: str, rng: np.random.Generator) -> str:
    numbers = [0] if form == "flip" else [1, 0]
    nodes = []
    for number in numbers:
        constant = _number(graph, number, torch._C.IntType.get())
        listed = graph.module.graph.create("prim::ListConstruct", [constant.output()], 1)
        listed.output().setType(torch._C.ListType.ofInts())
        nodes += [constant, listed]
    _route(graph, value, f"aten::{form}", nodes, arguments=nodes[1::2])
    return "reversed" if form == "flip" else "rolled"


def _saturate(graph: ScriptModel, value: Any, rng: np.random.Generator) -> str:
    bound = float(rng.choice(BOUNDS))
    bounds = [_number(graph, limit, torch._C.FloatType.get()) for limit in (-bound, bound)]
    _route(graph, value, "aten::clamp", bounds)
    return f"cut to {-bound:g}..{bound:g}"


def _number(graph: ScriptModel, number: float, kind: Any) -> Any:
    """Create a constant; it has to be inserted."""
    constant = graph.module.graph.create("prim::Constant", 1)
    write: Callable[[str, Any], Any] = constant.f_ if isinstance(number, float) else constant.i_
    write("value", number)
    constant.output().setType(kind)
    return constant


def _route(
    graph: ScriptModel,
    value: Any,
    kind: str,
    nodes: list[Any],
    arguments: list[Any] | None = None,
) -> None:
    """Let everything that reads a value read what an operator makes of it and of new nodes."""
    last = value.node()
    for node in nodes:
        node.insertAfter(last)
        last = node
    further = [node.output() for node in (nodes if arguments is None else arguments)]
    changed = graph.module.graph.create(kind, [value, *further], 1)
    changed.insertAfter(last)
    changed.output().setType(value.type())
    value.replaceAllUsesAfterNodeWith(changed, changed.output())
