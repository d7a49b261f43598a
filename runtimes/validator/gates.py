"""Gates: requirements on what was measured. Each answers in words that name the numbers on both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from runtimes.artifact import Manifest
from runtimes.results import GateResult, Parity, Speed
from runtimes.spec import Arrays
from runtimes.validator.defaults import COMPUTE_SHARE, ERROR_FLOOR, NOISE_FP32, SQNR_DB, Gates
from runtimes.validator.parity import rms
from runtimes.validator.reference import Reference


@dataclass(frozen=True)
class Evidence:
    """What one session answered to the probes: the outputs of a first and of a second run."""

    manifest: Manifest
    reference: Reference
    first: Sequence[Arrays]
    second: Sequence[Arrays]
    parity: Parity
    gates: Gates


def names_and_shapes(evidence: Evidence) -> GateResult:
    """Every output has the name, shape and dtype that eager gives it."""
    for probe, found, eager in zip(
        evidence.reference.probes, evidence.first, evidence.reference.eager, strict=True
    ):
        if list(found) != list(eager):
            return _fails("shapes", f"outputs {list(found)} where eager has {list(eager)}")
        for name, want in eager.items():
            got = found[name]
            if got.shape != want.shape or got.dtype != want.dtype:
                return _fails(
                    "shapes",
                    f"{name} at {probe.name} is {got.dtype}{list(got.shape)}, "
                    f"eager's is {want.dtype}{list(want.shape)}",
                )
    return GateResult(gate="shapes", ok=True, detail=f"as eager's on {len(evidence.first)} probes")


def finite(evidence: Evidence) -> GateResult:
    """No NaN or Inf where eager has none."""
    for probe, found, eager in zip(
        evidence.reference.probes, evidence.first, evidence.reference.eager, strict=True
    ):
        for name, values in found.items():
            bad = np.isfinite(eager[name]) & ~np.isfinite(values)
            if bad.any():
                return _fails("finite", f"{int(bad.sum())} of {bad.size} values of {name} at {probe.name} are not")
    return GateResult(gate="finite", ok=True, detail="no NaN or Inf that eager has not")


def precision(evidence: Evidence) -> GateResult:
    """The precision that was asked for is really there, by the exporter's count of computing layers."""
    wanted, layers = evidence.manifest.precision, evidence.manifest.build.get("compute_layers")
    if not layers:
        return GateResult(gate="precision", ok=None, detail="this format does not tell its layers' precision")
    share = layers.get(wanted, 0) / sum(layers.values())
    counts = ", ".join(f"{count} {name}" for name, count in sorted(layers.items()))
    return GateResult(
        gate="precision", ok=share >= COMPUTE_SHARE, detail=f"computing layers: {counts}; asked {wanted}"
    )


def meaningful(evidence: Evidence) -> GateResult:
    """The reference depends on its input: a constant one agrees with anything."""
    if constant := evidence.reference.constant_outputs():
        return _fails(
            "reference",
            f"eager's output {', '.join(constant)} is the same for every probe, so agreement with it proves "
            "nothing; give the model real weights (or random:SEED, which makes such heads vary)",
        )
    return GateResult(gate="reference", ok=True, detail=f"outputs vary; truth in {evidence.reference.truth_dtype}")


def parity(evidence: Evidence) -> Iterator[GateResult]:
    """Noise for float32, SQNR for lossy precisions, and whatever else the recipe asks."""
    asked, found = evidence.gates, evidence.parity
    lossless = evidence.manifest.precision == "fp32"
    noise = asked.noise or (NOISE_FP32 if lossless else None)
    sqnr = asked.sqnr_db if asked.sqnr_db is not None else SQNR_DB.get(evidence.manifest.precision)
    if noise is not None:
        yield _limit("parity", f"noise ({found.where})", found.noise, noise, at_most=True)
    if sqnr is not None:
        yield _limit("parity", "SQNR in dB", found.sqnr_db, sqnr, at_most=False)
    if asked.max_abs is not None:
        yield _limit("parity", "largest absolute error", found.max_abs, asked.max_abs, at_most=True)
    if asked.top1_agreement is not None:
        name = f"top-1 agreement over {found.samples} samples"
        yield _limit("parity", name, found.top1_agreement, asked.top1_agreement, at_most=False)


def deterministic(evidence: Evidence) -> GateResult:
    """Two runs on one probe differ by no more than eager's own rounding error."""
    for index, probe in enumerate(evidence.reference.probes):
        for name, first in evidence.first[index].items():
            truth = np.asarray(evidence.reference.truth[index][name], np.float64)
            own = rms(np.asarray(evidence.reference.eager[index][name], np.float64) - truth)
            allowed = max(own, ERROR_FLOOR * rms(truth), evidence.reference.repeat_error)
            again = evidence.second[index][name]
            if again.shape != first.shape:
                shapes = f"{list(first.shape)}, then {list(again.shape)}"
                return _fails("deterministic", f"{name} at {probe.name} is {shapes}")
            with np.errstate(invalid="ignore"):
                moved = rms(np.asarray(again, np.float64) - first)
            if not moved <= allowed:  # NaN fails too
                return _fails("deterministic", f"{name} at {probe.name} moved by {moved:.3g} rms between two runs")
    return GateResult(gate="deterministic", ok=True, detail="two runs agree")


def speed(found: Speed, gates: Gates) -> GateResult:
    """The speed-up's whole 95 % interval may not lie under what was asked."""
    if gates.speedup is None:
        return GateResult(gate="speed", ok=None, detail="not required")
    if found.speedup is None or found.ci95 is None:
        return GateResult(gate="speed", ok=None, detail="not measured")
    low, high = found.ci95
    detail = f"{found.speedup:.2f}x eager (95 %: {low:.2f} to {high:.2f}), asked {gates.speedup:g}x"
    return GateResult(
        gate="speed", ok=high >= gates.speedup, detail=detail + ("" if found.stable else "; unstable")
    )


def judge(evidence: Evidence) -> list[GateResult]:
    """All gates before speed, in order; the first that fails ends the list."""
    single: list[Callable[[Evidence], GateResult]] = [names_and_shapes, finite, precision, meaningful]
    results: list[GateResult] = []
    for gate in single:
        results.append(gate(evidence))
        if results[-1].ok is False:
            return results
    for result in (*parity(evidence), deterministic(evidence)):
        results.append(result)
        if result.ok is False:
            break
    return results


def _limit(gate: str, what: str, found: float | None, limit: float, at_most: bool) -> GateResult:
    holds = found is not None and (found <= limit if at_most else found >= limit)
    value = "none" if found is None else f"{found:.3g}"
    return GateResult(
        gate=gate, ok=holds, detail=f"{what} is {value}, {'at most' if at_most else 'at least'} {limit:g}"
    )


def _fails(gate: str, detail: str) -> GateResult:
    return GateResult(gate=gate, ok=False, detail=detail)
