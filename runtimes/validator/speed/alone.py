"""What is asked of one session alone: throughput, deadline, cold start, memory, share of the machine's peak."""

from __future__ import annotations

from runtimes.artifact.artifact import Manifest
from runtimes.machine.machine import bare_interpreter, cores
from runtimes.process.process import Child
from runtimes.results import Speed
from runtimes.validator.defaults import REQUEST_SECONDS
from runtimes.validator.speed.roofline import beaten


def alone(found: Speed, child: Child, manifest: Manifest, device: str, deadline_ms: float | None) -> Speed:
    """Complete a Speed with what needs no other session beside it.

    Args:
        found: latencies, and the ratio where there is one.
        child: hosts a `SessionHost`.
        manifest: of the artifact, for its operations and precision.
        device: the share of the peak is told on the CPU only.
        deadline_ms: also send single requests at this rate.

    Raises:
        BurnishError: the session ended.
    """
    throughput = child.call("throughput", timeout=REQUEST_SECONDS)
    met = child.call("meet", deadline_ms / 1e3, timeout=REQUEST_SECONDS) if deadline_ms else None
    cold = child.call("cold_start", timeout=REQUEST_SECONDS)
    memory = child.call("peak_memory", timeout=REQUEST_SECONDS)
    return found.model_copy(
        update={
            "throughput": throughput,
            "deadline": met,
            "cold_start_ms": cold * 1e3 if cold else None,
            "peak_memory_bytes": max(0, memory - bare_interpreter()) if memory else None,
            "compute_share": _share(found, manifest) if device == "cpu" else None,
        }
    )


def _share(found: Speed, manifest: Manifest) -> float | None:
    """Operations per second over the machine's peak; None where the operations are not known."""
    operations = manifest.build.get("flops")
    if not operations or not found.median_ms:
        return None
    reached = float(operations) / (found.median_ms / 1e3)
    peak = beaten(len(cores()), manifest.precision, reached).get(manifest.precision)
    return reached / peak if peak else None
