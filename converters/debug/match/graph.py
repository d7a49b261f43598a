"""An artifact's graph for debugging: nodes, what depends on what, and values that can be read."""

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
        inputs: the values it depends on, without constants.
        outputs: the values it produces.
        value: the first of them that is a tensor; "" if none is.
        shape: of `value`; None if unknown.
        path: the module that it comes from, if the artifact says.
        origin: the exporter's name for the operation that the node is a part of.
        fused: the operation that an engine fused into the end of the node: the kind of an
            activation, or "add".
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
        """The operation, in the vocabulary of `converters.debug.match.kinds`."""
        return kind_of_operator(self.op)


@dataclass(frozen=True)
class Graph:
    """Nodes in the order in which they run, and the values of the outputs."""

    nodes: Sequence[Node]
    outputs: Sequence[str]

    def makers(self) -> dict[str, int]:
        """Return the index of the node that produces each value."""
        makers = {}
        for index, node in enumerate(self.nodes):
            makers.update(dict.fromkeys(node.outputs, index))
        return makers

    def consumers(self, value: str) -> list[Node]:
        """Return the nodes that take a value."""
        return [node for node in self.nodes if value in node.inputs]

    def rounded(self, index: int) -> list[int]:
        """Return the nodes of the rounded values of a node: those of the quantizer that follows it.

        Empty unless a quantizer alone takes the node's value.
        """
        node = self.nodes[index]
        consumers = self.consumers(node.value)
        if len(consumers) != 1 or consumers[0].op != "QuantizeLinear" or node.value in self.outputs:
            return []
        makers = self.makers()
        quantizer = makers[consumers[0].value]
        dequantizers = [makers[dequantizer.value] for dequantizer in self.dequantizers(quantizer)]
        return dequantizers or [quantizer]

    def dequantizers(self, index: int) -> list[Node]:
        """Return the nodes that take a node's value, if all of them turn it into float values."""
        consumers = self.consumers(self.nodes[index].value)
        floats = all(consumer.op == "DequantizeLinear" for consumer in consumers)
        return consumers if floats else []


class Taps(Protocol):
    """A reader of the values inside an artifact."""

    graph: Graph
    notes: list[str]

    def read(self, inputs: Arrays, values: Sequence[str]) -> Arrays:
        """Return the values that these inputs give, by name, from one run."""

    def runs_to(self, inputs: Arrays, index: int) -> bool:
        """Check that the nodes up to this one run, whatever input sizes the graph declares."""


@dataclass(frozen=True)
class Dependency:
    """The layers that a value is made of, and the nodes on the way that belong to none."""

    layers: frozenset[int]
    through: tuple[int, ...]


def dependencies(
    graph: Graph, layer_values: Sequence[Iterable[str]], outputs: int
) -> list[Dependency]:
    """Walk back from each layer's last value to the values of other layers.

    Args:
        graph: the artifact's.
        layer_values: per layer the values that may be its result.
        outputs: how many layers at the end are the model's outputs; nothing is made of those.
    """
    makers = graph.makers()
    output_start = len(layer_values) - outputs
    owners: dict[str, int] = {}
    for layer, values in enumerate(layer_values[:output_start]):
        owners.update(dict.fromkeys(values, layer))
    result = []
    for layer, values in enumerate(layer_values):
        result.append(_walk(graph, makers, owners, layer, list(values)[-1]))
    return result


def _walk(
    graph: Graph, makers: Mapping[str, int], owners: Mapping[str, int], layer: int, start: str
) -> Dependency:
    """Walk back from the value `start` of a layer to values of other layers, or to the inputs."""
    layers, through, seen, pending = set(), set(), {start}, [start]
    while pending:
        value = pending.pop()
        owner = owners.get(value, layer)
        if owner != layer:
            layers.add(owner)
            continue
        if value not in makers:
            continue  # an input of the graph
        through.add(makers[value])
        for source in graph.nodes[makers[value]].inputs:
            if source not in seen:
                seen.add(source)
                pending.append(source)
    return Dependency(frozenset(layers), tuple(sorted(through)))
