"""The distance of a pruned or trained model from the model before: for outputs that are no classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from runtimes.results import GateResult
from runtimes.validator.defaults import ORIGINAL_SAMPLES, ORIGINAL_SQNR_DB
from runtimes.validator.evidence import Evidence
from runtimes.validator.outputs.parts import measure_parts


def from_original(evidence: Evidence) -> Iterator[GateResult]:
    """Yield whether an artifact of a changed model still answers as the model before.

    By default only if it is no classifier, whose classes are compared instead, and on real samples:
    what a pruned model makes of noise says little.
    """
    reference, limit = evidence.reference, evidence.gates.original_sqnr_db
    if reference.original is None:
        return
    if "original_sqnr_db" not in evidence.gates.model_fields_set:
        limit = None if evidence.manifest.task == "classification" else ORIGINAL_SQNR_DB
    if limit is None:
        return
    before = replace(reference, truth=reference.original, original=None)
    parts = measure_parts(evidence.first, before, ORIGINAL_SAMPLES)
    whole = [part for part in parts if part.whole]
    if whole:
        worst = min(whole, key=lambda part: part.sqnr_db)
        detail = (
            f"SQNR in dB of {worst.name} against the model before its passes, of what varies over "
            f"{worst.samples} samples, is {worst.sqnr_db:.3g}, at least {limit:g}"
        )
        yield GateResult(gate="parity", ok=worst.sqnr_db >= limit, detail=detail)
        return
    detail = "the distance from the model before its passes needs real samples: add data.evaluation"
    required = "original_sqnr_db" in evidence.gates.model_fields_set
    yield GateResult(gate="parity", ok=False if required else None, detail=detail)
