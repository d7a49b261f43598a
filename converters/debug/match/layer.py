"""Layers and calls, as both sides of a comparison know them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """What is compared: a call's truth with the value of a node.

    Attributes:
        name: module path, with the call's number where there are several; more than one path where several
            calls became one.
        key: the call whose result is the truth.
        shape: of the result.
        nodes: indices of the nodes that may make it, in order.
        made_by: per node the one that computes it; another one where a quantizer stands behind that.
        start: the call that takes the layer's input: the first of those that became one.
    """

    name: str
    key: CallKey
    shape: tuple[int, ...]
    nodes: tuple[int, ...] = ()
    made_by: tuple[int, ...] = ()
    start: CallKey | None = None


@dataclass(frozen=True)
class Unmatched:
    """A call that has no value in the artifact, and why."""

    name: str
    why: str


CallKey = tuple[str, int]
"""A module's path and which of its calls, from 0; an output of the model is (its label, 0)."""


@dataclass(frozen=True)
class LayerCall:
    """One call of a module that computed something new.

    Attributes:
        key: path and number of the call.
        kind: what it computes ("conv", "relu"); "" if its class does not tell (`converters.debug.match.kinds`).
        shape: of the first tensor of its result.
        source: the call whose output it takes first, where it takes one unchanged.
        leaf: no other module ran inside it. Other calls are kept only where an operator of their own made
            their result, as the addition at the end of a residual block.
        passive: it returned its input, as Dropout does in eval mode: an artifact has a value for it only where
            something is wrong.
    """

    key: CallKey
    kind: str
    shape: tuple[int, ...]
    source: CallKey | None
    leaf: bool
    passive: bool = False
