"""What a process and all that it has started take: memory and processor time, read from the system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Usage:
    """Of a process tree at one moment.

    Attributes:
        memory: bytes of resident memory; what processes share counts in each.
        seconds: processor time so far, of those that live.
    """

    memory: int
    seconds: float


def usage(pid: int) -> Usage:
    """What the process and its descendants take now; nothing where it has ended."""
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
    """What the processes here can take together: this machine's memory, or less in a container."""
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
