"""The verbs for one artifact; `burnish.cli` registers them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.options import (
    ArtifactPath,
    JsonOption,
    OneDeviceOption,
    QuietOption,
    TrustedKeyOption,
    TrustOption,
)
from burnish.cli.verb import print_json


def bench(
    artifact: ArtifactPath,
    versus: Annotated[
        Path | None,
        typer.Option("--vs", metavar="ARTIFACT", help="Folder of an artifact to compare with."),
    ] = None,
    device: OneDeviceOption = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Time budget for each artifact, in seconds.")
    ] = 8.0,
    deadline: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            metavar="MS",
            help="Also send single requests at this interval, and count those that were late.",
        ),
    ] = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure the latency of an artifact, alone or compared with another."""
    from burnish.bench import bench as run
    from burnish.progress import progress
    from runtimes.progress import watched

    description = f"timing {artifact}" + (f" and {versus}" if versus else "")
    with progress(quiet) as report:
        report(description)
        with watched(report, description, timed=True):
            speeds = run(artifact, versus, device, seconds, deadline, trust)
    if as_json:
        print_json({name: speed.model_dump(mode="json") for name, speed in speeds.items()})
    elif not quiet:
        from burnish.report.bench import show_bench

        show_bench(speeds)


def debug(
    artifact: ArtifactPath,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="Recipe of a python: model. This runs the model's code."),
    ] = None,
    # Enough to measure all layers of MobileNetV2 at 224x224 in one run (440 MB).
    memory: Annotated[
        int,
        typer.Option(min=1, metavar="MB", help="Memory for the values that are compared at once."),
    ] = 1024,
    top: Annotated[
        int, typer.Option(min=1, help="Number of layers that add most error to show.")
    ] = 5,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Name the first layer where an artifact diverges from the eager model.

    Exits with 1 if there is one. For the formats onnx, torchscript, openvino and tensorrt.
    """
    from burnish.debug import debug as run
    from burnish.progress import progress

    with progress(quiet) as report:
        result = run(artifact, recipe, memory, top, report, trust)
    if as_json:
        print_json(result.as_data())
    elif not quiet:
        from burnish.report.debug import show_debug

        show_debug(result)
    return 0 if result.first is None else 1


def inspect(artifact: ArtifactPath, as_json: JsonOption = False) -> None:
    """Show an artifact's inputs, outputs, operators, precision, size, and how it was made."""
    from runtimes.artifact.artifact import Artifact

    opened = Artifact.open(artifact)
    opened.verify()
    if as_json:
        print_json(opened.manifest.model_dump(mode="json"))
    else:
        from burnish.report.inspect import show_artifact

        show_artifact(opened)


def run(
    artifact: ArtifactPath,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Image files, or .npy arrays: one per input, in order or as NAME=file.npy.",
            metavar="INPUT",
        ),
    ],
    device: OneDeviceOption = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to show.")] = 5,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Save the outputs to this .npz file.")
    ] = None,
    key: TrustedKeyOption = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run an artifact on images or arrays."""
    from burnish.predict import predict, save
    from burnish.progress import progress
    from burnish.report.predictions import as_data, show_predictions
    from runtimes.progress import watched

    description = f"running {artifact}"
    with progress(quiet) as report:
        report(description)
        with watched(report, description):
            predictions = predict(artifact, inputs, device, top, key, trust)
    if output:
        save(predictions, output)
    if as_json:
        print_json(as_data(predictions))
    elif not quiet:
        show_predictions(predictions)
