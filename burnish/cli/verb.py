"""The parts that all verbs share: error messages and exit status."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec

import typer

app = typer.Typer(
    name="burnish",
    help="One recipe turns an eager PyTorch model into every artifact one might ship, and proves "
    "each one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 nothing failed, 1 a gate failed, 2 wrong usage or recipe, 3 a step "
    "ended in an error.",
)

P = ParamSpec("P")
INTERRUPTED, TERMINATED = 130, 143  # exit status of a program that SIGINT or SIGTERM ended


def verb(function: Callable[P, int | None]) -> Callable[P, None]:
    """Register a function as a verb.

    Its result is the exit status. Errors become messages on stderr, never a traceback. SIGTERM
    unwinds the program, as Ctrl-C does, so that children end and nothing unfinished stays.
    """

    @app.command()
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        from runtimes.errors import BurnishError

        _clean_messages_of_libraries()
        with contextlib.suppress(ValueError):  # not in the main thread: the host owns the signals
            signal.signal(signal.SIGTERM, _terminate)
        try:
            code = function(*args, **kwargs) or 0
        except BurnishError as error:
            complain(str(error))
            code = error.exit_code
        except OSError as error:
            reason = error.strerror or str(error)
            complain(f"{reason}: {error.filename}" if error.filename else str(error))
            code = 3
        except Exception as error:
            if os.environ.get("BURNISH_TRACEBACK"):
                raise
            bug = "a bug in Burnish; BURNISH_TRACEBACK=1 shows its traceback"
            complain(f"{type(error).__name__}: {error} ({bug})")
            code = 3
        except KeyboardInterrupt:
            complain("interrupted; finished artifacts stay")
            code = INTERRUPTED
        raise typer.Exit(code)

    return wrapper


def _clean_messages_of_libraries() -> None:
    """Have warnings and log records of libraries reach the terminal without escape sequences."""
    show, make = warnings.formatwarning, logging.getLogRecordFactory()
    if getattr(show, "is_clean", False):
        return

    def formatted(*args: Any, **kwargs: Any) -> str:
        return _indented(show(*args, **kwargs))

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        entry = make(*args, **kwargs)
        with contextlib.suppress(TypeError, ValueError):  # a library's own mistake stays its own
            entry.msg, entry.args = _indented(entry.getMessage()), ()
        return entry

    formatted.is_clean = True  # type: ignore[attr-defined]
    warnings.formatwarning = formatted
    logging.setLogRecordFactory(record)


def _indented(text: str) -> str:
    """Return a harmless text whose further lines cannot pose as messages."""
    from runtimes.errors import printable

    body = text.rstrip("\n")
    return printable(body).replace("\n", "\n  ") + text[len(body) :]


def _terminate(*_: object) -> None:
    """End the program, once: a second signal must not interrupt the cleanup."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(TERMINATED)


def complain(message: str) -> None:
    """Print an error to stderr."""
    say(message, "error: ")


def say(message: str, lead: str = "") -> None:
    """Print a message to stderr.

    Its further lines are indented, so that a name with a line break cannot pose as a message.
    """
    from rich.text import Text

    from burnish.report.terminal import console
    from burnish.report.text import clean

    body = Text(clean(message).replace("\n", "\n  "), style="default")
    text = Text(lead, style="bold red").append(body)
    console(stderr=True).print(text, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print JSON to stdout; if its reader leaves early, the exit status does not change."""
    try:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # `| head -1`
        from burnish.report.terminal import discard_output

        discard_output()
