"""Silence the loggers and warnings of quantizers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """NNCF tells its progress to whoever listens: a step's log has better things to say."""
    import nncf

    before = logging.getLogger("nncf").level
    nncf.set_log_level(logging.WARNING)
    try:
        yield
    finally:
        nncf.set_log_level(before or logging.INFO)
