"""Progress on a terminal: a line for each step that runs, redrawn in place and gone when all is done."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from burnish.report.text import line
from runtimes.progress import Count, Counts, Progress, Watcher

_TICK_SECONDS = 0.25  # between two drawings: the clocks run, and a build loses less than a hundredth of a core
_TIMED_SECONDS = 1.0  # the same while time is measured, and then only between two measurements
_LEAST_SHARE, _LEAST_SECONDS = 0.02, 1.0  # of a task that must be done before its end can be estimated
_MARGIN = 3  # columns at the right, where a terminal writes ^C: a line more, and not all would be erased
_WIDE, _USUAL, _NARROW = 100, 80, 70  # columns of a terminal: what is shown depends on them


@dataclass
class Row:
    """One line of work on the screen.

    Attributes:
        what: is done, without control characters.
        counts: how far it is.
        started: when the line was opened, by the display's clock.
        since: when its outermost count was opened.
        timed, overall: as in `Progress`.
    """

    what: str
    counts: Counts
    started: float
    since: float
    timed: bool = False
    overall: bool = False


class Display(Watcher):
    """The screen of one verb. Use as a context manager: on leaving, nothing remains but a visible cursor."""

    def __init__(self, out: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """`out`: a console on a terminal."""
        self._out, self._clock, self._started = out, clock, clock()
        self._rows: dict[int, Row] = {}
        self._message, self._widest = "starting", 0
        self._lock, self._drawn = threading.RLock(), float("-inf")
        self._untimed, self._over = threading.Event(), threading.Event()
        self._untimed.set()
        self._ticks = threading.Thread(target=self._tick, name="progress", daemon=True)
        # What is printed meanwhile goes above the lines; a file or a pipe that stdout is gets what it is due.
        self._live = Live(
            console=out,
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            get_renderable=self._render,
        )

    def __call__(self, message: str) -> None:
        """Show the newest message below the lines."""
        with self._lock:
            self._message = line(message)
            self._draw_between()

    def report(self, progress: Progress) -> None:
        """Show the new state of a line."""
        with self._lock:
            row = self._rows.get(progress.task)
            if progress.ended:
                self._rows.pop(progress.task, None)
            elif row is None:
                self._open(progress)
            other = row is None or progress.ended or self._update(row, progress.counts)
            timed = any(row.timed for row in self._rows.values())
            self._untimed.clear() if timed else self._untimed.set()
            self._draw_between(at_once=other)

    def _open(self, progress: Progress) -> None:
        what, now = line(progress.what), self._clock()
        if self._message in (what, "starting"):  # it has a line of its own now
            self._message = ""
        started = self._started if progress.overall else now
        self._rows[progress.task] = Row(what, progress.counts, started, now, progress.timed, progress.overall)

    def _update(self, row: Row, counts: Counts) -> bool:
        """Give a row its counts; whether its outermost one is another than before."""
        before, after = ([count.what for count in outer[:1]] for outer in (row.counts, counts))
        row.counts = counts
        if before != after:
            row.since = self._clock()
        return before != after

    def _draw_between(self, at_once: bool = False) -> None:
        """While time is measured, draw in the thread that reports: its next measurement waits for that."""
        if not self._untimed.is_set() and (at_once or self._clock() - self._drawn >= _TIMED_SECONDS):
            self._draw()

    def _draw(self) -> None:
        if self._over.is_set():
            return
        self._drawn = self._clock()
        try:
            self._live.refresh()
        except OSError:  # the terminal is gone; the work goes on
            self._over.set()

    def _tick(self) -> None:
        while not self._over.wait(_TICK_SECONDS):
            self._untimed.wait()
            with self._lock:
                if self._untimed.is_set():
                    self._draw()

    def _render(self) -> RenderableType:
        """As many rows as the terminal has room for, those that count the others last; then the message."""
        width, now = max(1, self._out.width - _MARGIN), self._clock()
        room = max(1, self._out.height - 2)
        rows = sorted(self._rows.values(), key=lambda row: row.overall)[-room:]
        words = [count_words(row.counts, self._out.width >= _USUAL) for row in rows]
        self._widest = max([self._widest, *map(len, words)])  # else bars would move to and fro
        parts: list[RenderableType] = []
        if rows:
            parts.append(_table(rows, [text.ljust(self._widest) for text in words], self._out.width, now))
        if self._message or not rows:
            parts.append(Text(self._message, style="dim", no_wrap=True, overflow="ellipsis"))
        return Constrain(Group(*parts), width)

    def __enter__(self) -> Self:
        self._live.start()
        self._ticks.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._over.set()
        self._untimed.set()
        self._ticks.join()
        with contextlib.suppress(OSError):  # the terminal is gone
            self._live.stop()


def _table(rows: Sequence[Row], words: Sequence[str], width: int, now: float) -> Table:
    """A grid of all the width that there is: what is done gets the room that the rest leaves."""
    left = [time_left(row, now) for row in rows]
    columns = [Column(ratio=1, no_wrap=True, overflow="ellipsis"), Column(no_wrap=True), Column(no_wrap=True)]
    columns.append(Column(no_wrap=True, justify="right", min_width=5))
    columns.append(Column(no_wrap=True, min_width=len("<0:00 left") if width >= _NARROW else 0))
    table = Table.grid(*columns, padding=(0, 2, 0, 0), pad_edge=False, expand=True)
    for row, counts, rest in zip(rows, words, left, strict=True):
        what = Text(row.what, style="bold" if row.overall else "")
        elapsed = Text(clock(now - row.started), style="dim")
        table.add_row(what, _bar(row, width, now), Text(counts), elapsed, Text(rest, style="cyan"))
    return table


def _bar(row: Row, width: int, now: float) -> ProgressBar:
    """A bar; one that moves to and fro where it is not known how much there is to do."""
    share = done_share(row.counts)
    columns = 20 if width >= _WIDE else 10 if width >= _NARROW else 6
    return ProgressBar(None if share is None else 1.0, share or 0.0, columns, animation_time=now)


def done_share(counts: Counts) -> float | None:
    """The share that is done, 0 to 1; None if no total is known. An inner count fills one unit of the outer one."""
    share: float | None = None
    for count in reversed(counts):
        if count.total is None:
            share = None
        elif count.total:
            share = min(1.0, (count.done + (share or 0.0)) / count.total)
        else:
            share = 1.0
    return share


def time_left(row: Row, now: float) -> str:
    """The time left if the work goes on as it did, as long as that can be known; `<` if it may end earlier."""
    share, elapsed = done_share(row.counts), now - row.since
    if row.overall or share is None or not _LEAST_SHARE <= share < 1 or elapsed < _LEAST_SECONDS:
        return ""
    most = "<" if any(count.limit for count in row.counts) else ""
    return f"{most}{clock(elapsed * (1 - share) / share)} left"


def clock(seconds: float) -> str:
    """Minutes and seconds as 1:05, or 2:01:05."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def count_words(counts: Counts, both: bool) -> str:
    """The outermost count, and `both` it and the innermost."""
    chosen = (counts[0], counts[-1]) if both and len(counts) > 1 else counts[:1]
    return ", ".join(_words(count) for count in chosen)


def _words(count: Count) -> str:
    """One count, as wide as it is when all is done."""
    if count.total is None:
        return f"{line(count.what)} {count.done}"
    return f"{line(count.what)} {count.done:>{len(str(count.total))}}/{count.total}"
