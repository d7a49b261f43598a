"""Progress on a terminal: a line for each step that runs, redrawn in place."""

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

_TICK_SECONDS = 0.25  # between redraws: clocks run, and a build loses less than 1 % of a core
_TIMED_SECONDS = 1.0  # the same while time is measured, and then only between two measurements
_MIN_SHARE, _MIN_SECONDS = 0.02, 1.0  # of a task that must be done to estimate its end
_MARGIN = 3  # columns at the right, where a terminal writes ^C: a longer line would not be erased
_WIDE, _USUAL, _NARROW = 100, 80, 70  # columns of a terminal: the layout depends on them


@dataclass
class LiveRow:
    """One line of work on the screen.

    Attributes:
        description: of the work, without control characters.
        counts: progress of the work.
        started: when the line was opened, by the display's clock.
        since: when its outermost count was opened.
        timed, overall: as in `Progress`.
    """

    description: str
    counts: Counts
    started: float
    since: float
    timed: bool = False
    overall: bool = False


class Display(Watcher):
    """The screen of one verb, as a context manager; at the end it removes all lines."""

    def __init__(self, out: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """`out`: a console on a terminal."""
        self._out, self._clock, self._started = out, clock, clock()
        self._rows: dict[int, LiveRow] = {}
        self._message, self._widest = "starting", 0
        self._lock, self._drawn = threading.RLock(), float("-inf")
        self._untimed, self._over = threading.Event(), threading.Event()
        self._untimed.set()
        self._ticks = threading.Thread(target=self._tick, name="progress", daemon=True)
        # Last, since it renders at once. Other output to the terminal goes above the lines; if
        # stdout is a file or a pipe, its output goes there.
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
            row, at_once = self._rows.get(progress.task), True
            if progress.ended:
                self._rows.pop(progress.task, None)
            elif row is None:
                self._open(progress)
            else:
                at_once = self._update(row, progress.counts)
            timed = any(row.timed for row in self._rows.values())
            self._untimed.clear() if timed else self._untimed.set()
            self._draw_between(at_once)

    def _open(self, progress: Progress) -> None:
        description, now = line(progress.what), self._clock()
        if self._message in (description, "starting"):  # it has a line of its own now
            self._message = ""
        started = self._started if progress.overall else now
        self._rows[progress.task] = LiveRow(
            description, progress.counts, started, now, progress.timed, progress.overall
        )

    def _update(self, row: LiveRow, counts: Counts) -> bool:
        """Set the counts of a row; return whether its outermost count is a new one."""
        before = row.counts[0].what if row.counts else None
        after = counts[0].what if counts else None
        row.counts = counts
        if before != after:
            row.since = self._clock()
        return before != after

    def _draw_between(self, at_once: bool = False) -> None:
        """While time is measured, draw in the reporting thread, before its next measurement."""
        is_due = at_once or self._clock() - self._drawn >= _TIMED_SECONDS
        if is_due and not self._untimed.is_set():
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
        """Return as many rows as the terminal has room for, overall rows last, and the message."""
        width, now = max(1, self._out.width - _MARGIN), self._clock()
        room = max(1, self._out.height - 2)
        rows = sorted(self._rows.values(), key=lambda row: row.overall)[-room:]
        texts = [count_text(row.counts, self._out.width >= _USUAL) for row in rows]
        self._widest = max([self._widest, *map(len, texts)])  # otherwise bars would move to and fro
        parts: list[RenderableType] = []
        if rows:
            padded = [text.ljust(self._widest) for text in texts]
            parts.append(_table(rows, padded, self._out.width, now))
        if self._message or not rows:
            parts.append(Text(self._message, style="dim", no_wrap=True, overflow="ellipsis"))
        return Constrain(Group(*parts), width)

    def __enter__(self) -> Self:
        self._live.start()
        self._ticks.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._untimed.set()
        self._ticks.join()
        with contextlib.suppress(OSError):  # the terminal is gone
            self._live.stop()


def _table(rows: Sequence[LiveRow], texts: Sequence[str], width: int, now: float) -> Table:
    """Return a grid as wide as the terminal; descriptions get the room that other columns leave."""
    columns = [
        Column(ratio=1, no_wrap=True, overflow="ellipsis"),  # description
        Column(no_wrap=True),  # bar
        Column(no_wrap=True),  # counts
        Column(no_wrap=True, justify="right", min_width=5),  # time elapsed
        Column(no_wrap=True, min_width=len("<0:00 left") if width >= _NARROW else 0),  # time left
    ]
    table = Table.grid(*columns, padding=(0, 2, 0, 0), pad_edge=False, expand=True)
    for row, text in zip(rows, texts, strict=True):
        description = Text(row.description, style="bold" if row.overall else "")
        elapsed = Text(clock(now - row.started), style="dim")
        remaining = Text(time_left(row, now), style="cyan")
        table.add_row(description, _bar(row, width, now), Text(text), elapsed, remaining)
    return table


def _bar(row: LiveRow, width: int, now: float) -> ProgressBar:
    """Return a bar; it moves to and fro if the total is unknown."""
    share = done_share(row.counts)
    columns = 20 if width >= _WIDE else 10 if width >= _NARROW else 6
    return ProgressBar(None if share is None else 1.0, share or 0.0, columns, animation_time=now)


def done_share(counts: Counts) -> float | None:
    """Return the share that is done, 0 to 1; None if no total is known.

    An inner count fills one unit of the outer one.
    """
    share: float | None = None
    for count in reversed(counts):
        if count.total is None:
            share = None
        elif count.total:
            share = min(1.0, (count.done + (share or 0.0)) / count.total)
        else:
            share = 1.0
    return share


def time_left(row: LiveRow, now: float) -> str:
    """Return the time left at the speed so far, if it is known; `<` for an upper bound."""
    share, elapsed = done_share(row.counts), now - row.since
    if row.overall or share is None or not _MIN_SHARE <= share < 1 or elapsed < _MIN_SECONDS:
        return ""
    bound = "<" if any(count.limit for count in row.counts) else ""
    return f"{bound}{clock(elapsed * (1 - share) / share)} left"


def clock(seconds: float) -> str:
    """Return a duration as 1:05, or 2:01:05."""
    whole_minutes, whole_seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(whole_minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{whole_seconds:02d}"
    return f"{minutes}:{whole_seconds:02d}"


def count_text(counts: Counts, both: bool) -> str:
    """Return the outermost count, with `both` followed by the innermost."""
    shown = (counts[0], counts[-1]) if both and len(counts) > 1 else counts[:1]
    return ", ".join(map(_single_count, shown))


def _single_count(count: Count) -> str:
    """Return one count, as wide as it is at the end."""
    if count.total is None:
        return f"{line(count.what)} {count.done}"
    return f"{line(count.what)} {count.done:>{len(str(count.total))}}/{count.total}"
