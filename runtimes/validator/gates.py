"""Gates: requirements on what was measured. Each answers in words that name the numbers on both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from runtimes.artifact.artifact import Artifact, Manifest
from runtimes.artifact.gates import Gates
from runtimes.results import Accuracy, GateResult, Parity, Speed
from runtimes.spec import Arrays
from runtimes.validator.defaults import (
    COMPUTE_SHARE,
    EDGE_ALLOWANCE,
    NOISE_FP32,
    PRUNED_ACCURACY_DROP,
    PRUNED_AGREEMENT,
    SQNR_DB,
    UNREPEATABLE,
)
from runtimes.validator.parity import error_scale, rms, typical_errors
from runtimes.validator.probes import batch_dimension
from runtimes.validator.reference import Reference


@dataclass(frozen=True)
class Evidence:
    """What one session answered to the probes, and again to the first of them.

    `layers`: computing layers by the precision they were executed in, where the engine tells.
    """

    manifest: Manifest
    reference: Reference
    first: Sequence[Arrays]
    second: Sequence[Arrays]
    parity: Parity
    gates: Gates
    layers: dict[str, int] | None = None

    @cached_property
    def typical(self) -> dict[str, float]:
        """Eager's usual error per output."""
        return typical_errors(self.reference)

    @property
    def lossless(self) -> bool:
        """Whether the artifact computes in eager's own precision."""
        return self.manifest.precision == "fp32"


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
    """No NaN or Inf where eager has none; a lossy artifact may overflow at edge values."""
    for probe, found, eager in zip(
        evidence.reference.probes, evidence.first, evidence.reference.eager, strict=True
    ):
        if probe.kind == "edge" and not evidence.lossless:
            continue
        for name, values in found.items():
            bad = np.isfinite(eager[name]) & ~np.isfinite(values)
            if bad.any():
                return _fails("finite", f"{int(bad.sum())} of {bad.size} values of {name} at {probe.name} are not")
    return GateResult(gate="finite", ok=True, detail="no NaN or Inf that eager has not")


def precision(evidence: Evidence) -> GateResult:
    """The precision that was asked for is really there, by the engine's count of layers or the exporter's."""
    wanted = evidence.manifest.precision
    layers = evidence.layers or evidence.manifest.build.get("compute_layers")
    if not layers:
        return GateResult(gate="precision", ok=None, detail="this format does not tell its layers' precision")
    kept = len(evidence.manifest.build.get("kept_layers", []))  # they are wanted float
    share = layers.get(wanted, 0) / max(1, sum(layers.values()) - kept)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(layers.items()))
    counts += f" ({kept} kept float, by `exclude`, a budget, their range or the quantizer)" if kept else ""
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
    size = max(rms(np.where(np.isfinite(truth), truth, 0.0)) for truth in evidence.reference.truth[0].values())
    if not evidence.reference.repeat_error <= UNREPEATABLE * size:
        return _fails(
            "reference",
            f"two runs of the eager model on one input differ by up to {evidence.reference.repeat_error:.3g}: it "
            "is random or keeps a state, so there is no truth to hold an artifact to (a dropout that stays on?)",
        )
    return GateResult(gate="reference", ok=True, detail=f"outputs vary; truth in {evidence.reference.truth_dtype}")


def parity(evidence: Evidence) -> Iterator[GateResult]:
    """Noise for float32, SQNR for lossy precisions, and whatever else the recipe asks."""
    asked, found = evidence.gates, evidence.parity
    noise = asked.noise or (NOISE_FP32 if evidence.lossless else None)
    sqnr = asked.sqnr_db if asked.sqnr_db is not None else SQNR_DB.get(evidence.manifest.precision)
    if noise is not None:
        yield _limit("parity", f"noise ({found.where})", found.noise, noise, at_most=True)
    if noise is not None and found.edge_where is not None:
        limit = noise * EDGE_ALLOWANCE
        yield _limit("parity", f"noise ({found.edge_where})", found.edge_noise, limit, at_most=True)
    if sqnr is not None:
        yield _limit("parity", "SQNR in dB", found.sqnr_db, sqnr, at_most=False)
    if asked.max_abs is not None:
        yield _limit("parity", "largest absolute error", found.max_abs, asked.max_abs, at_most=True)
    agreement, drop = _decisions(evidence)
    if agreement is not None:
        whom = " with the model before its passes" if evidence.reference.original else ""
        name = f"top-1 agreement{whom} over {found.samples} samples"
        yield _limit("parity", name, found.top1_agreement, agreement, at_most=False)
    if drop is not None:
        yield _accuracy(found.accuracy, drop)


