"""What enters a layer: whether it is to blame itself, or what reaches it is wrong already.

Layers are the eager model's modules. What lies between two of them (a normalization of the input, a change of
layout, a quantizer) has no truth of its own; but the truth of what the next module takes is known.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from converters.debug.judge import measure
from converters.debug.match.graph import Graph, Taps
from converters.debug.match.layer import Layer
from converters.debug.truth import Eager
from runtimes.spec import Arrays


def before(graph: Graph, layer: Layer, through: Collection[int]) -> list[int]:
    """Those of the nodes on the way to a layer's value that are not its own."""
    own = _own(graph, layer, through)
    return [index for index in sorted(through) if index not in own]


def entering(
    taps: Taps, eager: Eager, inputs: Arrays, layer: Layer, through: Collection[int]
) -> tuple[float, np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
    """What a layer takes from nodes before it that are no layer's.

    Returns:
        its relative rms error (infinite at another batch size), its values, and what they should be; None
        where nothing of the kind is taken.
    """
    values = sorted(_entries(taps.graph, _own(taps.graph, layer, through)) & taps.graph.makers().keys())
    if layer.start is None or not values:
        return None
    truth, single = (eager.entering(inputs, layer.start, exact) for exact in (True, False))
    if truth is None or single is None:
        return None
    found = [one for one in taps.read(inputs, values).values() if one.ndim == truth.ndim > 0]
    fitting = [one for one in found if one.shape[1:] == truth.shape[1:]]
    measured = [(measure(0, one, single, truth).error, one, truth) for one in fitting]
    return min(measured, key=lambda one: one[0], default=None)


def _entries(graph: Graph, own: Collection[int]) -> set[str]:
    made = {value for index in own for value in graph.nodes[index].outputs}
    return {value for index in own for value in graph.nodes[index].inputs} - made


def _own(graph: Graph, layer: Layer, through: Collection[int]) -> set[int]:
    """The nodes from the first that is the layer's up to its value.

    Its are those that carry its path, and those that may compute it: a matrix product before its bias, both
    halves of a quantizer that does an activation's work.
    """
    paths = {key[0] for key in (layer.key, layer.start) if key}
    own = {index for index in through if graph.nodes[index].path in paths or index in layer.made_by}
    makers = graph.makers()
    for index in [one for one in own if graph.nodes[one].op == "DequantizeLinear"]:
        own.update(makers[value] for value in graph.nodes[index].inputs if makers.get(value) in through)
    made = {value for index in own for value in graph.nodes[index].outputs}
    for index in sorted(through):
        if made & set(graph.nodes[index].inputs):
            own.add(index)
            made.update(graph.nodes[index].outputs)
    return own
