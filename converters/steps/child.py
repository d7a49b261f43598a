"""The child's side of a step: run it, and collect what it read."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.steps import trace
from converters.steps.entry import STEP
from converters.steps.step import Action, Step, StepOutput
from runtimes.process.process import stopwatch


@dataclass(frozen=True)
class StepRequest:
    """Request to run an action in a process.

    Attributes:
        action: of the step.
        home: the recipe's folder.
        ignored: folders whose files are no input.
        outputs: folders whose files are one only if the user's code reads them.
    """

    action: Action
    home: Path
    ignored: tuple[Path, ...]
    outputs: tuple[Path, ...] = ()


@dataclass(frozen=True)
class StepRun:
    """Result of a step, digests of its inputs, inputs that changed meanwhile, its duration."""

    result: Any
    read: dict[str, str]
    disturbed: list[str]
    seconds: float


class StepHost:
    """Runs a step in the child process; picklable by name."""

    def run(self, request: StepRequest, folder: Path, needs: Mapping[str, StepOutput]) -> StepRun:
        """Run a step into `folder`."""
        traced = trace.start(request.home, (*request.ignored, folder), request.outputs)
        clock = stopwatch()
        result = request.action(folder, needs)
        seconds = clock()
        return StepRun(result, traced.collect_dependencies(), traced.disturbed, seconds)


def describe(folder: Path, step: Step, recipe: str) -> None:
    """Write a description of the step beside its result, for listings of the cache."""
    description = {
        "step": step.name,
        "what": step.description,
        "recipe": recipe,
        "made": int(time.time()),
    }
    (folder / STEP).write_text(json.dumps(description), encoding="utf-8")
