"""The command line: one function per verb, without logic of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.artifact import bench, debug, inspect, run
from burnish.cli.machine import cache, doctor
from burnish.cli.options import (
    DeviceOption,
    ExplainOption,
    FreshOption,
    JobsOption,
    JsonOption,
    MemoryOption,
    NoCacheOption,
    NoSpeedOption,
    OutputOption,
    QuietOption,
    RecipeName,
    RequireOption,
    SecondsOption,
    SetOption,
    TrustedKeyOption,
    TrustOption,
)
from burnish.cli.signing import keygen, sign, verify
from burnish.cli.verb import app, print_json, say, verb
from runtimes.process.streams import open_streams

_MIN_MEMORY = 200 * 10**6  # bytes: PyTorch alone needs more


@verb
def convert(
    recipe: RecipeName,
    output: OutputOption = None,
    settings: SetOption = None,
    device: DeviceOption = None,
    require: RequireOption = None,
    no_speed: NoSpeedOption = False,
    seconds: SecondsOption = None,
    explain: ExplainOption = False,
    fresh: FreshOption = False,
    no_cache: NoCacheOption = False,
    jobs: JobsOption = None,
    memory: MemoryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Build every artifact of a recipe, and prove each one."""
    from burnish.api import convert as build_and_prove
    from burnish.cli.finish import finish
    from burnish.progress import progress

    if explain:
        return _explain(recipe, output, settings or (), as_json)
    with progress(quiet) as report:
        build = build_and_prove(
            recipe,
            output,
            settings=settings or (),
            devices=device or (),
            require=require or (),
            speed=not no_speed,
            seconds=seconds,
            progress=report,
            cache=not no_cache,
            fresh=fresh,
            jobs=jobs,
            memory=_memory_limit(memory),
        )
    return finish(build, as_json, quiet, require)


def _memory_limit(size: str | None) -> int | None:
    from burnish.cache import parse_size
    from runtimes.errors import UsageError

    limit = parse_size(size) if size else None
    if limit is not None and limit < _MIN_MEMORY:
        raise UsageError(f"--memory {size}: too small: importing PyTorch alone needs more; try 6G")
    return limit


def _explain(recipe: str, output: Path | None, settings: Sequence[str], as_json: bool) -> int:
    from dataclasses import asdict

    from burnish.api import output_of
    from converters.build.explain import explain
    from converters.plan.load import load_recipe

    plan = load_recipe(recipe, settings)
    explanations = explain(plan, output_of(plan, output))
    if as_json:
        print_json(list(map(asdict, explanations)))
    else:
        from burnish.report.cache import show_explanations
        from burnish.report.terminal import console

        show_explanations(explanations, console())
    return 0


@verb
def validate(
    path: Annotated[
        Path, typer.Argument(help="Folder of a build, or of one of its artifacts.", metavar="DIR")
    ],
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="Recipe of a python: model, to compare its speed with the eager model. This runs "
            "the model's code.",
        ),
    ] = None,
    device: DeviceOption = None,
    require: RequireOption = None,
    no_speed: NoSpeedOption = False,
    seconds: SecondsOption = None,
    key: TrustedKeyOption = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Validate artifacts again on this machine: their files, numbers and speed.

    Nothing on disk changes.
    """
    from burnish.api import validate as validate_build
    from burnish.cli.finish import finish
    from burnish.progress import progress

    with progress(quiet) as report:
        build = validate_build(
            path,
            recipe=recipe,
            devices=device or (),
            require=require or (),
            speed=not no_speed,
            seconds=seconds,
            trust=trust,
            progress=report,
            key=key,
        )
    return finish(build, as_json, quiet, require)


@verb
def compare(
    paths: Annotated[list[Path], typer.Argument(help="Folders of builds.", metavar="DIR")],
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline",
            metavar="FILE",
            help="File of a committed baseline: exit with 1 if a build differs from it.",
        ),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Record the builds in the baseline.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Compare with a baseline of another class of machine."),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Show builds side by side, and compare them with a baseline.

    Without a baseline, the exit status is that of convert.
    """
    from runtimes.artifact.build_signature import check_build
    from runtimes.artifact.signature import trusted
    from runtimes.errors import UsageError
    from runtimes.results import Build, exit_code

    if baseline is None and (update or force):
        raise UsageError("--update and --force need --baseline FILE")
    trust = trusted()
    for path in paths:
        check_build(path, trust)
    builds = list(map(Build.read, paths))
    if as_json:
        print_json([build.model_dump(mode="json") for build in builds])
    elif not quiet:
        from burnish.report.terminal import console, show_builds

        show_builds(builds, console())
    if baseline is None:
        return exit_code([row for build in builds for row in build.artifacts])
    if not update:
        from burnish.cli.finish import hold_baseline

        return hold_baseline(builds, paths, baseline, force)
    from burnish.baseline import record

    record(builds, baseline)
    if not quiet:
        say(f"recorded in {baseline}")
    return 0


for function in (bench, debug, inspect, run, cache, doctor, keygen, sign, verify):
    verb(function)


def main() -> None:
    """Run the command line: the console script."""
    open_streams()
    app()
