"""Progress: counts from deep inside a step, on their way to a watcher.

A function that iterates over many items counts them with `task` or `counted`. The counts belong to
a line, which `watched` opens and shows to a `Watcher`. In a child process they travel to the parent
like its messages. Without a line or a watcher, counting does nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sized
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

Tell = Callable[[str], None]
"""Takes a message about the current activity; a `Watcher` also takes counts."""
Advance = Callable[[int], None]
"""Adds units to those that are done."""

_SECONDS = 0.1  # between two counts of a line: no eye follows more
# Reports of a begin or an end that may follow at once; further ones wait for such pauses.
_BURST = 10
_TIMED_SECONDS = 1.0  # while time is measured, which each report may disturb
_UNWATCHED_SECONDS = 20.0  # without a watcher: a step that counts is alive (see the idle limit)


@dataclass(frozen=True)
class Count:
    """Units of work.

    Attributes:
        what: the unit, in the plural ("probes").
        done: never decreases.
        total: None if it is not known.
        limit: `total` is an upper limit: the work may end earlier.
    """

    what: str
    done: int
    total: int | None = None
    limit: bool = False


Counts = tuple[Count, ...]
"""Counts of one line; each is a part of one unit of the count before it."""
Send = Callable[[Counts], bool]
"""Shows the counts of a line; False if that was not possible just now."""


@dataclass(frozen=True)
class Progress:
    """State of one line.

    Attributes:
        task: identifies the line; several are open side by side.
        what: the activity ("exporting onnx").
        counts: empty if nothing is counted at the moment.
        timed: time is measured: nothing should be computed or drawn meanwhile.
        overall: the line counts the others.
        ended: the line's last state.
    """

    task: int
    what: str
    counts: Counts = ()
    timed: bool = False
    overall: bool = False
    ended: bool = False


class Watcher(ABC):
    """Function for messages that also takes counts. Both are called from any thread."""

    @abstractmethod
    def __call__(self, message: str) -> None:
        """Take a message about the current activity."""

    @abstractmethod
    def report(self, progress: Progress) -> None:
        """Take the new state of a line."""


class Line:
    """One line and its open counts, usable from any thread."""

    def __init__(self, send: Send | None, seconds: float) -> None:
        """`send`: takes the counts, about every `seconds` at most; None if nobody watches."""
        self.seconds, self._send = seconds, send
        self._lock, self._open = threading.RLock(), list[_Task]()
        self._shown: Counts = ()
        self._last, self._left = time.monotonic(), float(_BURST)

    @contextlib.contextmanager
    def task(
        self, what: str, total: int | None = None, *, limit: bool = False
    ) -> Iterator[Advance]:
        """Count units while inside; the result is called after further units are done."""
        if self._send is None:
            yield _ignore
            return
        task = _Task(self, what, total, limit)
        with self._lock:
            self._open.append(task)
            if self._may_show() >= 1:
                self._show()
        try:
            yield task
        finally:
            with self._lock:
                if task.shown:  # so that its end is seen
                    self._show()
                self._open.remove(task)
                if task.shown:
                    self._show()

    def changed(self) -> None:
        """Show the counts, unless they were shown a moment ago."""
        if time.monotonic() - self._last >= self.seconds:
            self._show()

    def _may_show(self) -> float:
        """How many reports may follow at once: they come back with time."""
        since = time.monotonic() - self._last
        return min(_BURST, self._left + since / self.seconds) if self.seconds else _BURST

    def relay(self, counts: Counts) -> None:
        """Show the counts of a child process instead of its own."""
        if self._send is not None:
            self._send(counts)

    def _show(self) -> None:
        with self._lock:
            counts = tuple(task.count for task in self._open)
            if self._send is None or counts == self._shown:
                return
            self._left, self._last = max(0.0, self._may_show() - 1), time.monotonic()
            if self._send(counts):
                self._shown = counts
                for task in self._open:
                    task.shown = True


class _Task:
    """One open count of a line."""

    def __init__(self, line: Line, what: str, total: int | None, limit: bool) -> None:
        self.count, self.shown, self._line = Count(what, 0, total, limit), False, line

    def __call__(self, steps: int = 1) -> None:
        """Add `steps`, up to the total."""
        before = self.count
        done = before.done + max(0, steps)
        done = done if before.total is None else min(done, before.total)
        self.count = Count(before.what, done, before.total, before.limit)
        self._line.changed()


def _ignore(steps: int = 1) -> None:
    """Count for nobody."""


_current: ContextVar[Line | None] = ContextVar("line of work", default=None)
_of_process: Line | None = None  # in a child: the line that its parent has opened for it
_numbers = itertools.count()


def report_to(send: Send, seconds: float) -> None:
    """Have this child process send all its counts to its parent."""
    global _of_process
    _of_process = Line(send, seconds)


@contextlib.contextmanager
def task(what: str, total: int | None = None, *, limit: bool = False) -> Iterator[Advance]:
    """Count units of the current line while inside.

    Args:
        what: the unit, in the plural.
        total: of units; None if it is not known.
        limit: `total` need not be reached.

    Returns:
        A function that adds done units, by default one.
    """
    line = _current.get() or _of_process
    if line is None:
        yield _ignore
        return
    with line.task(what, total, limit=limit) as advance:
        yield advance


class counted(Generic[T]):
    """Iterable over the same items that counts them in each iteration."""

    def __init__(
        self,
        items: Iterable[T],
        what: str,
        total: int | None = None,
        done: int = 0,
        *,
        limit: bool = False,
    ) -> None:
        """`total`: by default the length of `items`, if known. `done`: count of earlier units."""
        self._items, self._what, self._done, self._limit = items, what, done, limit
        self._total = len(items) if total is None and isinstance(items, Sized) else total

    def __iter__(self) -> Iterator[T]:
        """Iterate over the items; an item is done when the next is requested."""
        with task(self._what, self._total, limit=self._limit) as advance:
            advance(self._done)
            for item in self._items:
                try:
                    yield item
                finally:
                    advance(1)


@contextlib.contextmanager
def watched(tell: Tell, what: str, *, timed: bool = False, overall: bool = False) -> Iterator[Line]:
    """Open a line: counts of this thread inside, or by the line itself, are reported to `tell`.

    Args:
        tell: receives the line's states if it is a `Watcher`.
        what: the activity.
        timed: time is measured inside.
        overall: the line counts other lines.
    """
    if isinstance(tell, Watcher):
        reports = _Reports(tell, Progress(next(_numbers), what, (), timed, overall))
        line = Line(reports.show, _TIMED_SECONDS if timed else _SECONDS)
    else:
        reports, line = None, Line(None, _UNWATCHED_SECONDS)
    before = _current.set(line)
    if reports is not None:
        reports.show(())
    try:
        yield line
    finally:
        _current.reset(before)
        if reports is not None:
            reports.show((), ended=True)


class _Reports:
    """The states of one line, on their way to its watcher, whose errors end the reports only."""

    def __init__(self, watcher: Watcher, blank: Progress) -> None:
        self._watcher: Watcher | None = watcher
        self._blank = blank

    def show(self, counts: Counts, ended: bool = False) -> bool:
        """Report the state of the line."""
        if self._watcher is None:
            return True
        blank = self._blank
        progress = Progress(blank.task, blank.what, counts, blank.timed, blank.overall, ended)
        try:
            self._watcher.report(progress)
        except Exception:  # the display may be foreign code
            self._watcher = None
            message = "%s: its progress can no longer be shown"
            logging.getLogger(__name__).warning(message, blank.what, exc_info=True)
        return True
