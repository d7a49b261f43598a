"""Evidence: the answers of one session to the probes, which the gates judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from runtimes.artifact.artifact import Manifest
from runtimes.artifact.gates import Gates
from runtimes.results import Parity
from runtimes.spec import Arrays
from runtimes.validator.parity import rms, typical_errors
from runtimes.validator.reference import Reference


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
    """

    manifest: Manifest
    reference: Reference
    first: Sequence[Arrays]
    repeats: Sequence[Repeat]
    parity: Parity
    gates: Gates
    layers: dict[str, int] | None = None
    problems: Sequence[str] = ()

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
