"""What a step of a build is: work for a process of its own, and all that its result depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Made:
    """What a step has made.

    Attributes:
        folder: of its files, which are only read.
        result: what it returned.
        digest: over its files and its result: what later steps depend on.
    """

    folder: Path
    result: Any
    digest: str


class Work(Protocol):
    """A picklable call: writes files into a new folder, from what earlier steps made, and returns a data class."""

    def __call__(self, folder: Path, needs: Mapping[str, Made]) -> Any:
        """Do it."""


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: within its build; its log is called so.
        what: for progress and errors ("exporting onnx").
        work: what is done.
        result: the class of what it returns.
        asked: parameters, with defaults written out, as JSON.
        needs: names of the steps whose results it takes.
        machine: the result depends on this machine's CPU and GPU, not only on the files.
        alone: it measures time, or has a limited one: no other step runs beside it.
    """

    name: str
    what: str
    work: Work
    result: type
    asked: dict[str, Any]
    needs: tuple[str, ...] = ()
    machine: bool = False
    alone: bool = False
