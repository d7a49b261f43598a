"""Where a graph stops that does not run on some inputs."""

from __future__ import annotations

from bisect import bisect_left

from converters.debug.compare import Comparison
from converters.debug.entry import before
from converters.debug.match.graph import dependencies
from converters.debug.result import LayerReport
from runtimes.spec import Arrays


def stop(comparison: Comparison, inputs: Arrays) -> LayerReport | None:
    """The layer that holds the first node that does not run; None where every node does.

    Args:
        comparison: on inputs that the graph runs on, which tell its layers.
        inputs: those that it does not run on.
    """
    taps, nodes = comparison.taps, comparison.taps.graph.nodes
    index = bisect_left(range(len(nodes)), True, key=lambda one: not taps.runs_to(inputs, one))
    if index == len(nodes):
        return None
    made_of = dependencies(taps.graph, comparison.values, comparison.outputs)
    number = next((number for number, one in enumerate(made_of) if index in one.through), None)
    if number is None:
        return None
    layer = comparison.layers[number]
    outside = before(taps.graph, layer, made_of[number].through)
    return LayerReport(
        layer=layer.name,
        node=nodes[index].name,
        op=nodes[index].op,
        dtype="",
        shape=layer.shape,
        error_before=0.0,
        error_after=float("inf"),
        added=float("inf"),
        sqnr_db=float("-inf"),
        noise=float("inf"),
        inputs=tuple(comparison.layers[one].name for one in sorted(made_of[number].layers)),
        through=tuple(f"{nodes[one].op} {nodes[one].name}" for one in outside),
        diverges=True,
        blameless=index in outside or not layer.nodes,
        runs=False,
    )
