"""Match values of an artifact's graph with calls of the eager model's modules.

The artifact's own word comes first: the module path on a node. The remaining calls are aligned in
order, by kind of operator and shape. If several values of the right shape may be the result (a
module that computes more than one operator), all are kept: the one nearest the truth is chosen when
they are measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from converters.debug.match.by_path import match_by_path
from converters.debug.match.fuse import add_rounded, claim_rounded, fold_norms, fuse_following
from converters.debug.match.graph import Graph, Node
from converters.debug.match.in_order import match_between, match_in_order
from converters.debug.match.kinds import replaces
from converters.debug.match.layer import CallKey, Layer, LayerCall, Unmatched
from converters.debug.match.matching import Matching

_ABSENT = "no value of its own in the artifact: removed, fused or folded"


def align(calls: Sequence[LayerCall], graph: Graph) -> tuple[list[Layer], list[Unmatched]]:
    """Return the layers that can be compared, in graph order, and the calls that cannot."""
    graph = _without_borrowed_paths(calls, graph)
    matching = match_by_path(calls, graph.nodes)
    matching = _merge(matching, calls, graph)
    matching = match_in_order(matching, calls, graph)
    # Calls that were matched in order may share values too.
    matching = _merge(matching, calls, graph)
    open_calls = [call for call in calls if not matching.resolved(call) and not call.passive]
    matching = claim_rounded(matching, open_calls, graph)
    matching = match_between(matching, open_calls, graph)
    names = _names(calls)
    layers = _layers(matching, calls, graph, names)
    return layers, _unmatched(matching, calls, names)


def _merge(matching: Matching, calls: Sequence[LayerCall], graph: Graph) -> Matching:
    """Find the calls that share a value with the call before them."""
    return fuse_following(fold_norms(matching, calls, graph), calls, graph)


def _layers(
    matching: Matching, calls: Sequence[LayerCall], graph: Graph, names: dict[CallKey, str]
) -> list[Layer]:
    """Return the matched layers in the order of the graph."""
    pairs = add_rounded(matching.candidates, graph)
    layers = []
    for call in calls:
        if call.key not in matching.candidates:
            continue
        chain = matching.chain(call.key)
        nodes, makers = zip(*pairs[call.key], strict=True)
        layer = Layer(
            name=" + ".join(names[key] for key in chain),
            key=call.key,
            shape=call.shape,
            nodes=nodes,
            made_by=makers,
            start=chain[0],
        )
        layers.append(layer)
    return sorted(layers, key=lambda layer: layer.nodes[-1])


def _unmatched(
    matching: Matching, calls: Sequence[LayerCall], names: dict[CallKey, str]
) -> list[Unmatched]:
    """Return the calls that no layer covers, with the reason."""
    covered: set[CallKey] = set()
    for key in matching.candidates:
        covered.update(matching.chain(key))
    unmatched = []
    for call in calls:
        if call.key not in covered and not call.passive:
            why = matching.mismatches.get(call.key, _ABSENT)
            unmatched.append(Unmatched(names[call.key], why))
    return unmatched


def _without_borrowed_paths(calls: Sequence[LayerCall], graph: Graph) -> Graph:
    """Drop the paths of fused nodes that are named after their activation: they compute more."""
    kinds = {call.key[0]: call.kind for call in calls}

    def is_borrowed(node: Node) -> bool:
        module_kind = kinds.get(node.path or "", "")
        return bool(node.fused and replaces(module_kind, node.fused))

    nodes = [replace(node, path=None) if is_borrowed(node) else node for node in graph.nodes]
    return Graph(nodes, graph.outputs)


def _names(calls: Sequence[LayerCall]) -> dict[CallKey, str]:
    """Return the name of each call: its path, with a number if the module runs several times."""
    counts = Counter(call.key[0] for call in calls)
    names = {}
    for call in calls:
        path, index = call.key
        several = counts[path] > 1
        names[call.key] = f"{path} (call {index + 1} of {counts[path]})" if several else path
    return names
