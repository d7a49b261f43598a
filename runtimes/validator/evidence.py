"""Objects that the gates judge: an artifact on a device, its session's answers to the probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from runtimes.artifact.artifact import Artifact, Manifest
from runtimes.artifact.gates import Gates
from runtimes.results import Parity
from runtimes.spec import Arrays
from runtimes.validator.outputs.distance import rms, typical_errors
from runtimes.validator.outputs.metric import UserMetric
from runtimes.validator.reference import Reference


@dataclass(frozen=True)
class Target:
    """One artifact to be judged on one device, by the gates of its manifest.

    Attributes:
        artifact, device: the artifact is run on the device.
        parent: the same format without the artifact's passes: the artifact must be no slower, and
            if it was pruned, smaller.
        reference: used instead of the build's if passes changed the model before export.
        earlier: bursts of measurements that left a gate undecided; see `Speed`.
        limits: used instead of the gates of the manifest, if someone else wrote that.
        notes: for the reader of the row.
        metric: of the user's own.
    """

    artifact: Artifact
    device: str
    parent: Artifact | None = None
    reference: Reference | None = None
    earlier: Sequence[Mapping[str, list[float]]] = ()
    limits: Gates | None = None
    notes: tuple[str, ...] = ()
    metric: UserMetric | None = None

    @property
    def gates(self) -> Gates:
        """Requirements on the artifact."""
        return self.artifact.manifest.gates if self.limits is None else self.limits


@dataclass(frozen=True)
class Repeat:
    """A further run of a probe: its index, the outputs, and how it differs from the first."""

    index: int
    outputs: Arrays
    how: str = "after other calls"


@dataclass(frozen=True)
class Evidence:
    """Outputs of one session for the probes, and of further runs of some of them.

    Attributes:
        manifest, reference, gates: of the artifact.
        first: the outputs for each probe.
        repeats: the outputs of further runs.
        parity: the summary of `first`.
        layers: counts of computing layers by the precision they were executed in, if the engine
            reports it.
        problems: what the session did to arrays that are not its own.
        sequence: the answers to `reference.steps` on the session's own state.
    """

    manifest: Manifest
    reference: Reference
    first: Sequence[Arrays]
    repeats: Sequence[Repeat]
    parity: Parity
    gates: Gates
    layers: dict[str, int] | None = None
    problems: Sequence[str] = ()
    sequence: Sequence[Arrays] = ()

    @cached_property
    def typical(self) -> dict[str, float]:
        """Eager's usual error for each output."""
        return typical_errors(self.reference)

    @property
    def lossless(self) -> bool:
        """Whether the artifact computes in eager's own precision."""
        return self.manifest.precision == "fp32"


def rms_between(
    first: np.ndarray[Any, Any], second: np.ndarray[Any, Any], eager: np.ndarray[Any, Any]
) -> float:
    """Return the rms between two answers to one sample, over eager's finite values.

    The same NaN or Inf in both is no difference.
    """
    with np.errstate(invalid="ignore"):
        difference = np.asarray(first, np.float64) - second
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    return rms(np.where(np.isfinite(eager) & ~same, difference, 0.0))
