"""Progress on stderr: live lines on a terminal, or else a plain line per event."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from runtimes.progress import Tell


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Tell]:
    """Return a function that shows messages, and on a terminal counts; with `quiet`, nothing."""
    if quiet:
        yield lambda message: None
        return
    from rich.text import Text

    from burnish.report.terminal import console
    from burnish.report.text import line

    out, start = console(stderr=True), time.perf_counter()
    # FORCE_COLOR asks for colors in a log, not for lines that are drawn over and over.
    if out.is_interactive and out.file.isatty():
        from burnish.report.live import Display

        with Display(out) as display:
            yield display
    else:
        yield lambda message: out.print(
            Text(f"{time.perf_counter() - start:6.1f} s  {line(message)}")
        )
