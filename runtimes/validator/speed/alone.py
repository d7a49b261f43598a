"""Measurements of one session alone: throughput, deadline, cold start, memory, compute share."""

from __future__ import annotations

from runtimes.artifact.artifact import Manifest
from runtimes.machine.machine import bare_interpreter, cores
from runtimes.process.process import Child
from runtimes.results import Speed
from runtimes.validator.defaults import REQUEST_SECONDS
from runtimes.validator.speed.roofline import beaten


def alone(
    measured: Speed,
    child: Child,
    manifest: Manifest,
    device: str,
    deadline_ms: float | None,
    seconds: float,
    deadline_seconds: float = 0.0,
) -> Speed:
    """Complete a Speed with the measurements that need no other session.

    Args:
        measured: latencies, and the ratio if there is one.
        child: hosts a `SessionHost`.
        manifest: of the artifact, for its operations and precision.
        device: the compute share is measured on the CPU only.
        deadline_ms: also send single requests at this rate.
        seconds: budget of the throughput.
        deadline_seconds: of requests, if it is more than usual and the deadline undecided.

    Raises:
        BurnishError: the session ended.
    """
    throughput = child.call("throughput", seconds, timeout=REQUEST_SECONDS)
    deadline = None
    if deadline_ms:
        deadline = child.call(
            "meet", deadline_ms / 1e3, deadline_seconds, timeout=REQUEST_SECONDS + deadline_seconds
        )
    cold = child.call("cold_start", timeout=REQUEST_SECONDS)
    memory = child.call("peak_memory", timeout=REQUEST_SECONDS)
    return measured.model_copy(
        update={
            "throughput": throughput,
            "deadline": deadline,
            "cold_start_ms": cold * 1e3 if cold else None,
            "peak_memory_bytes": max(0, memory - bare_interpreter()) if memory else None,
            "compute_share": _share(measured, manifest) if device == "cpu" else None,
        }
    )


def _share(measured: Speed, manifest: Manifest) -> float | None:
    """Return operations per second over the machine's peak; None if the operations are unknown."""
    operations = manifest.build.get("flops")
    if not operations or not measured.median_ms:
        return None
    reached = float(operations) / (measured.median_ms / 1e3)
    peak = beaten(len(cores()), manifest.precision, reached).get(manifest.precision)
    return reached / peak if peak else None
