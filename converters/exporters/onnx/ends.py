"""Names of a graph's inputs and outputs: the user's, whatever the exporter called inner values.

Values of an ONNX graph have one name each (static single assignment). Exporters name inner values
after operators (`mean`, `linear`) and modules (`a.weight`), so a user's name may be taken; the
inner value is renamed then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


def name_ends(model: ir.Model, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Name the graph's inputs and outputs in order; the names are unique together.

    An output that is an input, a constant or another output as well gets an Identity of its own.
    Raises ValueError if the graph has another number of either.
    """
    graph = model.graph
    _separate_outputs(graph)
    ends = [*graph.inputs, *graph.outputs]
    names = [*inputs, *outputs]
    taken = {value.name for value in _values(graph)} | set(names)
    for value in _values(graph):
        if value.name in names and not any(value is end for end in ends):
            value.name = _free(str(value.name), taken)
    for end in ends:  # first to names that nothing has: an input's may be another's until now
        end.name = _free("end", taken)
    if len(graph.inputs) != len(inputs) or len(graph.outputs) != len(outputs):
        raise ValueError(
            f"the graph has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, not "
            f"{len(inputs)} and {len(outputs)}: is an input unused?"
        )
    for end, name in zip(ends, names, strict=True):
        end.name = name


def _separate_outputs(graph: ir.Graph) -> None:
    import onnx_ir as ir

    seen: set[ir.Value] = set()
    for index, value in enumerate(graph.outputs):
        inner = value.producer() is not None
        if inner and value not in seen:
            seen.add(value)
            continue
        identity = ir.node("Identity", [value])
        copied = identity.outputs[0]
        copied.shape, copied.type = value.shape, value.type
        graph.append(identity)
        graph.outputs[index] = copied


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    """Yield the values of a graph and of the graphs inside its nodes, inputs and constants too."""
    import onnx_ir as ir

    yield from graph.inputs
    yield from list(graph.initializers.values())
    for node in ir.traversal.RecursiveGraphIterator(graph):
        yield from node.outputs
        for attribute in node.attributes.values():
            for body in _bodies(attribute):
                yield from body.inputs
                yield from list(body.initializers.values())


def _bodies(attribute: ir.Attr) -> Sequence[ir.Graph]:
    import onnx_ir as ir

    if attribute.type == ir.AttributeType.GRAPH:
        return [attribute.as_graph()]
    return attribute.as_graphs() if attribute.type == ir.AttributeType.GRAPHS else []


def _free(name: str, taken: set[str | None]) -> str:
    """Return a name that no value has, and note it as taken."""
    free = next(f"{name}_{number}" for number in count(1) if f"{name}_{number}" not in taken)
    taken.add(free)
    return free
