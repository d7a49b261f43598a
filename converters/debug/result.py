"""Result of `burnish debug`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class LayerReport:
    """One layer of the artifact, measured.

    Attributes:
        layer: module path; `output NAME` for an output of the model.
        node, op: the artifact's node and operator.
        dtype, shape: of its value.
        error_before: largest relative rms error of the layers that it takes; 0 for the model's
            inputs.
        error_after: its own: rms error over the truth's rms.
        added: the part of `error_after` that it adds itself: its value against what the float64
            model makes of the artifact's own values before it.
        sqnr_db: `error_after` in dB; higher is better.
        noise: rms error over eager's own rms error in float32.
        inputs: the layers that it takes.
        through: nodes between `inputs` and it that belong to no layer: a fault may be in them.
        diverges: further from the truth than the precision allows.
        error_entering: of the first layer that diverges: the error of what its own nodes take,
            after `through`; None if unknown.
        blameless: its input is wrong already: the fault is in `through`, not in the layer.
        looks: of the first layer that diverges: how its wrong values look, in words.
        runs: False for the layer at which the graph stops on this probe; a note has the engine's
            error.
    """

    layer: str
    node: str
    op: str
    dtype: str
    shape: tuple[int, ...]
    error_before: float
    error_after: float
    added: float
    sqnr_db: float
    noise: float
    inputs: tuple[str, ...]
    through: tuple[str, ...]
    diverges: bool
    error_entering: float | None = None
    blameless: bool = False
    looks: tuple[str, ...] = ()
    runs: bool = True


@dataclass(frozen=True)
class UnmatchedReport:
    """A layer of the eager model that has no value in the artifact, and why."""

    layer: str
    why: str


@dataclass(frozen=True)
class DebugResult:
    """The place where an artifact diverges from the truth.

    Attributes:
        artifact, format, precision, model: as its manifest says.
        probe: the inputs in use: the probe whose outputs are furthest from the truth.
        limit: how far a correct layer may be, in words.
        first: the first layer that diverges; None if no output of the graph does.
        adders: the layers that add most error, the largest first.
        series: all measured layers in the order of the graph, the model's outputs last.
        complete: all matched layers were measured; otherwise only those around the faults.
        unmatched: layers that could not be compared.
        runs: of eager and of the artifact.
        notes: remarks for the reader.
    """

    artifact: str
    format: str
    precision: str
    model: str
    probe: str
    limit: str
    first: LayerReport | None
    adders: list[LayerReport]
    series: list[LayerReport]
    complete: bool
    unmatched: list[UnmatchedReport]
    runs: int
    notes: list[str]

    def as_data(self) -> dict[str, Any]:
        """Convert to data for JSON, which has no infinity: an error that is not finite is null."""
        data = _finite(asdict(self))
        assert isinstance(data, dict)
        return data


def _finite(value: Any) -> Any:
    """Replace numbers that are not finite by None."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return list(map(_finite, value))
    is_infinite = isinstance(value, float) and not math.isfinite(value)
    return None if is_infinite else value
