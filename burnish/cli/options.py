"""Options and arguments of verbs; most are shared by several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing except errors.")]
_DEVICES = "cpu, cuda, intel-gpu or intel-npu"
DeviceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        help=f"Device to judge on: {_DEVICES}. Repeatable. Default: those of the recipe or build.",
    ),
]
OneDeviceOption = Annotated[
    str | None,
    typer.Option("--device", help=f"Device to run on: {_DEVICES}. Default: the artifact's first."),
]
RequireOption = Annotated[
    list[str] | None,
    typer.Option(
        "--require",
        metavar="NAME|all",
        help="Exit with 1 unless this artifact (or every artifact) passed. Repeatable.",
    ),
]
NoSpeedOption = Annotated[
    bool, typer.Option("--no-speed", help="Do not measure speed; judge the numbers only.")
]
SecondsOption = Annotated[
    float | None,
    typer.Option(
        "--seconds",
        min=0.1,
        metavar="N",
        help="Time budget for measuring the speed of each artifact. Default: 8. More decides a "
        "gate that is unproven.",
    ),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Open artifacts that are programs (all formats but onnx and openvino) even if you did "
        "not build them here.",
    ),
]
ArtifactPath = Annotated[Path, typer.Argument(help="Folder of an artifact.", metavar="ARTIFACT")]
TrustedKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="PUBLIC",
        help="File of a public key: refuse artifacts that it has not signed. Default: the file "
        "that BURNISH_TRUSTED_KEY names, if any.",
    ),
]
RecipeName = Annotated[
    str,
    typer.Argument(help="File of a recipe, or the name of one in ./configs.", metavar="RECIPE"),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Folder of the build. Default: artifacts/ and the recipe's name."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one value of the recipe, e.g. artifacts.onnx.opset=18. Repeatable.",
    ),
]
ExplainOption = Annotated[
    bool,
    typer.Option(
        "--explain",
        help="Build nothing; report which steps are cached, and why the others must run.",
    ),
]
FreshOption = Annotated[
    bool,
    typer.Option(
        "--fresh", help="Ignore the cache: rebuild and revalidate everything, then cache it."
    ),
]
NoCacheOption = Annotated[
    bool,
    typer.Option("--no-cache", help="Neither use nor fill the cache of earlier builds."),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        help="Number of steps that run side by side. Default: as cores and memory allow.",
    ),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Memory limit per step, e.g. 6G. Default: most of this machine's.",
    ),
]
