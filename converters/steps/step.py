"""A step of a build: an action for a process of its own, and its dependencies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class StepOutput:
    """Output of a step.

    Attributes:
        folder: of its files, which are only read.
        result: value that its action returned.
        digest: over its files and its result; later steps depend on it.
    """

    folder: Path
    result: Any
    digest: str


class Action(Protocol):
    """A picklable call that writes files into a new folder and returns a data class."""

    def __call__(self, folder: Path, needs: Mapping[str, StepOutput]) -> Any:
        """Run in `folder`, from the outputs of earlier steps."""


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: unique within its build; its log has this name.
        description: for progress and errors ("exporting onnx").
        action: does the work of the step.
        result: class of the value that the action returns.
        parameters: with defaults written out, as JSON.
        needs: names of the steps whose outputs it takes.
        machine: whether the result depends on this machine's CPU and GPU, not only on the files.
        alone: whether no other step may run beside it: it measures time or has a time limit.
    """

    name: str
    description: str
    action: Action
    result: type
    parameters: dict[str, Any]
    needs: tuple[str, ...] = ()
    machine: bool = False
    alone: bool = False
