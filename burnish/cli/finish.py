"""The end of a verb that judged a build: its table or JSON, and the exit status."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from burnish.baseline import compare
from burnish.cli.verb import complain, print_json
from burnish.report.terminal import console, show_builds
from runtimes.results import Build, exit_code, unmet


def finish(build: Build, as_json: bool, quiet: bool, require: Sequence[str] | None) -> int:
    """Show a build and return the exit status."""
    if as_json:
        print_json(build.model_dump(mode="json"))
    elif not quiet:
        show_builds([build], console())
    if missing := unmet(build.artifacts, require or ()):
        complain(f"required, but not passed: {', '.join(missing)}")
    return exit_code(build.artifacts, require or ())


def hold_baseline(
    builds: Sequence[Build], paths: Sequence[Path], baseline: Path, force: bool
) -> int:
    """Report how builds differ from a baseline. Returns 1 if they do."""
    differences = compare(builds, baseline, force)
    for difference in differences:
        complain(f"{difference.kind}: {difference.artifact}: {difference.description}")
    if differences:
        folders = " ".join(map(str, paths))
        command = f"burnish compare {folders} --baseline {baseline} --update"
        complain(f"if this is intended, record it: {command}")
    return 1 if differences else 0
