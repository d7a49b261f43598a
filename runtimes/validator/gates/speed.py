"""Gates on speed: ratios to eager and to the parent, and the deadline. A ratio may be undecided."""

from __future__ import annotations

import math

from runtimes.artifact.gates import Gates
from runtimes.results import Deadline, GateResult, Speed
from runtimes.validator.accuracy import wilson
from runtimes.validator.defaults import LATE_SHARE, LONGEST_SECONDS, MIN_ROUNDS, UNSURE_FACTOR
from runtimes.validator.gates.decisions import samples_needed

Interval = tuple[float, float]


def decide(interval: Interval, required: float, sure: bool = True) -> bool | None:
    """Return whether a ratio reaches the required one; None if its interval leaves that open.

    Args:
        interval: of the ratio, 95 %.
        required: smallest ratio.
        sure: the interval rests on enough rounds of a machine at its usual speed. Otherwise the
            ratio has to be far on one side (UNSURE_FACTOR).
    """
    factor = 1.0 if sure else UNSURE_FACTOR
    low, high = interval
    if low >= required * factor:
        return True
    return False if high < required / factor else None


def is_sure(measured: Speed) -> bool:
    """Return whether an interval rests on enough rounds of a machine at its usual speed."""
    return measured.usual is not False and (measured.rounds or 0) >= MIN_ROUNDS


def speed(measured: Speed, gates: Gates) -> GateResult:
    """Check that the speed-up's 95 % interval lies at or above the required one."""
    if gates.speedup is None:
        return GateResult(gate="speed", ok=None, detail="not required")
    if measured.speedup is None or measured.ci95 is None:
        return GateResult(gate="speed", ok=None, detail="not measured")
    required = "speedup" in gates.model_fields_set
    result = _ratio("speed", "eager", measured.speedup, measured.ci95, gates.speedup, measured)
    return result.model_copy(update={"required": required})


def parent(measured: Speed, gates: Gates) -> GateResult | None:
    """Check that a quantized or pruned artifact is no slower than its parent; None without one."""
    beside, limit = measured.parent, gates.parent_speedup
    if beside is None or limit is None:
        return None
    if beside.speedup is None or beside.ci95 is None:
        detail = f"{beside.name} could not be timed beside it"
        return GateResult(gate="parent", ok=None, detail=detail)
    result = _ratio("parent", beside.name, beside.speedup, beside.ci95, limit, measured)
    return result.model_copy(update={"required": "parent_speedup" in gates.model_fields_set})


def _ratio(
    gate: str, base: str, ratio: float, interval: Interval, required: float, measured: Speed
) -> GateResult:
    low, high = interval
    detail = f"{ratio:.2f}x {base} (95 %: {low:.2f} to {high:.2f}), required {required:g}x"
    if measured.stable is False:
        detail += "; unstable"
    holds = decide(interval, required, is_sure(measured))
    if holds is not None:
        return GateResult(gate=gate, ok=holds, detail=detail)
    remedy = _remedy(ratio, interval, required, measured)
    return GateResult(gate=gate, ok=None, detail=detail, remedy=remedy)


def _remedy(ratio: float, interval: Interval, required: float, measured: Speed) -> str:
    """Return what would decide a ratio, by the square root law of its interval's width."""
    if measured.usual is False:
        return "the machine was slower than usual: repeat it on a quieter machine"
    low, high = interval
    distance = min(abs(math.log(ratio / required)), 1.0) if required > 0 else 1.0
    width = math.log(high / low) / 2 if low > 0 else math.inf
    seconds = (measured.seconds or 1.0) * max(2.0, (width / max(distance, 1e-9)) ** 2)
    if seconds > LONGEST_SECONDS:
        return (
            f"the ratio is too near to the limit for this machine: --seconds {LONGEST_SECONDS:g}, "
            "a quieter machine, or another limit may decide it"
        )
    return f"--seconds {math.ceil(seconds)} or a quieter machine may decide it"


def deadline(measured: Speed, gates: Gates) -> GateResult:
    """Check that 99 % of single requests at the deadline's rate are answered within it."""
    requests = measured.deadline
    if gates.deadline_ms is None:
        return GateResult(gate="deadline", ok=None, detail="not required")
    if requests is None:
        return GateResult(gate="deadline", ok=None, detail="not measured")
    detail = (
        f"p99 {requests.p99_ms:.3g} ms of {requests.requests} requests, "
        f"deadline {requests.deadline_ms:g} ms, {requests.misses_per_10000:.0f} misses per 10,000"
    )
    holds = decide_deadline(requests, measured.usual is not False)
    remedy = None
    if holds is None:
        remedy = _deadline_remedy(requests, measured.usual is not False)
    return GateResult(gate="deadline", ok=holds, detail=detail, remedy=remedy)


def decide_deadline(requests: Deadline, usual: bool = True) -> bool | None:
    """Return whether 99 % of all requests meet a deadline; None if those sent leave that open.

    The share of late requests is decided by its 95 % interval. If none is late and the slowest lies
    far within the deadline (UNSURE_FACTOR), few requests are enough; and on a machine that was slower
    than `usual`, late ones decide only if their 99th percentile lies as far beyond it.
    """
    low, high = _late_interval(requests)
    if high <= LATE_SHARE:
        return True
    if low > LATE_SHARE:
        surely = usual or requests.p99_ms > UNSURE_FACTOR * requests.deadline_ms
        return False if surely else None
    slowest = requests.slowest_ms
    if slowest is not None and slowest * UNSURE_FACTOR <= requests.deadline_ms:
        return True
    return None


def _late_interval(requests: Deadline, factor: float = 1.0) -> Interval:
    return wilson(requests.misses_per_10000 / 1e4, requests.requests * factor)


def _deadline_remedy(requests: Deadline, usual: bool) -> str:
    """Return what would decide a deadline: more requests, if the share of late ones stays."""

    def decided(factor: float) -> bool:
        low, high = _late_interval(requests, factor)
        return high <= LATE_SHARE or low > LATE_SHARE

    if not usual:
        return "the machine was slower than usual: repeat it on a quieter machine"
    needed = samples_needed(requests.requests, decided)
    seconds = math.inf if needed is None else math.ceil(needed * requests.deadline_ms / 1e3)
    if seconds > LONGEST_SECONDS:
        return (
            "too near to 99 % in time for this machine: a quieter one or another deadline decides"
        )
    return f"about {needed:,} requests may decide it: --seconds {seconds:.0f}"
