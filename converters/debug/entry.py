"""Inputs of a layer: whether the layer is to blame, or its input is wrong already.

Layers are the eager model's modules. The operations between two of them (a normalization of the
input, a change of layout, a quantizer) have no truth of their own; but the truth of the next
module's input is known.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from converters.debug.judge import measure
from converters.debug.match.graph import Graph, Taps
from converters.debug.match.layer import Layer
from converters.debug.truth import Eager
from runtimes.spec import Arrays


@dataclass(frozen=True)
class LayerEntry:
    """The value that enters a layer.

    Attributes:
        error: its relative rms error; infinite at another batch size.
        value: the artifact's.
        truth: the value that it should be.
    """

    error: float
    value: np.ndarray[Any, Any]
    truth: np.ndarray[Any, Any]


def nodes_before(graph: Graph, layer: Layer, through: Collection[int]) -> list[int]:
    """Return the nodes on the way to a layer's value that are not the layer's own."""
    layer_nodes = _layer_nodes(graph, layer, through)
    return [index for index in sorted(through) if index not in layer_nodes]


def entry_of(
    taps: Taps, eager: Eager, inputs: Arrays, layer: Layer, through: Collection[int]
) -> LayerEntry | None:
    """Measure the value that a layer takes from nodes before it that belong to no layer.

    Returns the nearest to the truth if there are several, and None if there is none.
    """
    entries = _entries(taps.graph, _layer_nodes(taps.graph, layer, through))
    names = sorted(entries & taps.graph.makers().keys())
    if layer.start is None or not names:
        return None
    truth = eager.entering(inputs, layer.start, exact=True)
    single = eager.entering(inputs, layer.start, exact=False)
    if truth is None or single is None:
        return None
    nearest: LayerEntry | None = None
    for value in taps.read(inputs, names).values():
        if value.ndim != truth.ndim or not truth.ndim or value.shape[1:] != truth.shape[1:]:
            continue
        error = measure(0, value, single, truth).error
        if nearest is None or error < nearest.error:
            nearest = LayerEntry(error, value, truth)
    return nearest


def _entries(graph: Graph, nodes: Collection[int]) -> set[str]:
    """Return the values that nodes take from outside of these nodes."""
    produced: set[str] = set()
    taken: set[str] = set()
    for index in nodes:
        produced.update(graph.nodes[index].outputs)
        taken.update(graph.nodes[index].inputs)
    return taken - produced


def _layer_nodes(graph: Graph, layer: Layer, through: Collection[int]) -> set[int]:
    """Return the nodes from the layer's first one up to its value.

    A node is the layer's if it carries the layer's path or may compute the value: a matrix product
    before its bias, both halves of a quantizer that does an activation's work.
    """
    paths = {key[0] for key in (layer.key, layer.start) if key}
    indices: set[int] = set()
    for index in through:
        if graph.nodes[index].path in paths or index in layer.made_by:
            indices.add(index)
    makers = graph.makers()
    for index in list(indices):
        if graph.nodes[index].op == "DequantizeLinear":
            sources = [makers[value] for value in graph.nodes[index].inputs if value in makers]
            indices.update(set(sources).intersection(through))
    produced: set[str] = set()
    for index in indices:
        produced.update(graph.nodes[index].outputs)
    for index in sorted(through):
        if produced & set(graph.nodes[index].inputs):
            indices.add(index)
            produced.update(graph.nodes[index].outputs)
    return indices
