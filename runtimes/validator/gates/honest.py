"""The honest error: a lossy artifact errs no more than its precision explains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from runtimes.artifact.artifact import Manifest
from runtimes.errors import ArtifactError
from runtimes.machine import machine
from runtimes.results import GateResult
from runtimes.validator.defaults import HALF_DB, HALF_ROUNDING, HONEST_DB, OTHER_ENGINE_DB
from runtimes.validator.evidence import Evidence
from runtimes.validator.outputs.honest import (
    Errors,
    excess,
    honest_samples,
    measure_errors,
    rounding_errors,
)

EXPECTED = "expected_error"
"""Key of a quantization's report in the manifest: the errors of its graph, which limit further."""

# Engines that may add up products in float16 itself: how far that goes was not measured, on no GPU.
_ADDS_IN_HALF = ("tensorrt", "torch-tensorrt")
_WIDE = ("avx512_vnni", "avx_vnni", "amx_int8")


def honest(evidence: Evidence) -> Iterator[GateResult]:
    """Yield whether the error is what the precision explains, on the whole and in each part.

    Nothing is known of artifacts that no build of this version quantized, and nothing is asked
    where the CPU adds an error of its own.
    """
    precision, reference = evidence.manifest.precision, evidence.reference
    rounding = HALF_ROUNDING.get(precision)
    if rounding and evidence.manifest.runtime in _ADDS_IN_HALF:
        return
    if rounding:
        eager = rounding_errors(reference)
        expected = {name: errors.scaled(rounding**2) for name, errors in eager.items()}
        limits, origin = (HALF_DB, HALF_DB), f"{precision} explains by eager's own rounding"
    else:
        expected = _quantized(evidence.manifest.build)
        if not expected or _saturates(evidence.manifest):
            return
        exact = evidence.manifest.runtime == "onnx"  # computes the graph's own codes
        limits, origin = (HONEST_DB if exact else OTHER_ENGINE_DB), "its quantized graph has"
    answers = {index: evidence.first[index] for index in honest_samples(reference)}
    measured = measure_errors(answers, reference)
    for (decibel, name), limit in zip(excess(measured, expected), limits, strict=True):
        if name:
            detail = (
                f"error of {name} is {decibel:.3g} dB above the one that {origin}, "
                f"at most {limit:g}"
            )
            yield GateResult(gate="parity", ok=decibel <= limit, detail=detail)


def _quantized(build: Mapping[str, Any]) -> dict[str, Errors]:
    """Return the errors that the build measured. Raises ArtifactError if they cannot be read."""
    reports = [record.get("quantize") or {} for record in build.get("passes", [])]
    expected: Any = next((report[EXPECTED] for report in reports if EXPECTED in report), {})
    try:
        return TypeAdapter(dict[str, Errors]).validate_python(expected)
    except ValidationError as error:
        raise ArtifactError(f"its manifest's {EXPECTED} cannot be read: {error}") from error


def _saturates(manifest: Manifest) -> bool:
    """Return whether the engine may add products of bytes in 16 bits on this CPU.

    ONNX Runtime can do without, unless a graph is final.
    """
    precise = manifest.runtime == "onnx" and manifest.build.get("optimize") != "all"
    narrow = machine.system().endswith("x86_64") and not machine.supports(*_WIDE)
    return narrow and not precise
