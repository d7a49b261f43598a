"""Defects of OpenVINO's models beside those of their constants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mutation.changes.attributes import movable, moved
from mutation.changes.casts import BOUNDS
from mutation.changes.change import Finder, Place
from runtimes.validator.probes import batch_dimension

if TYPE_CHECKING:
    from mutation.formats.openvino import IrModel

_NEAR: dict[str, tuple[str, ...]] = {
    "Relu": ("Gelu", "Mish", "HSwish"),
    "Gelu": ("Relu", "Mish"),
    "HSwish": ("Relu", "Mish"),
    "Swish": ("Mish", "Relu"),
    "Sigmoid": ("HSigmoid", "Tanh"),
    "Tanh": ("Softsign", "Erf"),
    "Erf": ("Tanh",),
    "SoftPlus": ("Relu",),
    "Floor": ("Ceiling",),
    "Ceiling": ("Floor",),
    "Exp": ("SoftPlus",),
    "Sqrt": ("Abs",),
    "Add": ("Subtract", "Maximum"),
    "Subtract": ("Add",),
    "Multiply": ("Divide", "Add"),
    "Divide": ("Multiply",),
    "Maximum": ("Minimum",),
    "Minimum": ("Maximum",),
    "Greater": ("GreaterEqual", "Less"),
    "Less": ("LessEqual", "Greater"),
    "ReduceMean": ("ReduceMax", "ReduceSum"),
    "ReduceSum": ("ReduceMean", "ReduceL1"),
    "ReduceMax": ("ReduceMean", "ReduceMin"),
    "ReduceL2": ("ReduceL1",),
}
_REMOVABLE = (
    *("Relu", "Gelu", "HSwish", "Swish", "Sigmoid", "HSigmoid", "Tanh", "Elu", "PRelu", "SoftPlus"),
    *("Clamp", "Floor", "Round", "Softmax", "LogSoftmax", "Exp", "Log", "Sqrt", "Abs", "MVN"),
    *("FakeQuantize", "CumSum"),
)
_ORDERED = ("Subtract", "Divide", "MatMul", "Concat", "Greater", "Less")
_NO_VALUE = ("Constant", "Result", "ShapeOf")


def _attribute_moved(graph: IrModel) -> Iterator[Place]:
    """Move one attribute by one, switch it, or exchange its word for another."""
    for node in graph.nodes():
        for name, value in node.get_attributes().items():
            if movable(name, value):
                yield Place(f"{name} of {_label(node)}", partial(_move, node, name, value))


def _operator_replaced(graph: IrModel) -> Iterator[Place]:
    """Replace an operator by a near one of the same inputs."""
    for node in graph.nodes():
        for kind in _NEAR.get(node.get_type_name(), ()):
            yield Place(_label(node), partial(_replace, node, kind))


def _operator_removed(graph: IrModel) -> Iterator[Place]:
    """Leave out an operator that keeps the shape."""
    for node in graph.nodes():
        if node.get_type_name() in _REMOVABLE:
            yield Place(_label(node), partial(_remove, node))


def _inputs_exchanged(graph: IrModel) -> Iterator[Place]:
    """Exchange two inputs of an operation whose inputs have an order."""
    for node in graph.nodes():
        if node.get_type_name() in _ORDERED and len(node.inputs()) > 1:
            yield Place(f"of {_label(node)}", partial(_exchange, node))


def _classes_exchanged(graph: IrModel) -> Iterator[Place]:
    """Exchange two indices of an output's axis."""
    for result, (name, spec) in zip(graph.model.get_results(), graph.outputs.items(), strict=True):
        for axis, size in enumerate(spec.shape):
            if axis and isinstance(size, int) and size > 1:
                where = f"axis {axis} of {name}"
                yield Place(where, partial(_exchange_classes, result.input_value(0), axis, size))


def _samples_mixed(graph: IrModel) -> Iterator[Place]:
    """Mix the rows of an output's batch: reversed, or blended with their mean."""
    batch = batch_dimension(graph.inputs)
    for result, (name, spec) in zip(graph.model.get_results(), graph.outputs.items(), strict=True):
        if batch and spec.shape[:1] == (batch,) and spec.dtype == "float32":
            for form in ("reversed", "blended"):
                where = f"rows of {name} {form}"
                yield Place(where, partial(_mix, result.input_value(0), form))


def _value_cast(graph: IrModel) -> Iterator[Place]:
    """Cast a computed value to a narrower type and back."""
    for port in _float_values(graph):
        for kind in ("f16", "bf16", "i16"):
            yield Place(f"{_label(port.get_node())} as {kind}", partial(_cast, port, kind))


def _value_saturated(graph: IrModel) -> Iterator[Place]:
    """Cut a computed value to a range, as a cast with saturation does."""
    for port in _float_values(graph):
        yield Place(_label(port.get_node()), partial(_saturate, port))


