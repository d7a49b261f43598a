"""A partial matching of module calls with the nodes of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from converters.debug.match.graph import Graph, Node
from converters.debug.match.kinds import replaces
from converters.debug.match.layer import CallKey, LayerCall

Candidates = Mapping[CallKey, tuple[int, ...]]
"""Per call the indices of the nodes that may produce its result, in the order of the graph."""

# More values than this of one shape inside one module are rare (attention has them); the last ones
# are its result, and each costs memory and time.
MAX_CANDIDATES = 4


@dataclass(frozen=True)
class Matching:
    """Results of the matching steps so far. A step returns a new matching.

    Attributes:
        candidates: the nodes of the calls that have a value of their own.
        fused: calls that share the value of the call before them, and that call: of a convolution
            with a folded BatchNorm only the BatchNorm has candidates.
        mismatches: calls that cannot be compared, and why.
    """

    candidates: Candidates
    fused: Mapping[CallKey, CallKey]
    mismatches: Mapping[CallKey, str]

    def resolved(self, call: LayerCall) -> bool:
        """Whether a call is part of another call's value, or known not to be comparable."""
        return call.key in self.mismatches or call.key in self.fused.values()

    def taken_nodes(self) -> set[int]:
        """Return the nodes that are candidates of any call."""
        return set().union(*self.candidates.values())

    def chain(self, key: CallKey) -> list[CallKey]:
        """Return the calls that share the value of the call `key`, the first one first."""
        chain = [key]
        while chain[0] in self.fused:
            chain.insert(0, self.fused[chain[0]])
        return chain


def is_resized(call: LayerCall, node: Node) -> bool:
    """Whether the node does what the call does at another size.

    That is the trace of a constant that was folded at one batch size. Anything else of another
    shape counts as an inner step or another layout, and is not compared.
    """
    if node.shape is None or len(node.shape) != len(call.shape):
        return False
    if call.kind and not replaces(call.kind, node.kind):
        return False
    sizes = zip(call.shape, node.shape, strict=True)
    return sum(expected != actual for expected, actual in sizes) == 1


def free_nodes(graph: Graph) -> list[int]:
    """Return the nodes that do not say which module they come from, and whose shape is known."""
    free = []
    for index, node in enumerate(graph.nodes):
        if node.path is None and node.shape is not None:
            free.append(index)
    return free
