"""Origin of an artifact: the inputs by which another build gives the same files."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from runtimes.spec import Strict


class Origin(Strict):
    """An input of the build, by its name and the sha256 of its content."""

    name: str
    sha256: str | None = Field(None, description="None if there is no file.")


class SourceOrigin(Strict):
    """The factory of the eager model."""

    model: str
    args: dict[str, Any] = Field(default_factory=dict)
    sha256: str | None = Field(
        None, description="Of the Python file with the factory; None for torchvision."
    )


class StepRecord(Strict):
    """One step of the build with every parameter, including defaults."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class Provenance(Strict):
    """Origin of an artifact; it names no folder, machine or time."""

    recipe: Origin = Field(
        ..., description="Its sha256 is that of the effective contents: with `extends` and `--set`."
    )
    source: SourceOrigin
    weights: Origin = Field(..., description="Its sha256 is that of the file, if there was one.")
    state: str = Field(..., description="sha256 of the tensors with which the steps started.")
    steps: tuple[StepRecord, ...] = Field(
        ..., description="From the loaded model to the artifact's files, in order."
    )
    versions: dict[str, str]
    varies: str | None = Field(
        None, description="Why the same build may give other bytes; None if it does not."
    )
