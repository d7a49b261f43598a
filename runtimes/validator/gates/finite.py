"""NaN and Inf: those of an artifact, and those of eager itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from runtimes.results import GateResult
from runtimes.validator.evidence import Evidence
from runtimes.validator.inputs.regions import OVERFLOWING
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference, unanswered


def finite(evidence: Evidence) -> GateResult:
    """Check that values are finite if eager's are, and otherwise NaN or Inf as eager's are.

    A lossy artifact may overflow on inputs that are far larger than usual. On unusual inputs, NaN
    and Inf of eager are not compared: the order of operations decides which of them an overflow
    becomes.
    """
    for probe, outputs, eager in zip(
        evidence.reference.probes, evidence.first, evidence.reference.eager, strict=True
    ):
        if unanswered(probe, eager) or (not evidence.lossless and _overflows(probe)):
            continue
        for name, values in outputs.items():
            where = f"of {name} at {probe.name}"
            if count := int(np.sum(np.isfinite(eager[name]) & ~np.isfinite(values))):
                return _fails(f"{count} of {values.size} values {where} are NaN or Inf")
            if probe.ordinary and (count := _count_replaced(values, eager[name])):
                return _fails(f"{count} of {values.size} values {where} are not eager's NaN or Inf")
    return GateResult(
        gate="finite", ok=True, detail="NaN and Inf as eager's, and none where eager is finite"
    )


def _overflows(probe: Probe) -> bool:
    """Return whether float16 may overflow at a probe although the model is right."""
    return probe.kind == "nan" or probe.name.removeprefix("edge ") in OVERFLOWING


def _count_replaced(values: np.ndarray[Any, Any], eager: np.ndarray[Any, Any]) -> int:
    """Count values that differ from eager's NaN, Inf or -Inf at the same place."""
    same = (values == eager) | (np.isnan(values) & np.isnan(eager))
    return int(np.sum(~np.isfinite(eager) & ~same))


def not_comparable(reference: Reference) -> str | None:
    """Return how eager's own NaN and Inf leave too little to compare, or None.

    Infinite values that the truth has too (masked logits) are answers like any others.
    """
    for probe, eager, truth in zip(reference.probes, reference.eager, reference.truth, strict=True):
        if not probe.ordinary:
            continue
        for name, values in eager.items():
            share = f"of {values.size} values of eager's {name} at {probe.name}"
            if count := int(np.sum(~np.isfinite(values) & np.isfinite(truth[name]))):
                return f"{count} {share} overflow in float32: in float64 they are finite"
            if count := int(np.sum(np.isnan(values))):
                return f"{count} {share} are NaN, with which nothing can be compared"
    return None


def _fails(detail: str) -> GateResult:
    return GateResult(gate="finite", ok=False, detail=detail)
