"""Layers that share one value of an artifact: what an exporter, an engine or a quantizer made one of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from converters.debug.match.graph import Graph
from converters.debug.match.kinds import ACTIVATIONS, replaces
from converters.debug.match.layer import CallKey, Layer, LayerCall

NORMS = ("batchnorm",)
_FOLDED_INTO = ("conv", "convtranspose", "linear")


Candidates = dict[CallKey, tuple[int, ...]]
"""Per call the indices of the nodes that may make its result."""


def fold_norms(calls: Sequence[LayerCall], graph: Graph, found: Candidates) -> dict[CallKey, CallKey]:
    """BatchNorms that became part of the layer before: their result is that layer's. -> what each is in."""
    kinds = {one.key: one.kind for one in calls}
    folded: dict[CallKey, CallKey] = {}
    for one in calls:
        if one.kind not in NORMS or one.source is None or kinds[one.source] not in _FOLDED_INTO:
            continue
        if one.source in found and one.key not in found and not _normalised(graph, found[one.source]):
            found[one.key] = found.pop(one.source)
        if one.key in found and one.source not in found:
            folded[one.key] = one.source
    return folded


def _normalised(graph: Graph, nodes: Iterable[int]) -> bool:
    """Whether a normalisation of its own takes one of these nodes' values."""
    return any(after.kind in NORMS for index in nodes for after in graph.consumers(graph.nodes[index].value))


def fuse(
    calls: Sequence[LayerCall],
    graph: Graph,
    found: Candidates,
    folded: dict[CallKey, CallKey],
    why: dict[CallKey, str],
) -> None:
    """Give the value of a node that computes what comes next too (FusedConv) to the call that does so.

    That is an activation, or a block that ends in an addition. Where it is no module, there is nothing that the
    value can be compared with.
    """
    for position, one in enumerate(calls):
        node = graph.nodes[found[one.key][-1]] if one.key in found else None
        if node is None or not node.fused or _does(one, node.fused):
            continue
        nodes = found.pop(one.key)
        behind = _behind(calls[position + 1 :], graph, found, nodes[-1])
        if behind is None:
            hidden = f"{node.name} computes {node.fused} too, which is no module"
            why.update(dict.fromkeys([one.key, *([folded[one.key]] if one.key in folded else [])], hidden))
        else:
            found[behind], folded[behind] = nodes, one.key


def _behind(calls: Sequence[LayerCall], graph: Graph, found: Candidates, index: int) -> CallKey | None:
    """The call that still has no value and fits, among those up to the first one later in the graph."""
    node = graph.nodes[index]
    for one in calls:
        if one.key in found:
            if found[one.key][-1] > index:
                return None
        elif one.shape == node.shape and _does(one, node.fused):
            return one.key
    return None


def _does(call: LayerCall, fused: str) -> bool:
    """Whether a call computes what is fused into a node: an activation, or a sum that no module inside it makes."""
    return bool(replaces(call.kind, fused)) or (fused == "add" and not call.leaf)


def claim_rounded(calls: Sequence[LayerCall], graph: Graph, found: Candidates) -> None:
    """Give an activation that a quantizer made superfluous the value behind that quantizer."""
    taken = {index for indices in found.values() for index in indices}
    for one in calls:
        if one.key in found or one.kind not in ACTIVATIONS or one.source not in found:
            continue
        rounded = [index for index in graph.rounded(found[one.source][-1]) if index not in taken]
        if rounded and graph.nodes[rounded[0]].shape == one.shape:
            found[one.key] = tuple(rounded)


def settle(graph: Graph, found: Candidates) -> dict[CallKey, list[tuple[int, int]]]:
    """Add the values behind quantizers. -> pairs of the node to read and the node that computes it.

    What a layer is rounded to is part of it: the layers behind take nothing else. Not before an activation:
    there a quantizer may cut off what the activation cuts off anyway.
    """
    taken = {index for indices in found.values() for index in indices}

    def behind(index: int) -> list[int]:
        rounded = [one for one in graph.rounded(index) if one not in taken]
        users = {node.kind for one in rounded for node in graph.consumers(graph.nodes[one].value)}
        return [] if users and users <= ACTIVATIONS else rounded

    return {
        key: [(one, index) for index in indices for one in (index, *behind(index))]
        for key, indices in found.items()
    }


def last_of_each(layer: Layer, values: Sequence[np.ndarray[Any, Any]], truth: np.ndarray[Any, Any]) -> list[int]:
    """Which of a layer's candidates to compare: those behind quantizers rather than those before.

    A quantizer that lets nothing below zero through does the work of an activation that was removed for it:
    where the layer's truth goes below zero, that activation is a step of its own, and the value before it counts.
    """
    rounded = {
        number
        for number, (node, maker) in enumerate(zip(layer.nodes, layer.made_by, strict=True))
        if node != maker and not (values[number].min(initial=0) >= 0 > truth.min(initial=0))
    }
    settled = {layer.made_by[number] for number in rounded}
    return [
        number
        for number, (node, maker) in enumerate(zip(layer.nodes, layer.made_by, strict=True))
        if number in rounded or (node == maker and maker not in settled)
    ]
