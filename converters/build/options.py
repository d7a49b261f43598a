"""How a build is run."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from converters.steps.workers.local import IDLE_SECONDS
from runtimes.machine import machine
from runtimes.process.process import Limits
from runtimes.process.usage import memory_bytes

_MEMORY_SHARE = 0.9  # of this machine's memory that one step may take, so that the kernel need not choose


_JOB_BYTES = 4 << 30  # of free memory for each step beside another: ViT-B/16 is exported in three


@dataclass(frozen=True)
class BuildOptions:
    """How a build is run; what is made is the recipe's.

    Attributes:
        cache: whether results of steps, and verdicts, are taken from earlier builds and kept for later ones.
        fresh: whether all is made and judged anew, and kept.
        jobs: steps side by side; None for what cores and memory allow.
        memory: bytes that a step may take; None for most of this machine's.
        idle: seconds without any progress after which a step is stopped.
    """

    cache: bool = False
    fresh: bool = False
    jobs: int | None = None
    memory: int | None = None
    idle: float = IDLE_SECONDS

    @property
    def most_jobs(self) -> int:
        """As asked, or what cores and memory allow."""
        if self.jobs is not None:
            return self.jobs
        return max(1, min(len(machine.cores()), psutil.virtual_memory().available // _JOB_BYTES))

    @property
    def limits(self) -> Limits:
        """Of each step."""
        return Limits(self.idle, self.memory or int(_MEMORY_SHARE * memory_bytes()))


DEFAULTS = BuildOptions()
