"""The batch gate: row k of a batch equals sample k alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.results import GateResult
from runtimes.spec import Arrays
from runtimes.validator.defaults import ESTIMATED_DB, HALF_ROUNDING, NOISE_FP32, SQNR_DB
from runtimes.validator.evidence import Evidence, rms_between
from runtimes.validator.gates.honest import explained
from runtimes.validator.outputs.distance import error_scale, rms
from runtimes.validator.probes import batch_dimension


def batch_invariant(evidence: Evidence) -> GateResult:
    """Check that row k of a batch equals sample k alone, within the error that parity allows.

    Rows are compared only if eager's own agree: BatchNorm in training mode, for example, depends on
    the whole batch.
    """
    batch = batch_dimension(evidence.manifest.inputs)
    batched = [
        name for name, spec in evidence.manifest.outputs.items() if spec.shape[:1] == (batch,)
    ]
    batches = [
        (index, probe) for index, probe in enumerate(evidence.reference.probes) if probe.rows
    ]
    compared, honest = 0, _honest(evidence)
    for index, probe in batches:
        for name, (row, sample) in itertools.product(batched, enumerate(probe.rows)):
            moved = _row_difference(
                evidence, name, (index, row), (sample, 0), honest.get(name, math.inf)
            )
            if moved is None:
                continue
            compared += 1
            if not moved.within:
                where = f"row {row} of {name} at {probe.name}"
                difference = f"differs from the same sample alone by {moved.rms:.3g} rms"
                return GateResult(gate="batch", ok=False, detail=f"{where} {difference}")
    if not compared:
        return GateResult(gate="batch", ok=None, detail="no dynamic batch to compare")
    detail = f"{compared} rows of {len(batches)} batches equal the same samples alone"
    return GateResult(gate="batch", ok=True, detail=detail)


@dataclass(frozen=True)
class _Difference:
    """The rms between two answers to one sample, and whether it is within the allowed error."""

    rms: float
    within: bool


def _honest(evidence: Evidence) -> dict[str, float]:
    """Return the rms of each output that its precision explains, as measured.

    One sample's two answers are rounded alike, so they differ by far less.
    """
    limit = explained(evidence)
    if limit is None or limit.mixes or evidence.gates.sqnr_db is not None:
        return {}
    factor = 10 ** (limit.limits[0] / 20)
    return {name: factor * math.sqrt(errors.whole) for name, errors in limit.errors.items()}


def _row_difference(
    evidence: Evidence,
    name: str,
    batched: tuple[int, int],
    alone: tuple[int, int],
    honest: float,
) -> _Difference | None:
    """Compare one sample's output in a batch and alone, each given as probe and row.

    `honest`: the rms that its precision explains, which limits a lossy artifact further.

    None if eager's own answers differ by more than is allowed.
    """

    def rows(outputs: Sequence[Arrays]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        return outputs[batched[0]][name][batched[1]], outputs[alone[0]][name][alone[1]]

    eager_batched, eager_alone = rows(evidence.reference.eager)
    truth = evidence.reference.truth[alone[0]][name][alone[1]]
    allowed = _allowed(evidence, name, eager_alone, truth)
    if eager_batched.shape != eager_alone.shape:
        return None
    if not rms_between(eager_batched, eager_alone, eager_alone) <= allowed:
        return None
    moved = rms_between(*rows(evidence.first), eager_alone)
    return _Difference(moved, moved <= min(allowed, honest))


def _allowed(
    evidence: Evidence, name: str, eager: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]
) -> float:
    """Return the allowed rms between two answers to one sample: twice what parity allows each."""
    if evidence.lossless:
        noise = evidence.gates.noise or NOISE_FP32
        return 2 * noise * error_scale(eager, truth, evidence.typical[name])
    sqnr = evidence.gates.sqnr_db
    if sqnr is None:
        sqnr = SQNR_DB.get(evidence.manifest.precision, 0.0)
    allowed = 2 * rms(np.where(np.isfinite(truth), truth, 0.0)) * 10 ** (-sqnr / 20)
    rounding = HALF_ROUNDING.get(evidence.manifest.precision)
    if rounding is None or evidence.gates.sqnr_db is not None:
        return allowed
    # Rounding to half precision moves a row no further than it explains; a limit would leave more.
    estimate = rounding * error_scale(eager, truth, evidence.typical[name])
    return min(allowed, 2 * estimate * 10 ** (ESTIMATED_DB / 20))