def _decisions(evidence: Evidence) -> tuple[float | None, float | None]:
    """The agreement and the loss of accuracy that are asked; of a pruned classifier with data, by default."""
    asked, found = evidence.gates, evidence.parity
    changed = evidence.reference.original is not None and not evidence.reference.synthetic
    if not changed or {"top1_agreement", "accuracy_drop"} & asked.model_fields_set:
        return asked.top1_agreement, asked.accuracy_drop
    if found.accuracy is not None:
        return None, PRUNED_ACCURACY_DROP
    return (PRUNED_AGREEMENT if found.top1_agreement is not None else None), None


def _accuracy(found: Accuracy | None, limit: float) -> GateResult:
    """The drop may not exceed the limit; where the interval does, the verdict says what the samples cannot."""
    if found is None:
        return _fails("parity", "an accuracy_drop is asked, but no probe has a label: name `labels:` in `data:`")
    low, high = found.ci95
    detail = (
        f"accuracy {found.artifact:.1%}, eager's {found.eager:.1%}: drop {found.drop:.1%} on {found.samples} "
        f"samples (95 %: {low:.1%} to {high:.1%}), at most {limit:.1%}"
    )
    unproven = found.drop <= limit < high
    words = "; so few samples cannot prove it" if unproven else ""
    return GateResult(gate="parity", ok=found.drop <= limit, detail=detail + words)


def batch_invariant(evidence: Evidence) -> GateResult:
    """Row k of a batch equals sample k alone, within the error that parity allows.

    Judged where eager's own rows do: BatchNorm in training mode, for one, depends on the whole batch.
    """
    batch = batch_dimension(evidence.manifest.inputs)
    batches = [(index, probe) for index, probe in enumerate(evidence.reference.probes) if probe.rows]
    compared = 0
    for index, probe in batches:
        for name, spec in evidence.manifest.outputs.items():
            if not spec.shape or spec.shape[0] != batch:
                continue
            for row, sample in enumerate(probe.rows):
                mine = evidence.first[index][name][row], evidence.first[sample][name][0]
                theirs = evidence.reference.eager[index][name][row], evidence.reference.eager[sample][name][0]
                allowed = _allowed(evidence, name, theirs[1], evidence.reference.truth[sample][name][0])
                if theirs[0].shape != theirs[1].shape or not _moved(*theirs, theirs[1]) <= allowed:
                    continue
                compared += 1
                moved = _moved(*mine, theirs[1])
                if not moved <= allowed:
                    where = f"row {row} of {name} at {probe.name}"
                    return _fails("batch", f"{where} differs from the same sample alone by {moved:.3g} rms")
    if not compared:
        return GateResult(gate="batch", ok=None, detail="no dynamic batch to compare")
    return GateResult(gate="batch", ok=True, detail=f"{compared} rows of {len(batches)} batches as alone")


def _allowed(evidence: Evidence, name: str, eager: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> float:
    """The rms by which two answers of the artifact to one sample may differ: twice what parity allows each."""
    if evidence.lossless:
        return 2 * (evidence.gates.noise or NOISE_FP32) * error_scale(eager, truth, evidence.typical[name])
    asked = evidence.gates.sqnr_db
    sqnr = SQNR_DB.get(evidence.manifest.precision, 0.0) if asked is None else asked
    return 2 * rms(np.where(np.isfinite(truth), truth, 0.0)) * 10 ** (-sqnr / 20)


def _moved(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], eager: np.ndarray[Any, Any]) -> float:
    """The rms between two answers to one sample, where eager's is finite."""
    with np.errstate(invalid="ignore"):
        difference = np.asarray(one, np.float64) - other
    return rms(np.where(np.isfinite(eager), difference, 0.0))


