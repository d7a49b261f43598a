"""Gates: requirements on measurements. Each result names the measured value and its limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from runtimes.artifact.artifact import Artifact
from runtimes.precision.gate import precision_gate
from runtimes.results import GateResult
from runtimes.validator.defaults import (
    EDGE_ALLOWANCE,
    NOISE_FP32,
    SQNR_DB,
    UNREPEATABLE,
)
from runtimes.validator.evidence import Evidence, rms_between
from runtimes.validator.gates.batch import batch_invariant
from runtimes.validator.gates.decisions import decisions
from runtimes.validator.gates.finite import finite, not_comparable
from runtimes.validator.gates.honest import honest
from runtimes.validator.gates.metric import metric
from runtimes.validator.gates.original import from_original
from runtimes.validator.gates.outputs import apart_from, equal_shares, own_limits
from runtimes.validator.gates.sequence import sequence
from runtimes.validator.outputs.distance import error_scale, rms
from runtimes.validator.outputs.lossless_parts import judge_part_noise
from runtimes.validator.outputs.numbers import (
    exact_numbers,
    integers,
    judge_numbers,
    whole_numbers,
)
from runtimes.validator.outputs.parts import judge_parts, measure_parts
from runtimes.validator.outputs.repeats import judge_repeats
from runtimes.validator.outputs.sizes import judge_sizes
from runtimes.validator.outputs.unusual import on_unusual_values


def names_and_shapes(evidence: Evidence) -> GateResult:
    """Check that every output has eager's name, shape and dtype."""
    for probe, outputs, eager in zip(
        evidence.reference.probes, evidence.first, evidence.reference.eager, strict=True
    ):
        if list(outputs) != list(eager):
            return _fails("shapes", f"outputs are {list(outputs)}, eager's are {list(eager)}")
        for name, expected in eager.items():
            actual = outputs[name]
            if actual.shape != expected.shape or actual.dtype != expected.dtype:
                return _fails(
                    "shapes",
                    f"{name} at {probe.name} is {actual.dtype}{list(actual.shape)}, "
                    f"eager's is {expected.dtype}{list(expected.shape)}",
                )
    return GateResult(gate="shapes", ok=True, detail=f"as eager's on {len(evidence.first)} probes")


def precision(evidence: Evidence) -> GateResult:
    """Hold the layers to the table of the artifact's mode, by the engine's or exporter's count."""
    return precision_gate(evidence.manifest, evidence.layers)


def meaningful(evidence: Evidence) -> GateResult:
    """Check that the reference repeats and varies: any artifact agrees with a constant."""
    reference = evidence.reference
    if broken := not_comparable(reference):
        return _fails("reference", broken)
    if constant := reference.constant_outputs():
        return _fails(
            "reference",
            f"eager's output {', '.join(constant)} is the same for every probe, so agreement with "
            "it proves nothing; give the model real weights (or random:SEED, with which such heads "
            "vary), or leave out what is a constant: `outputs: {NAME: {ignore: true}}`",
        )
    truth = reference.truth[0].values()
    magnitude = max(rms(np.where(np.isfinite(values), values, 0.0)) for values in truth)
    if reference.state and reference.repeat_error:
        return _fails(
            "reference",
            f"forward() writes {', '.join(reference.state)}: the model keeps a state, so its answers "
            "depend on the calls before; make the state an input and an output",
        )
    if not reference.repeat_error <= UNREPEATABLE * magnitude:
        return _fails(
            "reference",
            "two runs of the eager model on one input differ by up to "
            f"{reference.repeat_error:.3g}: it is random or keeps a state, so there is no truth to "
            "compare an artifact with (a dropout that stays on?)",
        )
    detail = f"outputs vary; truth in {reference.truth_dtype}"
    return GateResult(gate="reference", ok=True, detail=detail)


def parity(evidence: Evidence) -> Iterator[GateResult]:
    """Yield noise for float32, SQNR for lossy precisions, and the recipe's further requirements."""
    single = [name for name, limits in evidence.gates.outputs.items() if limits.limits]
    yield from own_limits(evidence.gates, evidence.parity.outputs)
    numbers = [name for name in whole_numbers(evidence.reference) if name not in single]
    if evidence.lossless:
        yield from _exact(evidence, numbers)
        common = apart_from(evidence, single)
    else:
        if evidence.gates.sqnr_db is not None:  # judges all floats, a mask too
            numbers = integers(numbers, evidence.reference)
        yield from _numbers(evidence, numbers)
        common = apart_from(evidence, [*single, *numbers])
    if common.reference.eager[0]:
        yield from _common_limits(common)
    yield from decisions(evidence)
    yield from from_original(evidence)
    yield from sequence(evidence)
    yield from metric(evidence)


def _exact(evidence: Evidence, numbers: Sequence[str]) -> Iterator[GateResult]:
    """Yield the results of whole numbers in float32; a noise of the recipe's own judges them alone."""
    if evidence.gates.noise is None:
        yield from exact_numbers(evidence.first, evidence.reference, numbers)


def _numbers(evidence: Evidence, numbers: Sequence[str]) -> Iterator[GateResult]:
    """Yield the results of whole numbers in a lossy artifact; an SQNR of the recipe's own replaces some."""
    reference, precision = evidence.reference, evidence.manifest.precision
    yield from equal_shares(evidence.first, reference, numbers)
    if evidence.gates.sqnr_db is None:
        yield from judge_numbers(evidence.first, reference, numbers, precision)


