"""The child's side of a step: run it, and find out what it read."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.steps import trace
from converters.steps.cache import STEP
from converters.steps.step import Made, Step, Work
from runtimes.process.process import stopwatch


@dataclass(frozen=True)
class StepRequest:
    """What a process is to do: `home` is the recipe's folder, what lies in `ignored` is no input."""

    work: Work
    home: Path
    ignored: tuple[Path, ...]


@dataclass(frozen=True)
class Done:
    """What a step returned, what it read with digests, which of that was changed meanwhile, seconds of its work."""

    result: Any
    read: dict[str, str]
    disturbed: list[str]
    seconds: float


class Hand:
    """Lives in the child; picklable by name."""

    def do(self, job: StepRequest, folder: Path, needs: Mapping[str, Made]) -> Done:
        """Run a step into `folder`."""
        traced, clock = trace.start(job.home, (*job.ignored, folder)), stopwatch()
        result = job.work(folder, needs)
        worked = clock()
        return Done(result, traced.found(), traced.disturbed, worked)


def describe(folder: Path, step: Step, recipe: str) -> None:
    """Leave beside a result what made it, for whoever looks through the cache."""
    known = {"step": step.name, "what": step.what, "recipe": recipe, "made": int(time.time())}
    (folder / STEP).write_text(json.dumps(known), encoding="utf-8")