def deterministic(evidence: Evidence) -> GateResult:
    """Two runs on one probe differ by no more than eager's own rounding error."""
    for index in range(len(evidence.second)):
        probe = evidence.reference.probes[index]
        for name, first in evidence.first[index].items():
            eager, truth = evidence.reference.eager[index][name], evidence.reference.truth[index][name]
            allowed = max(error_scale(eager, truth, evidence.typical[name]), evidence.reference.repeat_error)
            again = evidence.second[index][name]
            if again.shape != first.shape:
                shapes = f"{list(first.shape)}, then {list(again.shape)}"
                return _fails("deterministic", f"{name} at {probe.name} is {shapes}")
            moved = _moved(again, first, eager)
            if not moved <= allowed:  # NaN fails too
                return _fails("deterministic", f"{name} at {probe.name} moved by {moved:.3g} rms between two runs")
    return GateResult(gate="deterministic", ok=True, detail="two runs agree")


def size(made: Artifact, parent: Artifact | None) -> GateResult | None:
    """What lost channels is smaller than the same format without its passes; None where none were pruned."""
    passes, limit = made.manifest.build.get("passes", []), made.manifest.gates.parent_size
    pruned = [found for one in passes if (found := one.get("prune")) and "structured" in found["options"]]
    if not pruned or limit is None:
        return None
    if parent is not None:
        found, whole, what = made.size_bytes, parent.size_bytes, f"{parent.manifest.name}'s on disk"
    else:
        found, whole, what = pruned[-1]["after"]["bytes"], pruned[0]["before"]["bytes"], "the weights before"
    detail = f"{found / whole:.1%} of {what} ({found:,.0f} of {whole:,.0f} bytes), asked less than {limit:.0%}"
    return GateResult(gate="size", ok=found < limit * whole, detail=detail)


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


def parent(found: Speed, gates: Gates) -> GateResult | None:
    """A quantized or pruned artifact is no slower than the float one that it comes from; None without one."""
    if found.parent is None or gates.parent_speedup is None:
        return None
    name, (low, high) = found.parent.name, found.parent.ci95 or (0.0, 0.0)
    if found.parent.speedup is None:
        return GateResult(gate="parent", ok=None, detail=f"{name} could not be timed beside it")
    detail = f"{found.parent.speedup:.2f}x {name} (95 %: {low:.2f} to {high:.2f}), asked {gates.parent_speedup:g}x"
    return GateResult(gate="parent", ok=high >= gates.parent_speedup, detail=detail)


def deadline(found: Speed, gates: Gates) -> GateResult:
    """The 99th percentile of single requests at the deadline's rate lies within it."""
    met = found.deadline
    if gates.deadline_ms is None or met is None:
        return GateResult(
            gate="deadline", ok=None, detail="not required" if gates.deadline_ms is None else "not measured"
        )
    detail = (
        f"p99 {met.p99_ms:.3g} ms of {met.requests} requests, deadline {met.deadline_ms:g} ms, "
        f"{met.misses_per_10000:.0f} misses per 10,000"
    )
    return GateResult(gate="deadline", ok=met.p99_ms <= met.deadline_ms, detail=detail)


def judge(evidence: Evidence) -> list[GateResult]:
    """All gates before speed, in order; a failure ends the list, but for the question whether answers repeat."""
    single: list[Callable[[Evidence], GateResult]] = [names_and_shapes, finite, precision, meaningful]
    results: list[GateResult] = []
    for gate in single:
        results.append(gate(evidence))
        if results[-1].ok is False:
            return results
    results += parity(evidence)
    if all(result.ok is not False for result in results):
        results.append(batch_invariant(evidence))
    # Asked even after a failure: an artifact that cannot repeat itself (dropout left on) explains its parity.
    return [*results, deterministic(evidence)]


def _limit(gate: str, what: str, found: float | None, limit: float, at_most: bool) -> GateResult:
    holds = found is not None and (found <= limit if at_most else found >= limit)
    value = "none" if found is None else f"{found:.3g}"
    return GateResult(
        gate=gate, ok=holds, detail=f"{what} is {value}, {'at most' if at_most else 'at least'} {limit:g}"
    )


def _fails(gate: str, detail: str) -> GateResult:
    return GateResult(gate=gate, ok=False, detail=detail)
