"""The verbs about this machine; `burnish.cli` makes them verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from burnish.cli.verb import JsonOption, QuietOption, complain, print_json


def cache(
    action: Annotated[
        str, typer.Argument(help="show, verify (removes what is damaged), prune, or clear.", metavar="[ACTION]")
    ] = "show",
    limit: Annotated[str | None, typer.Option("--limit", metavar="SIZE", help="Of prune: keep so much.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Show, verify or prune what is kept between builds."""
    from burnish import cache as kept
    from burnish.report.cache import as_data, show_cache
    from burnish.report.terminal import console
    from runtimes.errors import UsageError

    store = kept.opened()
    if action in ("prune", "clear"):
        removed = kept.prune(store, limit) if action == "prune" else kept.clear(store)
        if not quiet:
            typer.echo(f"removed {removed / 1e6:.0f} MB", err=True)
    elif action not in ("show", "verify"):
        raise UsageError(f"no such action: {action}; there are show, verify, prune and clear")
    bad = kept.damaged(store) if action == "verify" else []
    for one in bad:
        complain(f"the result of {one.step} of {one.recipe} was damaged, and is removed")
    if as_json:
        print_json(as_data(kept.kept(store)))
    elif not quiet:
        show_cache(kept.kept(store), str(store.folder), console())
    return 1 if bad else 0


def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can build and run, what is missing, and how to install it."""
    from burnish.doctor import examine
    from burnish.report.doctor import as_data, show_doctor

    machine, findings = examine()
    if as_json:
        print_json(as_data(machine, findings))
    else:
        show_doctor(machine, findings)
