"""Match calls with the nodes that do not say which module they come from, by order and kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from converters.debug.match.fuse import NORMS
from converters.debug.match.graph import Graph, Node
from converters.debug.match.kinds import replaces
from converters.debug.match.layer import CallKey, LayerCall
from converters.debug.match.matching import MAX_CANDIDATES, Matching, free_nodes, is_resized

# ONNX Runtime's changes of layout, after the node that computes.
_LAYOUT = ("ReorderInput", "ReorderOutput")


def match_in_order(matching: Matching, calls: Sequence[LayerCall], graph: Graph) -> Matching:
    """Match the open calls with the longest common sequence of the calls and of the free nodes."""
    leaves: list[LayerCall] = []
    for call in calls:
        is_open = call.key not in matching.candidates and not matching.resolved(call)
        if is_open and call.leaf and call.kind:
            leaves.append(call)
    free = free_nodes(graph)
    matched: dict[CallKey, tuple[int, ...]] = {}
    for position, number in _longest(leaves, [graph.nodes[index] for index in free]):
        call, index = leaves[position], free[number]
        matched[call.key] = (index, *_bias(graph, index), *_gated(graph, index, call))
    return replace(matching, candidates={**matching.candidates, **matched})


def _longest(calls: Sequence[LayerCall], nodes: Sequence[Node]) -> list[tuple[int, int]]:
    """Return the pairs (call, node), both ascending, that fit best together; see `_score`."""
    best = [[0] * (len(nodes) + 1) for _ in range(len(calls) + 1)]
    for i in range(len(calls) - 1, -1, -1):
        for j in range(len(nodes) - 1, -1, -1):
            paired = _score(calls[i], nodes[j], best[i + 1][j + 1])
            best[i][j] = max(best[i + 1][j], best[i][j + 1], paired)
    pairs, i, j = [], 0, 0
    while i < len(calls) and j < len(nodes):
        if best[i][j] == _score(calls[i], nodes[j], best[i + 1][j + 1]):
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


def _score(call: LayerCall, node: Node, following: int) -> int:
    """Return the score of a pair and of all that follow it; -1 if the two do not fit."""
    score = replaces(call.kind, node.kind)
    if call.shape != node.shape:
        # Nothing but the order links the two: accept a different batch size, and no other.
        only_batch = call.shape[1:] == (node.shape or ())[1:]
        score = min(score, 1) if only_batch and is_resized(call, node) else 0
    return score + following if score else -1


def _bias(graph: Graph, index: int) -> list[int]:
    """Return the addition of a constant after a matrix product: both are one linear layer."""
    node = graph.nodes[index]
    if node.kind != "linear":
        return []
    consumers = graph.consumers(node.value)
    if len(consumers) != 1 or consumers[0].kind != "add" or consumers[0].inputs != (node.value,):
        return []
    return [graph.nodes.index(consumers[0])]


def _gated(graph: Graph, index: int, call: LayerCall) -> list[int]:
    """Return the product of an activation with its own input, if the call is another activation.

    SiLU is x times sigmoid(x).
    """
    node = graph.nodes[index]
    if call.kind == node.kind:
        return []
    for consumer in graph.consumers(node.value):
        shares_input = set(consumer.inputs) & set(node.inputs)
        if consumer.kind == "mul" and shares_input and consumer.shape == call.shape:
            return [graph.nodes.index(consumer)]
    return []


def match_between(matching: Matching, calls: Sequence[LayerCall], graph: Graph) -> Matching:
    """Match open calls with free values of their shape between the values of their neighbours."""
    taken = matching.taken_nodes()
    free: list[int] = []
    for index in free_nodes(graph):
        is_layout = graph.nodes[index].op in _LAYOUT
        if index not in taken and not is_layout and not graph.dequantizers(index):
            free.append(index)
    limits = _limits(matching, calls, len(graph.nodes))
    candidates = dict(matching.candidates)
    last = -1
    for call, limit in zip(calls, limits, strict=True):
        if call.key in candidates:
            last = max(last, candidates[call.key][-1])
        elif call.kind not in NORMS:
            between = [index for index in free if last < index < limit]
            fitting = [index for index in between if graph.nodes[index].shape == call.shape]
            if fitting:
                candidates[call.key] = tuple(fitting[-MAX_CANDIDATES:])
    return replace(matching, candidates=candidates)


def _limits(matching: Matching, calls: Sequence[LayerCall], end: int) -> list[int]:
    """Return per call the first node of this and all later calls; `end` if they have none."""
    limits: list[int] = []
    limit = end
    for call in reversed(calls):
        if call.key in matching.candidates:
            limit = min(limit, matching.candidates[call.key][0])
        limits.append(limit)
    return limits[::-1]
