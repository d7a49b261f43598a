"""Layers and module calls, as both sides of a comparison know them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A unit of comparison: the truth of a call and the node values that may be its result.

    Attributes:
        name: module path, with the number of the call if the module runs several times; several
            paths if several calls share one value.
        key: the call whose result is the truth.
        shape: of the result.
        nodes: indices of the nodes that may produce it, in order.
        made_by: per node the one that computes it; a different one if a quantizer follows that.
        start: the call that takes the layer's input: the first of those that share the value.
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
"""A module's path and the number of the call, from 0; (label, 0) for an output of the model."""


@dataclass(frozen=True)
class LayerCall:
    """One call of a module that computed something new.

    Attributes:
        key: path and number of the call.
        kind: the operation ("conv", "relu"), see `converters.debug.match.kinds`; "" if its class
            does not say.
        shape: of the first tensor of its result.
        source: the call whose output it takes first, if it takes one unchanged.
        leaf: no other module ran inside it. A call that is no leaf is only recorded if an operator
            of its own produced the result, as the addition at the end of a residual block.
        passive: it returned its input, as Dropout does in eval mode: an artifact has a value for it
            only if something is wrong.
    """

    key: CallKey
    kind: str
    shape: tuple[int, ...]
    source: CallKey | None
    leaf: bool
    passive: bool = False
