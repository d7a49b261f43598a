"""Where an artifact comes from: what must be the same for another build to give the same files."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from runtimes.spec import Strict


class Origin(Strict):
    """Something by its name, and by the sha256 of what it was."""

    name: str
    sha256: str | None = Field(None, description="None where there is no file of its own.")


class SourceOrigin(Strict):
    """What built the eager model."""

    model: str
    args: dict[str, Any] = Field(default_factory=dict)
    sha256: str | None = Field(None, description="Of the Python file with the factory; None for torchvision's.")


class StepRecord(Strict):
    """Something that was done, with every parameter, defaults too."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class Provenance(Strict):
    """Where an artifact comes from; nothing of it names a folder, a machine or a time."""

    recipe: Origin = Field(
        ..., description="Its sha256 is over its effective contents: with `extends` and `--set`."
    )
    source: SourceOrigin
    weights: Origin = Field(..., description="Its sha256 is of the file, where there was one.")
    state: str = Field(..., description="sha256 of the tensors that the steps started from, whatever their origin.")
    steps: tuple[StepRecord, ...] = Field(
        ..., description="From the loaded model to the artifact's files, in order."
    )
    versions: dict[str, str]
    varies: str | None = Field(None, description="Why the same again may give other bytes; None where it does not.")