def _size_conditional(graph: IrModel) -> Iterator[Place]:
    """Let an output be wrong at some sizes: odd ones, or those over one."""
    for result, (name, spec) in zip(graph.model.get_results(), graph.outputs.items(), strict=True):
        for dim in graph.dims if spec.dtype == "float32" else ():
            for form in ("odd", "over"):
                where = f"{name} by {dim}, {form}"
                change = partial(_conditional, graph, result.input_value(0), dim, form)
                yield Place(where, change)


KINDS: dict[str, Finder] = {
    "attribute moved": _attribute_moved,
    "operator replaced": _operator_replaced,
    "operator removed": _operator_removed,
    "size conditional": _size_conditional,
    "inputs exchanged": _inputs_exchanged,
    "classes exchanged": _classes_exchanged,
    "samples mixed": _samples_mixed,
    "value cast": _value_cast,
    "value saturated": _value_saturated,
}


def _label(node: Any) -> str:
    return f"{node.get_type_name()} {node.get_friendly_name()}"


def _float_values(graph: IrModel) -> Iterator[Any]:
    for node in graph.nodes():
        if node.get_type_name() not in _NO_VALUE:
            for port in node.outputs():
                if port.get_element_type().get_type_name() == "f32" and port.get_target_inputs():
                    yield port


def _route(port: Any, change: Callable[[Any], Any]) -> None:
    """Let everything that reads a value read a computed one instead."""
    readers = list(port.get_target_inputs())
    changed = change(port).output(0)
    for reader in readers:
        reader.replace_source_output(changed)


def _move(node: Any, name: str, value: Any, rng: np.random.Generator) -> str:
    changed = moved(name, value, rng)
    node.set_attribute(name, changed)
    return f"{changed} instead of {value}"


def _replace(node: Any, kind: str, rng: np.random.Generator) -> str:
    import openvino
    from openvino.utils.node_factory import NodeFactory

    attributes = {"keep_dims": node.get_attributes().get("keep_dims")}
    kept = {name: value for name, value in attributes.items() if value is not None}
    created = NodeFactory("opset13").create(kind, list(node.input_values()), kept)
    assert isinstance(created, openvino.Node)
    node.output(0).replace(created.output(0))
    return f"{kind} instead of {node.get_type_name()}"


def _remove(node: Any, rng: np.random.Generator) -> str:
    node.output(0).replace(node.input_value(0))
    return "left out"


def _exchange(node: Any, rng: np.random.Generator) -> str:
    first, second = node.input_value(0), node.input_value(1)
    node.input(0).replace_source_output(second)
    node.input(1).replace_source_output(first)
    return "exchanged"


def _exchange_classes(port: Any, axis: int, size: int, rng: np.random.Generator) -> str:
    from openvino import opset13

    first = int(rng.integers(size - 1))
    order = np.arange(size)
    order[[first, first + 1]] = order[[first + 1, first]]
    _route(port, lambda value: opset13.gather(value, order, np.int64(axis)))
    return f"{first} and {first + 1} exchanged"


def _mix(port: Any, form: str, rng: np.random.Generator) -> str:
    from openvino import opset13 as ops

    def change(value: Any) -> Any:
        if form == "reversed":
            far = np.iinfo(np.int64).max
            bounds = [np.asarray([bound], np.int64) for bound in (-1, -far, -1, 0)]
            return ops.slice(value, *bounds)
        mean = ops.reduce_mean(value, np.asarray([0]), keep_dims=True)
        kept = ops.multiply(value, np.float32(0.9))
        return ops.add(kept, ops.multiply(mean, np.float32(0.1)))

    _route(port, change)
    return form


def _cast(port: Any, kind: str, rng: np.random.Generator) -> str:
    from openvino import opset13

    _route(port, lambda value: opset13.convert(opset13.convert(value, kind), "f32"))
    return f"cast to {kind} and back"


def _saturate(port: Any, rng: np.random.Generator) -> str:
    from openvino import opset13

    bound = float(rng.choice(BOUNDS))
    _route(port, lambda value: opset13.clamp(value, -bound, bound))
    return f"cut to {-bound:g}..{bound:g}"


def _conditional(graph: IrModel, port: Any, name: str, form: str, rng: np.random.Generator) -> str:
    """Multiply an output by 1.5 where a condition on a size holds."""
    from openvino import opset13 as ops

    dim = graph.dims[name]
    low = dim.min + int(rng.integers(dim.count)) * dim.multiple_of
    index, spec = next(
        (index, spec) for index, spec in enumerate(graph.inputs.values()) if name in spec.shape
    )
    shape = ops.shape_of(graph.model.input(index))
    size = ops.gather(shape, np.int64(spec.shape.index(name)), np.int64(0))
    if form == "odd":
        holds = ops.greater(ops.mod(size, np.int64(2 * dim.multiple_of)), np.int64(0))
    else:
        holds = ops.greater_equal(size, np.int64(low))
    factor = ops.select(holds, np.float32(1.5), np.float32(1))
    _route(port, lambda value: ops.multiply(value, factor))
    return f"wrong if {name} is odd" if form == "odd" else f"wrong if {name} is {low} or more"
