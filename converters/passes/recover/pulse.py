"""Progress messages of long work: a step of a build that reports nothing for an hour is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable

_SECONDS = 20.0  # between two messages: often enough for a reader, seldom enough for a log


class Pulse:
    """Passes a message on if the last one was some time ago."""

    def __init__(self, tell: Callable[[str], object], seconds: float = _SECONDS) -> None:
        self._tell, self._seconds, self._last = tell, seconds, time.monotonic()

    def __call__(self, message: str) -> None:
        """Report the message, or drop it."""
        now = time.monotonic()
        if now - self._last >= self._seconds:
            self._last = now
            self._tell(message)
