"""The verbs for this machine; `burnish.cli` registers them."""

from __future__ import annotations

from typing import Annotated

import typer

from burnish.cli.options import JsonOption, QuietOption
from burnish.cli.verb import complain, print_json

_ACTIONS = ("show", "verify", "prune", "clear")


def cache(
    action: Annotated[
        str,
        typer.Argument(
            help="show: list the cached results; verify: check their files and remove damaged "
            "ones; prune: remove the least recently used beyond --limit; clear: remove all.",
            metavar="[ACTION]",
        ),
    ] = "show",
    limit: Annotated[
        str | None,
        typer.Option(
            "--limit",
            metavar="SIZE",
            help="With prune: size to keep, e.g. 5G (default: the cache's limit).",
        ),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Show, verify, prune or clear the cache of build steps."""
    from burnish.cache import clear, entries, open_cache, prune, remove_damaged
    from burnish.report.cache import as_data, show_cache
    from burnish.report.terminal import console
    from runtimes.errors import UsageError

    if action not in _ACTIONS:
        raise UsageError(f"unknown action {action!r}; the actions are {', '.join(_ACTIONS)}")
    steps = open_cache()
    damaged = remove_damaged(steps) if action == "verify" else []
    if action in ("prune", "clear"):
        removed = prune(steps, limit) if action == "prune" else clear(steps)
        if not quiet:
            typer.echo(f"removed {removed / 1e6:.0f} MB", err=True)
    for entry in damaged:
        complain(
            f"the cached result of {entry.step} of {entry.recipe} was damaged, and was removed"
        )
    if as_json:
        print_json(as_data(entries(steps)))
    elif not quiet:
        show_cache(entries(steps), str(steps.folder), console())
    return 1 if damaged else 0


def doctor(as_json: JsonOption = False) -> None:
    """Report which formats this machine can build and run, and how to install what is missing."""
    from burnish.doctor import examine
    from burnish.report.doctor import as_data, show_doctor

    machine, formats = examine()
    if as_json:
        print_json(as_data(machine, formats))
    else:
        show_doctor(machine, formats)
