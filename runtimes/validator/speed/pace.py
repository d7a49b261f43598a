"""Pace of the machine: a fixed workload on all cores measures it before each round.

A virtual machine's cores are lent. For seconds or minutes they may be two threads of one real core,
or lie on two chips with a cache each, and everything that runs on both takes up to half as long
again: an engine of many small steps more than one of few large ones, so that their ratio changes.
No statistics over rounds can distinguish that from a slow engine; the fixed workload can.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from runtimes.files.atomic import write_atomically
from runtimes.machine.machine import cache_folder, cores, describe

_DATA = bytes(1 << 20)  # hashing a megabyte takes about a millisecond, without Python's global lock
_SHARED = np.zeros(1 << 18, np.float32)  # a megabyte that goes from core to core
_TRIES, _GAP_SECONDS = 24, 0.01
_IMPATIENT_TRIES = 4  # once nobody waits any more: whether it is usual still counts
_RETRY_SECONDS = 0.25
# Ratios to the fastest time ever measured that are still usual. Well below the effect of a shared
# core on hashing and of a second cache on a megabyte's way from core to core; well above the
# variation of either by itself.
_SLACK = {"compute": 1.1, "transfer": 1.5}


class Pace:
    """Compares the fixed workload's duration with the shortest that was ever measured here."""

    def __init__(self, workload: Callable[[], dict[str, float]] | None = None) -> None:
        """`workload`: returns its seconds by the names of `_SLACK`; by default on all cores."""
        self._workload = workload or Cores().run_workload
        self._random = random.Random(0)
        key = hashlib.sha256(json.dumps([describe()["cpu"], len(cores())]).encode()).hexdigest()[
            :16
        ]
        self._path = cache_folder() / f"pace-{key}.json"
        self._best = self._read()

    def usual(self, tries: int = _TRIES) -> bool:
        """Return whether the machine reaches its best speed, within about a quarter of a second."""
        left = set(_SLACK)
        for _ in range(tries):
            seconds = self._workload()
            if any(seconds[name] < self._best[name] for name in _SLACK):
                self._best = {name: min(seconds[name], self._best[name]) for name in _SLACK}
                self._write()
            left -= {name for name in left if seconds[name] <= self._best[name] * _SLACK[name]}
            if not left:
                return True
            # At random, so as not to fall into the rhythm of another process.
            time.sleep(self._random.uniform(0, 2 * _GAP_SECONDS))
        return False

    def wait(self, seconds: float) -> tuple[bool, float]:
        """Wait until the machine is at its usual speed, at most `seconds`.

        Returns:
            Whether it is, and the seconds that this took.
        """
        started = time.perf_counter()
        if seconds <= 0:
            usual = self.usual(_IMPATIENT_TRIES)
            return usual, time.perf_counter() - started
        while not (usual := self.usual()) and time.perf_counter() - started < seconds:
            time.sleep(_RETRY_SECONDS)
        return usual, time.perf_counter() - started

    def _read(self) -> dict[str, float]:
        try:
            best = json.loads(self._path.read_text(encoding="utf-8"))
            return {name: float(best[name]) for name in _SLACK}
        except (OSError, ValueError, TypeError, KeyError):
            return dict.fromkeys(_SLACK, float("inf"))

    def _write(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps(self._best))
        except OSError:
            return  # without a cache folder each run learns its best again


class Cores:
    """A thread on each core, which runs the fixed workload."""

    def __init__(self) -> None:
        """Start the threads."""
        self._threads = [
            ThreadPoolExecutor(1, initializer=_stay_on, initargs=(core,)) for core in cores()
        ]

    def run_workload(self) -> dict[str, float]:
        """Return the seconds of hashing on all cores at once, and of a megabyte's way through."""
        hashing = [thread.submit(_timed, _hash) for thread in self._threads]
        compute = max(future.result() for future in hashing)
        route = (*self._threads, self._threads[0])
        moving = [thread.submit(_timed, _update).result() for thread in route]
        return {"compute": compute, "transfer": sum(moving[1:])}


def _stay_on(core: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def _timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _hash() -> bytes:
    return hashlib.blake2b(_DATA).digest()


def _update() -> None:
    np.add(_SHARED, 1, out=_SHARED)
