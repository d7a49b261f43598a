"""Whether the machine is at its usual speed just now: fixed pieces of work on all cores, before each round.

A virtual machine's cores are lent. For seconds or minutes they may be two threads of one real core, or lie on two
chips with a cache each, and everything that runs on both takes up to half as long again: an engine of many small
steps more than one of few large ones, so that their ratio is another. No statistics over rounds can tell that
from a slow engine; the fixed work can.
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
_RETRY_SECONDS = 0.25
# How much slower than the best that was ever seen is usual still. Well below what a shared core does to hashing and
# what a second cache does to a megabyte's way from core to core; well above what either varies by itself.
_SLACK = {"compute": 1.1, "transfer": 1.5}


class Pace:
    """Knows the fastest that the fixed work was ever done on this machine."""

    def __init__(self, work: Callable[[], dict[str, float]] | None = None) -> None:
        """`work`: the seconds of one try, by the names of `_SLACK`; by default on the real cores."""
        self._work = work or Cores().work
        self._random = random.Random(0)
        key = hashlib.sha256(json.dumps([describe()["cpu"], len(cores())]).encode()).hexdigest()[:16]
        self._path = cache_folder() / f"pace-{key}.json"
        self._best = self._read()

    def usual(self) -> bool:
        """Whether the machine reaches its best speed now; tries for about a quarter of a second at most."""
        left = set(_SLACK)
        for _ in range(_TRIES):
            taken = self._work()
            if any(taken[name] < self._best[name] for name in _SLACK):
                self._best = {name: min(taken[name], self._best[name]) for name in _SLACK}
                self._write()
            left -= {name for name in left if taken[name] <= self._best[name] * _SLACK[name]}
            if not left:
                return True
            # At random, so as not to meet another's rhythm.
            time.sleep(self._random.uniform(0, 2 * _GAP_SECONDS))
        return False

    def wait(self, seconds: float) -> tuple[bool, float]:
        """Wait until the machine is at its usual speed, at most so long.

        Returns:
            Whether it is, and the seconds that this took.
        """
        started = time.perf_counter()
        while not (usual := self.usual()) and time.perf_counter() - started < seconds:
            time.sleep(_RETRY_SECONDS)
        return usual, time.perf_counter() - started

    def _read(self) -> dict[str, float]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return {name: float(found[name]) for name in _SLACK}
        except (OSError, ValueError, TypeError, KeyError):
            return dict.fromkeys(_SLACK, float("inf"))

    def _write(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps(self._best))
        except OSError:
            return  # without a cache folder each run learns anew


class Cores:
    """A thread on each core, which does the fixed work."""

    def __init__(self) -> None:
        """Start the threads."""
        self._threads = [ThreadPoolExecutor(1, initializer=_stay_on, initargs=(core,)) for core in cores()]

    def work(self) -> dict[str, float]:
        """Seconds of hashing on all cores at once, and of a megabyte's way through all of them."""
        hashing = [thread.submit(_timed, _hash) for thread in self._threads]
        compute = max(each.result() for each in hashing)
        moving = [thread.submit(_timed, _update).result() for thread in (*self._threads, self._threads[0])]
        return {"compute": compute, "transfer": sum(moving[1:])}


def _stay_on(core: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _hash() -> bytes:
    return hashlib.blake2b(_DATA).digest()


def _update() -> None:
    np.add(_SHARED, 1, out=_SHARED)
