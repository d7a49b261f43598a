"""The command line: one function per verb, no logic of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.machine import cache, doctor
from burnish.cli.signing import keygen, sign, verify
from burnish.cli.verb import (
    ArtifactPath,
    DeviceOption,
    JsonOption,
    NoSpeedOption,
    OneDeviceOption,
    QuietOption,
    RequireOption,
    TrustedKeyOption,
    TrustOption,
    app,
    complain,
    print_json,
    say,
    verb,
)

_LEAST_MEMORY = 200 * 10**6  # bytes: PyTorch alone takes more


@verb
def convert(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of one in configs/.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: artifacts/NAME.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override one value: artifacts.onnx.opset=18."),
    ] = None,
    device: DeviceOption = None,
    require: RequireOption = None,
    no_speed: NoSpeedOption = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Only say which steps are cached, and why the others must run.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Make and judge all anew; keep it.")] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Take and keep nothing of other builds.")] = False,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Steps side by side; default: what the machine allows."),
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="That one step may take, such as 6G.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Build every artifact of a recipe and prove each one."""
    from burnish.api import convert as run
    from burnish.cli.finish import finish
    from burnish.progress import progress

    if explain:
        return _explain(recipe, output, settings or (), as_json)
    with progress(quiet) as tell:
        build = run(
            recipe,
            output,
            settings=settings or (),
            devices=device or (),
            require=require or (),
            speed=not no_speed,
            progress=tell,
            cache=not no_cache,
            fresh=fresh,
            jobs=jobs,
            memory=_bytes(memory),
        )
    return finish(build, as_json, quiet, require)


def _bytes(size: str | None) -> int | None:
    from burnish.cache import size as parsed
    from runtimes.errors import UsageError

    found = parsed(size) if size else None
    if found is not None and found < _LEAST_MEMORY:
        raise UsageError(f"--memory {size}: a process that has only imported PyTorch takes more; give such as 6G")
    return found


def _explain(recipe: str, output: Path | None, settings: Sequence[str], as_json: bool) -> int:
    from dataclasses import asdict

    from burnish.api import output_of
    from converters.build.explain import explain
    from converters.plan.load import load_recipe

    plan = load_recipe(recipe, settings)
    found = explain(plan, output_of(plan, output))
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        from burnish.report.cache import show_explained
        from burnish.report.terminal import console

        show_explained(found, console())
    return 0


@verb
def validate(
    path: Annotated[Path, typer.Argument(help="Folder of a build, or of one artifact in it.", metavar="DIR")],
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Of a python: model, to time it; this runs its code.")
    ] = None,
    device: DeviceOption = None,
    require: RequireOption = None,
    no_speed: NoSpeedOption = False,
    key: TrustedKeyOption = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Judge artifacts again, here: their files, numbers and speed. Nothing on disk changes."""
    from burnish.api import validate as run
    from burnish.cli.finish import finish
    from burnish.progress import progress

    with progress(quiet) as tell:
        build = run(
            path,
            recipe=recipe,
            devices=device or (),
            require=require or (),
            speed=not no_speed,
            trust=trust,
            progress=tell,
            key=key,
        )
    return finish(build, as_json, quiet, require)


@verb
def compare(
    paths: Annotated[list[Path], typer.Argument(help="Folders of builds.", metavar="DIR...")],
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="Fail on what differs from this committed file.")
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Write the builds into the baseline.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Compare across classes of machines.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Show builds side by side, and hold them against a baseline. Without one, exits as convert did."""
    from runtimes.errors import UsageError
    from runtimes.results import Build, exit_code

    if baseline is None and (update or force):
        raise UsageError("--update and --force go with --baseline FILE")
    builds = [Build.read(path) for path in paths]
    if as_json:
        print_json([build.model_dump(mode="json") for build in builds])
    elif not quiet:
        from burnish.report.terminal import console, show_builds

        show_builds(builds, console())
    if baseline is None:
        return exit_code([row for build in builds for row in build.artifacts])
    from burnish.baseline import compare as against
    from burnish.baseline import record

    if update:
        record(builds, baseline)
        if not quiet:
            say(f"recorded in {baseline}")
        return 0
    changes = against(builds, baseline, force)
    for change in changes:
        complain(f"{change.kind}: {change.artifact}: {change.what}")
    if changes:
        folders = " ".join(map(str, paths))
        complain(f"if this is meant, record it: burnish compare {folders} --baseline {baseline} --update")
    return 1 if changes else 0


@verb
def bench(
    artifact: ArtifactPath,
    versus: Annotated[Path | None, typer.Option("--vs", help="Artifact to compare with.")] = None,
    device: OneDeviceOption = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time budget of the latencies.")] = 8.0,
    deadline: Annotated[
        float | None, typer.Option(min=0.001, metavar="MS", help="Also send requests at this rate.")
    ] = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Time an artifact, alone or against another."""
    from burnish.bench import bench as run
    from burnish.progress import progress
    from runtimes.progress import watched

    with progress(quiet) as tell:
        tell(what := f"timing {artifact}" + (f" and {versus}" if versus else ""))
        with watched(tell, what, timed=True):
            found = run(artifact, versus, device, seconds, deadline, trust)
    if as_json:
        print_json({name: speed.model_dump(mode="json") for name, speed in found.items()})
    elif not quiet:
        from burnish.report.bench import show_bench

        show_bench(found)


@verb
def debug(
    artifact: ArtifactPath,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Of a python: model; this runs its code.")] = None,
    # Enough to measure all layers of MobileNetV2 at 224x224 in one run (440 MB).
    memory: Annotated[int, typer.Option(min=1, metavar="MB", help="For the values compared at once.")] = 1024,
    top: Annotated[int, typer.Option(min=1, help="Layers to name that add most error.")] = 5,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Name the first layer where an ONNX, TorchScript, OpenVINO or TensorRT artifact leaves the truth; exit 1."""
    from burnish.debug import debug as run
    from burnish.progress import progress

    with progress(quiet) as tell:
        found = run(artifact, recipe, memory, top, tell, trust)
    if as_json:
        print_json(found.as_data())
    elif not quiet:
        from burnish.report.debug import show_debug

        show_debug(found)
    return 0 if found.first is None else 1


@verb
def inspect(artifact: ArtifactPath, as_json: JsonOption = False) -> None:
    """Show an artifact's inputs, outputs, operators, precision, size, and how it was made."""
    from runtimes.artifact.artifact import Artifact

    found = Artifact.open(artifact)
    found.verify()
    if as_json:
        print_json(found.manifest.model_dump(mode="json"))
    else:
        from burnish.report.inspect import show_artifact

        show_artifact(found)


@verb
def run(
    artifact: ArtifactPath,
    inputs: Annotated[list[str], typer.Argument(help="Pictures, or .npy arrays (NAME=file.npy).")],
    device: OneDeviceOption = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to name.")] = 5,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Save the outputs as .npz.")] = None,
    key: TrustedKeyOption = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run an artifact on pictures or arrays."""
    from burnish.predict import predict, save
    from burnish.progress import progress
    from burnish.report.predictions import as_data, show_predictions
    from runtimes.progress import watched

    with progress(quiet) as tell:
        tell(what := f"running {artifact}")
        with watched(tell, what):
            found = predict(artifact, inputs, device, top, key, trust)
    if output:
        save(found, output)
    if as_json:
        print_json(as_data(found))
    elif not quiet:
        show_predictions(found)


for other in (cache, doctor, keygen, sign, verify):
    verb(other)


def main() -> None:
    """The console script."""
    app()
