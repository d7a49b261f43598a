"""Layers that share one value: an exporter, an engine or a quantizer merged them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from converters.debug.match.graph import Graph
from converters.debug.match.kinds import ACTIVATIONS, replaces
from converters.debug.match.layer import CallKey, Layer, LayerCall
from converters.debug.match.matching import Candidates, Matching

NORMS = ("batchnorm",)
_FOLDED_INTO = ("conv", "convtranspose", "linear")


def fold_norms(matching: Matching, calls: Sequence[LayerCall], graph: Graph) -> Matching:
    """Give a folded BatchNorm the value of the layer before it, which computes both."""
    kinds = {call.key: call.kind for call in calls}
    candidates, fused = dict(matching.candidates), dict(matching.fused)
    for call in calls:
        source = call.source
        if call.kind not in NORMS or source is None or kinds[source] not in _FOLDED_INTO:
            continue
        unmatched = call.key not in candidates
        if unmatched and source in candidates and not _normalised(graph, candidates[source]):
            candidates[call.key] = candidates.pop(source)
        if call.key in candidates and source not in candidates:
            fused[call.key] = source
    return replace(matching, candidates=candidates, fused=fused)


def _normalised(graph: Graph, nodes: Iterable[int]) -> bool:
    """Whether a separate normalisation takes the value of one of these nodes."""
    for index in nodes:
        consumers = graph.consumers(graph.nodes[index].value)
        if any(consumer.kind in NORMS for consumer in consumers):
            return True
    return False


def fuse_following(matching: Matching, calls: Sequence[LayerCall], graph: Graph) -> Matching:
    """Give the value of a node that also computes what follows (FusedConv) to the call that does.

    That is an activation, or a block that ends in an addition. If no module does it, the value
    cannot be compared with anything.
    """
    candidates, fused = dict(matching.candidates), dict(matching.fused)
    mismatches = dict(matching.mismatches)
    for position, call in enumerate(calls):
        node = graph.nodes[candidates[call.key][-1]] if call.key in candidates else None
        if node is None or not node.fused or _computes(call, node.fused):
            continue
        nodes = candidates.pop(call.key)
        following = _following(calls[position + 1 :], graph, candidates, nodes[-1])
        if following is not None:
            candidates[following], fused[following] = nodes, call.key
            continue
        why = f"{node.name} computes {node.fused} too, which is no module"
        mismatches[call.key] = why
        if call.key in fused:
            mismatches[fused[call.key]] = why
    return Matching(candidates, fused, mismatches)


def _following(
    calls: Sequence[LayerCall], graph: Graph, candidates: Candidates, index: int
) -> CallKey | None:
    """Return the first call that fits and has no value, up to the first one later in the graph."""
    node = graph.nodes[index]
    for call in calls:
        if call.key in candidates:
            if candidates[call.key][-1] > index:
                return None
        elif call.shape == node.shape and _computes(call, node.fused):
            return call.key
    return None


def _computes(call: LayerCall, fused: str) -> bool:
    """Whether a call computes what is fused into a node.

    That is an activation, or an addition that no module inside the call makes.
    """
    return bool(replaces(call.kind, fused)) or (fused == "add" and not call.leaf)


def claim_rounded(matching: Matching, calls: Sequence[LayerCall], graph: Graph) -> Matching:
    """Give an activation that a quantizer made superfluous the value after that quantizer."""
    taken = matching.taken_nodes()
    candidates = dict(matching.candidates)
    for call in calls:
        is_open = call.key not in candidates and call.kind in ACTIVATIONS
        if not is_open or call.source not in candidates:
            continue
        rounded = graph.rounded(candidates[call.source][-1])
        rounded = [index for index in rounded if index not in taken]
        if rounded and graph.nodes[rounded[0]].shape == call.shape:
            candidates[call.key] = tuple(rounded)
    return replace(matching, candidates=candidates)


def add_rounded(
    candidates: Candidates, graph: Graph
) -> Mapping[CallKey, tuple[tuple[int, int], ...]]:
    """Add the values after quantizers; return pairs of the node to read and the one that computes.

    The rounded value belongs to the layer: the layers after it take nothing else. Not before an
    activation: there a quantizer may cut off what the activation cuts off anyway.
    """
    taken = set().union(*candidates.values())
    pairs = {}
    for key, indices in candidates.items():
        of_call: list[tuple[int, int]] = []
        for index in indices:
            of_call.append((index, index))
            rounded = [number for number in graph.rounded(index) if number not in taken]
            if not _feeds_activations(graph, rounded):
                of_call.extend((number, index) for number in rounded)
        pairs[key] = tuple(of_call)
    return pairs


def _feeds_activations(graph: Graph, nodes: Sequence[int]) -> bool:
    """Whether these nodes' values are read, and only by activations."""
    kinds: set[str] = set()
    for index in nodes:
        consumers = graph.consumers(graph.nodes[index].value)
        kinds.update(consumer.kind for consumer in consumers)
    return bool(kinds) and kinds <= ACTIVATIONS


def last_of_each(
    layer: Layer, values: Sequence[np.ndarray[Any, Any]], truth: np.ndarray[Any, Any]
) -> list[int]:
    """Select the candidates of a layer to compare: those after quantizers, not those before.

    A quantizer that lets nothing below zero through does the work of an activation that was removed
    for it. If the layer's truth goes below zero, that activation is a step of its own, and the
    value before the quantizer counts.
    """
    settled: set[int] = set()
    rounded: set[int] = set()
    for number, (node, maker) in enumerate(zip(layer.nodes, layer.made_by, strict=True)):
        clamps = values[number].min(initial=0) >= 0 > truth.min(initial=0)
        if node != maker and not clamps:
            rounded.add(number)
            settled.add(maker)
    selected = []
    for number, (node, maker) in enumerate(zip(layer.nodes, layer.made_by, strict=True)):
        if number in rounded or (node == maker and maker not in settled):
            selected.append(number)
    return selected
