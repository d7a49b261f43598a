"""Places for steps that run side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Places:
    """A number of places, of which a step takes one, or all to run alone."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = threading.Semaphore(count)
        self._door = threading.Lock()

    @contextmanager
    def take(self, alone: bool = False) -> Iterator[None]:
        """Wait for a place, or with `alone` for all; it is free again on leaving."""
        needed = self._count if alone else 1
        # In turn: two steps that each hold some places and wait for more would wait for ever.
        with self._door:
            for _ in range(needed):
                self._free.acquire()
        try:
            yield
        finally:
            self._free.release(needed)
