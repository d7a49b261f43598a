"""The honest error: a lossy artifact errs no more than its precision explains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from runtimes.artifact.artifact import Manifest
from runtimes.errors import ArtifactError
from runtimes.machine import machine
from runtimes.results import GateResult
from runtimes.validator.defaults import (
    ESTIMATED_DB,
    HALF_DB,
    HALF_ROUNDING,
    HALF_SAMPLES,
    HONEST_DB,
    HONEST_SAMPLES,
    LEVELED_SHARE,
    OTHER_ENGINE_DB,
)
from runtimes.validator.evidence import Evidence
from runtimes.validator.outputs.errors import Errors
from runtimes.validator.outputs.honest import (
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


@dataclass(frozen=True)
class Explained:
    """Errors that a precision explains.

    Attributes:
        errors: of each output.
        limits: by how many dB an artifact may exceed them, on the whole and in a part.
        origin: a clause for the reader.
        mixes: rows of a batch share a scale, as in a dynamic quantization.
        samples: how many rows they were measured on.
    """

    errors: Mapping[str, Errors]
    limits: tuple[float, float]
    origin: str
    mixes: bool = False
    samples: int = HONEST_SAMPLES


def honest(evidence: Evidence) -> Iterator[GateResult]:
    """Yield whether the error is what the precision explains, on the whole and in each part."""
    measured = explained(evidence)
    for limit in filter(None, (measured, _estimated(evidence, measured))):
        indices = honest_samples(evidence.reference.probes, limit.samples)
        answers = {index: evidence.first[index] for index in indices}
        yield from _compare(measure_errors(answers, evidence.reference), limit)


def _compare(errors: Mapping[str, Errors], limit: Explained) -> Iterator[GateResult]:
    worst = excess(errors, limit.errors)
    for (decibel, name), most in zip(worst, limit.limits, strict=True):
        if name:
            detail = f"error of {name} is {decibel:.3g} dB above the one that {limit.origin}"
            ok = decibel <= most
            yield GateResult(gate="parity", ok=ok, detail=f"{detail}, at most {most:g}")


def explained(evidence: Evidence) -> Explained | None:
    """Return the errors that were measured for the artifact's precision.

    None for artifacts that no build of this version quantized, and for those whose engine adds an
    error of its own.
    """
    manifest = evidence.manifest
    if manifest.precision in HALF_ROUNDING:
        errors = evidence.reference.rounding.get(manifest.precision)
        if not errors or manifest.runtime in _ADDS_IN_HALF:
            return None
        leveled = {name: measured.leveled(LEVELED_SHARE) for name, measured in errors.items()}
        limits = HALF_DB if manifest.runtime == "onnx" else (ESTIMATED_DB, ESTIMATED_DB)
        origin = f"the model has in {manifest.precision}"
        return Explained(leveled, limits, origin, samples=HALF_SAMPLES)
    report = _quantization(manifest.build)
    if EXPECTED not in report or saturates(manifest):
        return None
    exact = manifest.runtime == "onnx"  # computes the graph's own codes
    limits = HONEST_DB if exact else OTHER_ENGINE_DB
    mixes = report.get("options", {}).get("mode") == "dynamic"
    return Explained(_expected(report), limits, "its quantized graph has", mixes)


def _estimated(evidence: Evidence, measured: Explained | None) -> Explained | None:
    """Return what rounding to half precision explains of outputs for which that was not measured."""
    precision = evidence.manifest.precision
    if precision not in HALF_ROUNDING or evidence.manifest.runtime in _ADDS_IN_HALF:
        return None
    errors = {}
    for name, eager in rounding_errors(evidence.reference).items():
        if measured is None or name not in measured.errors:
            errors[name] = eager.scaled(HALF_ROUNDING[precision] ** 2)
    limits = (ESTIMATED_DB, ESTIMATED_DB)
    return Explained(errors, limits, f"{precision} explains by eager's own rounding")


def _quantization(build: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report of the quantization whose errors the build measured; empty without one."""
    reports = [record.get("quantize") or {} for record in build.get("passes", [])]
    return next((report for report in reports if report.get(EXPECTED)), {})


def _expected(report: Mapping[str, Any]) -> dict[str, Errors]:
    """Return the errors that the build measured. Raises ArtifactError if they cannot be read."""
    try:
        return TypeAdapter(dict[str, Errors]).validate_python(report[EXPECTED])
    except ValidationError as error:
        raise ArtifactError(f"its manifest's {EXPECTED} cannot be read: {error}") from error


def saturates(manifest: Manifest) -> bool:
    """Return whether the engine may add products of bytes in 16 bits on this CPU.

    ONNX Runtime can do without, unless a graph is final.
    """
    precise = manifest.runtime == "onnx" and manifest.build.get("optimize") != "all"
    narrow = machine.system().endswith("x86_64") and not machine.supports(*_WIDE)
    return narrow and not precise
