"""Options of a build."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from converters.steps.workers.local import IDLE_SECONDS
from runtimes.machine import machine
from runtimes.process.process import Limits
from runtimes.process.usage import memory_bytes

_MEMORY_SHARE = 0.9  # of this machine's memory for one step, so that the kernel kills no process
_JOB_BYTES = 4 << 30  # of free memory for each step beside another: exporting ViT-B/16 takes three


@dataclass(frozen=True)
class BuildOptions:
    """How a build is run; its result depends on the recipe only.

    Attributes:
        cache: whether results of steps, and verdicts, are reused from earlier builds and cached.
        fresh: whether every step runs and every artifact is judged, and the results are cached.
        jobs: steps that run side by side; None for as many as cores and memory allow.
        memory: bytes that a step may use; None for most of this machine's.
        idle: seconds without any progress after which a step is stopped.
    """

    cache: bool = False
    fresh: bool = False
    jobs: int | None = None
    memory: int | None = None
    idle: float = IDLE_SECONDS

    @property
    def most_jobs(self) -> int:
        """Number of steps that may run side by side."""
        if self.jobs is not None:
            return self.jobs
        by_memory = psutil.virtual_memory().available // _JOB_BYTES
        return max(1, min(len(machine.cores()), by_memory))

    @property
    def limits(self) -> Limits:
        """Limits of each step."""
        return Limits(self.idle, self.memory or int(_MEMORY_SHARE * memory_bytes()))


DEFAULTS = BuildOptions()
