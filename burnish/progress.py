"""What is being done, on stderr: a live line on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str], None]]:
    """A function that is told each step; the elapsed seconds stand before it."""
    if quiet:
        yield lambda message: None
        return
    from rich.text import Text

    from burnish.report.terminal import console
    from burnish.report.text import line

    out, start = console(stderr=True), time.perf_counter()
    if not out.is_terminal:
        yield lambda message: out.print(Text(f"{time.perf_counter() - start:6.1f} s  {line(message)}"))
        return
    with out.status(Text("starting")) as status:

        def tell(message: str) -> None:
            out.print(Text(f"{time.perf_counter() - start:6.1f} s  {line(message)}", style="dim"))
            status.update(Text(line(message)))

        yield tell