def _common_limits(evidence: Evidence) -> Iterator[GateResult]:
    """Yield the results of the limits that hold for all outputs alike."""
    limits, measured = evidence.gates, evidence.parity
    noise = limits.noise or (NOISE_FP32 if evidence.lossless else None)
    sqnr = limits.sqnr_db
    if sqnr is None:
        sqnr = SQNR_DB.get(evidence.manifest.precision)
    if noise is not None:
        yield _limit("parity", f"noise ({measured.where})", measured.noise, noise, at_most=True)
    if noise is not None and measured.edge_where is not None:
        name, limit = f"noise ({measured.edge_where})", noise * EDGE_ALLOWANCE
        yield _limit("parity", name, measured.edge_noise, limit, at_most=True)
    within = noise is not None and measured.noise is not None and measured.noise <= noise
    if noise is not None and within and evidence.lossless:  # one reason is enough
        yield from judge_part_noise(evidence.first, evidence.reference, noise)
    if sqnr is not None:
        yield _limit("parity", "SQNR in dB", measured.sqnr_db, sqnr, at_most=False)
    if not evidence.lossless and limits.sqnr_db is None:
        parts = measure_parts(evidence.first, evidence.reference)
        yield from judge_parts(parts, evidence.manifest.precision)
        precision = evidence.manifest.precision
        yield from judge_repeats(evidence.first, evidence.reference)
        yield from judge_sizes(evidence.first, evidence.reference, precision)
        yield from on_unusual_values(evidence.first, evidence.reference, precision)
        if sqnr is None or (measured.sqnr_db or 0.0) >= sqnr:  # one reason is enough
            yield from honest(evidence)
    if limits.max_abs is not None:
        name = "largest absolute error"
        yield _limit("parity", name, measured.max_abs, limits.max_abs, at_most=True)


def deterministic(evidence: Evidence) -> GateResult:
    """Check that further runs of a probe differ by no more than eager's own rounding error.

    And that the session leaves alone its caller's arrays and the answers that it gave.
    """
    if evidence.problems:
        return _fails("deterministic", evidence.problems[0])
    reference = evidence.reference
    for repeat in evidence.repeats:
        probe = reference.probes[repeat.index]
        for name, first in evidence.first[repeat.index].items():
            eager, truth = reference.eager[repeat.index][name], reference.truth[repeat.index][name]
            rounding = error_scale(eager, truth, evidence.typical[name])
            again = repeat.outputs[name]
            if again.shape != first.shape:
                shapes = f"{list(first.shape)}, then {list(again.shape)} {repeat.how}"
                return _fails("deterministic", f"{name} at {probe.name} is {shapes}")
            moved = rms_between(again, first, eager)
            if not moved <= max(rounding, reference.repeat_error):  # NaN fails too
                difference = f"differs by {moved:.3g} rms {repeat.how}"
                return _fails("deterministic", f"{name} at {probe.name} {difference}")
    return GateResult(
        gate="deterministic", ok=True, detail=f"{len(evidence.repeats)} repeats agree"
    )


def size(artifact: Artifact, parent: Artifact | None) -> GateResult | None:
    """Check that a pruned artifact is smaller than the same format without its passes.

    None if no channels were pruned.
    """
    limit = artifact.manifest.gates.parent_size
    reports = [record.get("prune") for record in artifact.manifest.build.get("passes", [])]
    pruned = [report for report in reports if report and "structured" in report["options"]]
    if not pruned or limit is None:
        return None
    if parent is not None:
        actual, whole = artifact.size_bytes, parent.size_bytes
        baseline = f"{parent.manifest.name}'s on disk"
    else:
        actual, whole = pruned[-1]["after"]["bytes"], pruned[0]["before"]["bytes"]
        baseline = "the weights before"
    sizes = f"{actual / whole:.1%} of {baseline} ({actual:,.0f} of {whole:,.0f} bytes)"
    detail = f"{sizes}, required less than {limit:.0%}"
    return GateResult(gate="size", ok=actual < limit * whole, detail=detail)


def judge(evidence: Evidence) -> list[GateResult]:
    """Apply all gates before speed, in order; after a failure only determinism is still checked."""
    single: list[Callable[[Evidence], GateResult]] = [
        names_and_shapes,
        finite,
        precision,
        meaningful,
    ]
    results: list[GateResult] = []
    for gate in single:
        results.append(gate(evidence))
        if results[-1].ok is False:
            # An answer that the next call overwrites may look like anything.
            return [*results, deterministic(evidence)] if evidence.problems else results
    results += parity(evidence)
    if all(result.ok is not False for result in results):
        results.append(batch_invariant(evidence))
    # Checked even after a failure: if answers do not repeat (dropout left on), that explains the
    # parity.
    return [*results, deterministic(evidence)]


def _limit(gate: str, name: str, value: float | None, limit: float, at_most: bool) -> GateResult:
    if value is None:
        holds, measured = False, "none"
    else:
        holds, measured = (value <= limit if at_most else value >= limit), f"{value:.3g}"
    bound = "at most" if at_most else "at least"
    return GateResult(gate=gate, ok=holds, detail=f"{name} is {measured}, {bound} {limit:g}")


def _fails(gate: str, detail: str) -> GateResult:
    return GateResult(gate=gate, ok=False, detail=detail)
