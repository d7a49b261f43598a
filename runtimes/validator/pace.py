"""Whether the machine is at its usual speed just now: a fixed piece of work on all cores at once, beside each round.

A virtual machine's cores are threads of real ones that others use too. For seconds or minutes two of them may share
one core, and everything that runs on both takes half as long again, one engine more than another: no statistics
over rounds can tell that from a slow engine. The fixed work can.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from runtimes.machine import cache_folder, cores, describe
from runtimes.results import write_atomically

_DATA = bytes(1 << 20)  # hashing a megabyte takes about a millisecond, without Python's global lock
_TRIES, _GAP_SECONDS = 24, 0.01
_SLOW = 1.1  # times the best that was ever seen here
_RETRY_SECONDS = 0.25


class Pace:
    """Knows the fastest that the fixed work was ever done on this machine."""

    def __init__(self, work: Callable[[], float] | None = None) -> None:
        """`work`: the seconds of one try; by default hashing on all cores at once."""
        self._pool = ThreadPoolExecutor(len(cores()))
        self._work = work or self._on_all_cores
        self._random = random.Random(0)
        key = hashlib.sha256(json.dumps([describe()["cpu"], len(cores())]).encode()).hexdigest()[:16]
        self._path = cache_folder() / f"pace-{key}.json"
        self._best = self._read()

    def usual(self) -> bool:
        """Whether the machine reaches its best speed now; tries for about a quarter of a second at most."""
        for _ in range(_TRIES):
            taken = self._work()
            if taken < self._best:
                self._best = taken
                self._write()
            if taken <= self._best * _SLOW:
                return True
            # At random, so as not to meet another's rhythm.
            time.sleep(self._random.uniform(0, 2 * _GAP_SECONDS))
        return False

    def wait(self, seconds: float) -> float:
        """Wait until the machine is at its usual speed, at most so long; return the seconds that this took."""
        started = time.perf_counter()
        while not self.usual() and time.perf_counter() - started < seconds:
            time.sleep(_RETRY_SECONDS)
        return time.perf_counter() - started

    def _on_all_cores(self) -> float:
        return max(self._pool.map(_hash, cores()))

    def _read(self) -> float:
        try:
            return float(json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return float("inf")

    def _write(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps(self._best))
        except OSError:
            return  # without a cache folder each run learns anew


def _hash(core: int) -> float:
    start = time.perf_counter()
    hashlib.blake2b(_DATA).digest()
    return time.perf_counter() - start
