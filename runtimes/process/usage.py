"""Memory and processor time of a process and all that it has started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Usage:
    """Usage of a process tree at one moment.

    Attributes:
        memory: bytes of resident memory; shared memory counts in each process.
        seconds: processor time so far of the living processes.
    """

    memory: int
    seconds: float


def usage(pid: int) -> Usage:
    """Return the current usage of the process and its descendants; zero if it has ended."""
    memory, seconds = 0, 0.0
    for process in _tree(pid):
        try:
            with process.oneshot():
                memory += process.memory_info().rss
                times = process.cpu_times()
        except psutil.Error:  # it has ended meanwhile
            continue
        seconds += times.user + times.system
    return Usage(memory, seconds)


def memory_bytes() -> int:
    """Return the memory for all processes: this machine's, or a container's limit."""
    total = int(psutil.virtual_memory().total)
    try:
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    except (OSError, ValueError):  # no control groups, or no limit: "max"
        return total


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []
