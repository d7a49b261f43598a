"""Which value of an artifact's graph is the result of which call of the eager model.

First by what the artifact tells: the module path on a node. What is left is aligned in order, by kind of
operator and shape. Where several values of the right shape may be the result (a module that computes more
than one operator), all are kept: the one nearest the truth is taken when they are measured.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from converters.debug.graph import Graph, Node
from converters.debug.kinds import replaces
from converters.debug.truth import Call, Key

# More values than this of one shape inside one module are rare (attention has them); the last ones are its
# result, and each costs memory and time.
_CANDIDATES = 4
_FOLDED = ("batchnorm",)
_FOLDED_INTO = ("conv", "convtranspose", "linear")


@dataclass(frozen=True)
class Layer:
    """What is compared: a call's truth with the value of a node.

    Attributes:
        name: module path, with the call's number where there are several; two paths where one is folded
            into the other.
        key: the call whose result is the truth.
        shape: of the result.
        nodes: indices of the nodes that may make it, in order.
    """

    name: str
    key: Key
    shape: tuple[int, ...]
    nodes: tuple[int, ...]


@dataclass(frozen=True)
class Unmatched:
    """A call that has no value in the artifact, and why."""

    name: str
    why: str


def align(calls: Sequence[Call], graph: Graph) -> tuple[list[Layer], list[Unmatched]]:
    """The layers that can be compared, in the order of the graph, and the calls that cannot."""
    why: dict[Key, str] = {}
    found = _by_path(calls, graph.nodes, why)
    open_calls = [one for one in calls if one.key not in why]  # a known mismatch is told, not guessed away
    _in_order([one for one in open_calls if one.key not in found], graph, found)
    folded = _fold(calls, graph, found)
    _between([one for one in open_calls if one.key not in folded.values()], graph.nodes, found)
    counts: dict[str, int] = defaultdict(int)
    for one in calls:
        counts[one.key[0]] += 1

    def name(key: Key) -> str:
        path, index = key
        return f"{path} (call {index + 1} of {counts[path]})" if counts[path] > 1 else path

    layers = [
        Layer(
            f"{name(folded[one.key])} + {name(one.key)}" if one.key in folded else name(one.key),
            one.key,
            one.shape,
            found[one.key],
        )
        for one in calls
        if one.key in found
    ]
    covered = {*found, *folded.values()}
    missing = [Unmatched(name(one.key), why.get(one.key, _ABSENT)) for one in calls if one.key not in covered]
    return sorted(layers, key=lambda layer: layer.nodes[-1]), missing


_ABSENT = "no value of its own in the artifact: removed, fused or folded"


def _by_path(calls: Sequence[Call], nodes: Sequence[Node], why: dict[Key, str]) -> dict[Key, tuple[int, ...]]:
    """Match the nodes that say which module they come from."""
    by_path: dict[str, list[Call]] = defaultdict(list)
    for one in calls:
        by_path[one.key[0]].append(one)
    found: dict[Key, tuple[int, ...]] = {}
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
            if fitting:
                found[one.key] = tuple(fitting[-_CANDIDATES:])
            else:
                last = nodes[parts[number][-1]]
                why[one.key] = f"{last.name} makes {list(last.shape or ())}, the module {list(one.shape)}"
    return found


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


def _in_order(calls: Sequence[Call], graph: Graph, found: dict[Key, tuple[int, ...]]) -> None:
    """Match the longest common sequence of the calls and of the nodes that say nothing."""
    leaves = [one for one in calls if one.leaf and one.kind]
    free = [index for index, node in enumerate(graph.nodes) if node.path is None and node.shape is not None]
    for call, index in _longest(leaves, [graph.nodes[index] for index in free]):
        node = free[index]
        found[leaves[call].key] = (node, *_bias(graph, node))


def _longest(calls: Sequence[Call], nodes: Sequence[Node]) -> list[tuple[int, int]]:
    """Pairs (call, node), both rising, of the largest sum of `replaces`; shapes are equal in each."""
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


def _fit(call: Call, node: Node, rest: int) -> int:
    """The score of this pair and all behind it; below any score where the two do not fit."""
    score = replaces(call.kind, node.kind) if call.shape == node.shape else 0
    return score + rest if score else -1


def _bias(graph: Graph, index: int) -> list[int]:
    """The addition of a constant behind a matrix product: the two together are one linear layer."""
    node = graph.nodes[index]
    after = graph.consumers(node.value) if node.kind == "linear" else []
    if len(after) == 1 and after[0].kind == "add" and after[0].inputs == (node.value,):
        return [graph.nodes.index(after[0])]
    return []


def _between(calls: Sequence[Call], nodes: Sequence[Node], found: dict[Key, tuple[int, ...]]) -> None:
    """For calls still without one: the values of their shape between those of the calls before and after."""
    taken = {index for indices in found.values() for index in indices}
    free = [i for i, node in enumerate(nodes) if node.path is None and node.shape is not None and i not in taken]
    ahead = [min((found[one.key][0] for one in calls[p:] if one.key in found), default=len(nodes))
             for p in range(len(calls))]  # fmt: skip
    last = -1
    for position, one in enumerate(calls):
        if one.key in found:
            last = max(last, found[one.key][-1])
        elif one.kind not in _FOLDED:
            fitting = [i for i in free if last < i < ahead[position] and nodes[i].shape == one.shape]
            if fitting:
                found[one.key] = tuple(fitting[-_CANDIDATES:])


def _fold(calls: Sequence[Call], graph: Graph, found: dict[Key, tuple[int, ...]]) -> dict[Key, Key]:
    """BatchNorms that became part of the layer before: their result is that layer's. -> what each is in."""
    kinds = {one.key: one.kind for one in calls}
    folded: dict[Key, Key] = {}
    for one in calls:
        if one.kind not in _FOLDED or one.source is None or kinds[one.source] not in _FOLDED_INTO:
            continue
        if one.source in found and one.key not in found and not _normalised(graph, found[one.source]):
            found[one.key] = found.pop(one.source)
        if one.key in found and one.source not in found:
            folded[one.key] = one.source
    return folded


def _normalised(graph: Graph, nodes: Iterable[int]) -> bool:
    """Whether a normalisation of its own takes one of these nodes' values."""
    return any(after.kind in _FOLDED for index in nodes for after in graph.consumers(graph.nodes[index].value))
