"""The node at which a graph stops that does not run on some inputs."""

from __future__ import annotations

from bisect import bisect_left

from converters.debug.compare import Comparison
from converters.debug.entry import nodes_before
from converters.debug.match.graph import dependencies
from converters.debug.result import LayerReport
from runtimes.spec import Arrays


def find_stop(comparison: Comparison, inputs: Arrays) -> LayerReport | None:
    """Return the layer that holds the first node that does not run; None if all nodes do.

    Args:
        comparison: on inputs that the graph runs on, which identify its layers.
        inputs: those that it does not run on.
    """
    taps, nodes = comparison.taps, comparison.taps.graph.nodes
    stopped = bisect_left(range(len(nodes)), True, key=lambda node: not taps.runs_to(inputs, node))
    if stopped == len(nodes):
        return None
    made_of = dependencies(taps.graph, comparison.values, comparison.outputs)
    holders = (number for number, parts in enumerate(made_of) if stopped in parts.through)
    number = next(holders, None)
    if number is None:
        return None
    layer, parts = comparison.layers[number], made_of[number]
    outside = nodes_before(taps.graph, layer, parts.through)
    return LayerReport(
        layer=layer.name,
        node=nodes[stopped].name,
        op=nodes[stopped].op,
        dtype="",
        shape=layer.shape,
        error_before=0.0,
        error_after=float("inf"),
        added=float("inf"),
        sqnr_db=float("-inf"),
        noise=float("inf"),
        inputs=tuple(comparison.layers[parent].name for parent in sorted(parts.layers)),
        through=tuple(f"{nodes[index].op} {nodes[index].name}" for index in outside),
        diverges=True,
        blameless=stopped in outside or not layer.nodes,
        runs=False,
    )
