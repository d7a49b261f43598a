"""An artifact's graph as debugging sees it: nodes, what depends on what, and values that can be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from converters.debug.match.kinds import kind_of_operator
from runtimes.spec import Arrays


@dataclass(frozen=True)
class Node:
    """One operator.

    Attributes:
        name: as the artifact names it.
        op: the operator's name there.
        inputs: the values it depends on, constants left out.
        outputs: the values it makes.
        value: the first of them that is a tensor; "" where none is.
        shape: of `value`; None where it is not known.
        path: the module that it comes from, where the artifact tells.
        origin: what the exporter calls the operation that the node is a part of.
        fused: what the node computes last, where an engine fused it into it: an activation's kind, or "add".
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    value: str
    shape: tuple[int, ...] | None = None
    path: str | None = None
    origin: str = ""
    fused: str = ""

    @property
    def kind(self) -> str:
        """What it computes, in the words of `converters.debug.match.kinds`."""
        return kind_of_operator(self.op)


@dataclass(frozen=True)
class Graph:
    """Nodes in the order in which they run, and the values of the outputs."""

    nodes: Sequence[Node]
    outputs: Sequence[str]

    def makers(self) -> dict[str, int]:
        """Which node makes each value."""
        return {value: index for index, node in enumerate(self.nodes) for value in node.outputs}

    def consumers(self, value: str) -> list[Node]:
        """The nodes that take a value."""
        return [node for node in self.nodes if value in node.inputs]

    def rounded(self, index: int) -> list[int]:
        """The nodes of the values behind a quantizer that alone takes a node's value; none where there is none."""
        makers, after = self.makers(), self.consumers(self.nodes[index].value)
        if len(after) != 1 or after[0].op != "QuantizeLinear" or self.nodes[index].value in self.outputs:
            return []
        quantizer = makers[after[0].value]
        return [makers[one.value] for one in self.dequantizers(quantizer)] or [quantizer]

    def dequantizers(self, index: int) -> list[Node]:
        """The nodes that take a node's value, where all of them turn it into float values."""
        behind = self.consumers(self.nodes[index].value)
        return behind if all(one.op == "DequantizeLinear" for one in behind) else []


class Taps(Protocol):
    """Reads the values inside an artifact."""

    graph: Graph
    notes: list[str]

    def read(self, inputs: Arrays, values: Sequence[str]) -> Arrays:
        """The values that these inputs give, by name, from one run."""

    def runs_to(self, inputs: Arrays, index: int) -> bool:
        """Whether the nodes up to this one run, whatever sizes the graph declares for its inputs."""


@dataclass(frozen=True)
class Dependency:
    """What a value is made of: layers, and the nodes on the way that belong to none."""

    layers: frozenset[int]
    through: tuple[int, ...]


def dependencies(graph: Graph, layer_values: Sequence[Iterable[str]], outputs: int) -> list[Dependency]:
    """Walk back from each layer's last value to the values of other layers.

    Args:
        graph: the artifact's.
        layer_values: per layer the values that may be its result.
        outputs: how many layers at the end are the model's outputs; nothing is made of those.
    """
    makers = graph.makers()
    ends = len(layer_values) - outputs
    owner = {value: index for index, values in enumerate(layer_values[:ends]) for value in values}
    return [
        _walk(graph, makers, owner, list(values)[-1], index if index < ends else -1)
        for index, values in enumerate(layer_values)
    ]


def _walk(graph: Graph, makers: Mapping[str, int], owner: Mapping[str, int], start: str, own: int) -> Dependency:
    layers, through, seen, todo = set(), set(), {start}, [start]
    while todo:
        value = todo.pop()
        found = owner.get(value)
        if found is not None and found != own:
            layers.add(found)
            continue
        if value not in makers:
            continue  # an input of the graph
        through.add(makers[value])
        fresh = [one for one in graph.nodes[makers[value]].inputs if one not in seen]
        seen.update(fresh)
        todo += fresh
    return Dependency(frozenset(layers), tuple(sorted(through)))
