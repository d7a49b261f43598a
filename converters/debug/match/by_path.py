"""Match calls with the nodes that say which module they come from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from converters.debug.match.graph import Node
from converters.debug.match.layer import CallKey, LayerCall
from converters.debug.match.matching import MAX_CANDIDATES, Matching, is_resized


def match_by_path(calls: Sequence[LayerCall], nodes: Sequence[Node]) -> Matching:
    """Match each module's calls with the nodes that carry its path."""
    calls_of: dict[str, list[LayerCall]] = defaultdict(list)
    for call in calls:
        calls_of[call.key[0]].append(call)
    nodes_of: dict[str, list[int]] = defaultdict(list)
    for index, node in enumerate(nodes):
        if node.path is not None and node.value:
            nodes_of[node.path].append(index)
    candidates: dict[CallKey, tuple[int, ...]] = {}
    mismatches: dict[CallKey, str] = {}
    for path, module_calls in calls_of.items():
        if path not in nodes_of:
            continue
        runs = _split(nodes_of[path], nodes, path, len(module_calls))
        if len(runs) != len(module_calls):
            why = f"the module ran {len(module_calls)} times, its nodes form {len(runs)} runs"
            mismatches.update((call.key, why) for call in module_calls)
            continue
        for call, run in zip(module_calls, runs, strict=True):
            fitting = _fitting(call, run, nodes)
            if fitting:
                candidates[call.key] = fitting
            else:
                mismatches[call.key] = _shapes_differ(call, nodes[run[-1]])
    return Matching(candidates, {}, mismatches)


def _fitting(call: LayerCall, run: Sequence[int], nodes: Sequence[Node]) -> tuple[int, ...]:
    """Return the nodes of one run of a module that may produce the call's result."""
    fitting = [index for index in run if nodes[index].shape in (call.shape, None)]
    if not fitting and is_resized(call, nodes[run[-1]]):
        fitting = [run[-1]]
    return tuple(fitting[-MAX_CANDIDATES:])


def _shapes_differ(call: LayerCall, node: Node) -> str:
    return f"{node.name} makes {list(node.shape or ())}, the module {list(call.shape)}"


def _split(indices: Sequence[int], nodes: Sequence[Node], path: str, calls: int) -> list[list[int]]:
    """Split a module's nodes by call: a node of a module outside this one ends a run."""
    if calls == 1:
        return [list(indices)]
    runs: list[list[int]] = [[]]
    for index in range(indices[0], indices[-1] + 1):
        node_path = nodes[index].path
        if node_path == path:
            runs[-1].append(index)
        elif node_path is not None and not node_path.startswith(f"{path}.") and runs[-1]:
            runs.append([])
    if len(runs) == calls:
        return runs
    # Consecutive calls look like one run: separate them by the operation that they are parts of.
    origins: dict[str, list[int]] = defaultdict(list)
    for index in indices:
        origins[nodes[index].origin].append(index)
    return list(origins.values()) if len(origins) == calls else runs
