"""Which value of an artifact's graph is the result of which call of the eager model.

First by what the artifact tells: the module path on a node. What is left is aligned in order, by kind of
operator and shape. Where several values of the right shape may be the result (a module that computes more
than one operator), all are kept: the one nearest the truth is taken when they are measured.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from converters.debug.match.fuse import NORMS, Candidates, claim_rounded, fold_norms, fuse, settle
from converters.debug.match.graph import Graph, Node
from converters.debug.match.kinds import replaces
from converters.debug.match.layer import CallKey, Layer, LayerCall, Unmatched

# More values than this of one shape inside one module are rare (attention has them); the last ones are its
# result, and each costs memory and time.
_CANDIDATES = 4
_LAYOUT = ("ReorderInput", "ReorderOutput")  # ONNX Runtime's, behind the node that computes


def align(calls: Sequence[LayerCall], graph: Graph) -> tuple[list[Layer], list[Unmatched]]:
    """The layers that can be compared, in the order of the graph, and the calls that cannot."""
    graph = _without_borrowed_paths(calls, graph)
    why: dict[CallKey, str] = {}
    found = _by_path(calls, graph.nodes, why)
    open_calls = [one for one in calls if one.key not in why]  # a known mismatch is told, not guessed away
    folded = fold_norms(calls, graph, found)
    fuse(calls, graph, found, folded, why)
    # Once more behind: what is found in order may be fused too, and what was fused is no longer looked for.
    _in_order([one for one in open_calls if one.key not in {*found, *folded.values(), *why}], graph, found)
    folded |= fold_norms(calls, graph, found)
    fuse(calls, graph, found, folded, why)
    inner = {*folded.values(), *why}
    rest = [one for one in calls if one.key not in inner and not one.passive]
    claim_rounded(rest, graph, found)
    _between(rest, graph, found)
    chains = {key: _chain(key, folded) for key in found}
    names, settled = _names(calls), settle(graph, found)
    layers = [
        Layer(
            " + ".join(names[key] for key in chains[one.key]),
            one.key,
            one.shape,
            tuple(after for after, _ in settled[one.key]),
            tuple(index for _, index in settled[one.key]),
            chains[one.key][0],
        )
        for one in calls
        if one.key in found
    ]
    covered = {key for chain in chains.values() for key in chain}
    missing = [
        Unmatched(names[one.key], why.get(one.key, _ABSENT))
        for one in calls
        if one.key not in covered and not one.passive
    ]
    return sorted(layers, key=lambda layer: layer.nodes[-1]), missing


def _without_borrowed_paths(calls: Sequence[LayerCall], graph: Graph) -> Graph:
    """Forget the paths of fused nodes that are named after the activation in them: they compute more than that."""
    kinds = {one.key[0]: one.kind for one in calls}
    nodes = [
        replace(node, path=None) if node.fused and replaces(kinds.get(node.path or "", ""), node.fused) else node
        for node in graph.nodes
    ]
    return Graph(nodes, graph.outputs)


_ABSENT = "no value of its own in the artifact: removed, fused or folded"


def _chain(key: CallKey, folded: Mapping[CallKey, CallKey]) -> list[CallKey]:
    """The calls that became one, the first one first."""
    return [*_chain(folded[key], folded), key] if key in folded else [key]


def _names(calls: Sequence[LayerCall]) -> dict[CallKey, str]:
    counts = Counter(one.key[0] for one in calls)
    return {
        (path, index): f"{path} (call {index + 1} of {counts[path]})" if counts[path] > 1 else path
        for path, index in (one.key for one in calls)
    }


def _by_path(calls: Sequence[LayerCall], nodes: Sequence[Node], why: dict[CallKey, str]) -> Candidates:
    """Match the nodes that say which module they come from."""
    by_path: dict[str, list[LayerCall]] = defaultdict(list)
    for one in calls:
        by_path[one.key[0]].append(one)
    found: Candidates = {}
    for path, group in by_path.items():
        mine = [index for index, node in enumerate(nodes) if node.path == path and node.value]
        if not mine:
            continue
        parts = _split(mine, nodes, path, len(group))
        for number, one in enumerate(group):
            if len(parts) != len(group):
                why[one.key] = f"the module ran {len(group)} times, its nodes form {len(parts)} runs"
                continue
            fitting = [index for index in parts[number] if nodes[index].shape in (one.shape, None)]
            last = nodes[parts[number][-1]]
            if fitting:
                found[one.key] = tuple(fitting[-_CANDIDATES:])
            elif _resized(one, last):
                found[one.key] = (parts[number][-1],)
            else:
                why[one.key] = f"{last.name} makes {list(last.shape or ())}, the module {list(one.shape)}"
    return found


def _resized(call: LayerCall, node: Node) -> bool:
    """Whether the node does what the call does at another size, as after a constant folded at one batch size.

    Anything else of another shape is taken for an inner step or another layout, and not compared.
    """
    if node.shape is None or len(node.shape) != len(call.shape):
        return False
    if call.kind and not replaces(call.kind, node.kind):
        return False
    return sum(one != other for one, other in zip(call.shape, node.shape, strict=True)) == 1


def _split(mine: Sequence[int], nodes: Sequence[Node], path: str, calls: int) -> list[list[int]]:
    """The nodes of each call: runs that a node of a module outside this one ends."""
    if calls == 1:
        return [list(mine)]
    runs: list[list[int]] = [[]]
    for index in range(mine[0], mine[-1] + 1):
        other = nodes[index].path
        if other == path:
            runs[-1].append(index)
        elif other is not None and not other.startswith(f"{path}.") and runs[-1]:
            runs.append([])
    if len(runs) == calls:
        return runs
    # Calls right behind each other look like one run: tell them apart by the operation they are parts of.
    origins: dict[str, list[int]] = defaultdict(list)
    for index in mine:
        origins[nodes[index].origin].append(index)
    return list(origins.values()) if len(origins) == calls else runs


def _in_order(calls: Sequence[LayerCall], graph: Graph, found: Candidates) -> None:
    """Match the longest common sequence of the calls and of the nodes that say nothing."""
    leaves = [one for one in calls if one.leaf and one.kind]
    free = [index for index, node in enumerate(graph.nodes) if node.path is None and node.shape is not None]
    for call, index in _longest(leaves, [graph.nodes[index] for index in free]):
        node = free[index]
        found[leaves[call].key] = (node, *_bias(graph, node), *_gated(graph, node, leaves[call]))


def _longest(calls: Sequence[LayerCall], nodes: Sequence[Node]) -> list[tuple[int, int]]:
    """Pairs (call, node), both rising, that fit best together; see `_fit`."""
    best = [[0] * (len(nodes) + 1) for _ in range(len(calls) + 1)]
    for i in range(len(calls) - 1, -1, -1):
        for j in range(len(nodes) - 1, -1, -1):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], _fit(calls[i], nodes[j], best[i + 1][j + 1]))
    pairs, i, j = [], 0, 0
    while i < len(calls) and j < len(nodes):
        if best[i][j] == _fit(calls[i], nodes[j], best[i + 1][j + 1]):
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


def _fit(call: LayerCall, node: Node, rest: int) -> int:
    """The score of this pair and all behind it; below any score where the two do not fit."""
    score = replaces(call.kind, node.kind)
    if call.shape != node.shape:  # nothing else tells that they belong together: another batch size is all
        score = min(score, 1) if _resized(call, node) and call.shape[1:] == (node.shape or ())[1:] else 0
    return score + rest if score else -1


def _bias(graph: Graph, index: int) -> list[int]:
    """The addition of a constant behind a matrix product: the two together are one linear layer."""
    node = graph.nodes[index]
    after = graph.consumers(node.value) if node.kind == "linear" else []
    if len(after) == 1 and after[0].kind == "add" and after[0].inputs == (node.value,):
        return [graph.nodes.index(after[0])]
    return []


def _gated(graph: Graph, index: int, call: LayerCall) -> list[int]:
    """The product of an activation with its own input, where another one was wanted: SiLU is x times sigmoid(x)."""
    node = graph.nodes[index]
    if call.kind == node.kind:
        return []
    after = [one for one in graph.consumers(node.value) if one.kind == "mul" and set(one.inputs) & set(node.inputs)]
    return [graph.nodes.index(one) for one in after if one.shape == call.shape][:1]


def _between(calls: Sequence[LayerCall], graph: Graph, found: Candidates) -> None:
    """For calls still without one: the values of their shape between those of the calls before and after."""
    nodes, taken = graph.nodes, {index for indices in found.values() for index in indices}
    free = [
        i
        for i, node in enumerate(nodes)
        if node.path is None and node.shape is not None and i not in taken
        if node.op not in _LAYOUT and not graph.dequantizers(i)
    ]
    ahead = [min((found[one.key][0] for one in calls[p:] if one.key in found), default=len(nodes))
             for p in range(len(calls))]  # fmt: skip
    last = -1
    for position, one in enumerate(calls):
        if one.key in found:
            last = max(last, found[one.key][-1])
        elif one.kind not in NORMS:
            fitting = [i for i in free if last < i < ahead[position] and nodes[i].shape == one.shape]
            if fitting:
                found[one.key] = tuple(fitting[-_CANDIDATES:])
