"""What every verb of the command line has: options in common, errors as words, an exit code."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer

app = typer.Typer(
    name="burnish",
    help="One recipe turns an eager PyTorch model into every artifact one might ship, and proves each one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 nothing failed, 1 a gate failed, 2 wrong usage or recipe, 3 a step ended in error.",
)

P = ParamSpec("P")
INTERRUPTED, TERMINATED = 130, 143  # what a shell reports for a program that SIGINT or SIGTERM ended

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
_DEVICES = "cpu, cuda, intel-gpu or intel-npu"
DeviceOption = Annotated[list[str] | None, typer.Option("--device", help=f"{_DEVICES}; may be repeated.")]
OneDeviceOption = Annotated[
    str | None, typer.Option("--device", help=f"{_DEVICES}; default: the artifact's first.")
]
RequireOption = Annotated[
    list[str] | None,
    typer.Option("--require", metavar="NAME|all", help="Exit 1 unless this artifact passed; may be repeated."),
]
NoSpeedOption = Annotated[bool, typer.Option("--no-speed", help="Judge the numbers only; measure no speed.")]
TrustOption = Annotated[
    bool,
    typer.Option("--trust", help="Open artifacts that are programs (all but onnx, openvino) and not built here."),
]
ArtifactPath = Annotated[Path, typer.Argument(help="Folder of an artifact.", metavar="ARTIFACT")]
TrustedKeyOption = Annotated[
    Path | None, typer.Option("--key", metavar="PUBLIC", help="Refuse what this key has not signed.")
]


def verb(function: Callable[P, int | None]) -> Callable[P, None]:
    """Make a verb: its result is the exit code; errors become words on stderr, never a traceback.

    SIGTERM unwinds the program, as Ctrl-C does, so that children end and nothing half-made stays.
    """

    @app.command()
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        from runtimes.errors import BurnishError

        with contextlib.suppress(ValueError):  # not in the main thread: the host program owns the signals
            signal.signal(signal.SIGTERM, _terminate)
        try:
            code = function(*args, **kwargs) or 0
        except BurnishError as error:
            complain(str(error))
            code = error.exit_code
        except OSError as error:
            complain(f"{error.strerror or error}: {error.filename}" if error.filename else str(error))
            code = 3
        except Exception as error:
            if os.environ.get("BURNISH_TRACEBACK"):
                raise
            complain(f"{type(error).__name__}: {error} (a fault of Burnish; BURNISH_TRACEBACK=1 shows where)")
            code = 3
        except KeyboardInterrupt:
            complain("interrupted; what was finished stays")
            code = INTERRUPTED
        raise typer.Exit(code)

    return wrapper


def _terminate(*_: object) -> None:
    """End the program, once: who asks again while it tidies up would have it leave half of that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(TERMINATED)


def complain(message: str) -> None:
    """Print an error to stderr."""
    say(message, "error: ")


def say(message: str, lead: str = "") -> None:
    """Print a message to stderr; further lines are set in, so that a name with one poses as no message."""
    from rich.text import Text

    from burnish.report.terminal import console
    from burnish.report.text import clean

    text = Text(lead, style="bold red").append(Text(clean(message).replace("\n", "\n  "), style="default"))
    console(stderr=True).print(text, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print to stdout; who stops reading it changes no exit code."""
    try:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # `| head -1`: the exit code stays what it is
        from burnish.report.terminal import nobody_reads

        nobody_reads()
