"""The contract of a worker: it runs one step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from converters.steps.child import StepRun
from converters.steps.step import Step, StepOutput
from runtimes.progress import Line


class Worker(Protocol):
    """Runs steps, from folders into a folder; several threads may call it at once.

    Attributes:
        startup_seconds: duration of what it did once before its first step; None if it did nothing.
    """

    startup_seconds: float | None

    def run(self, step: Step, needs: Mapping[str, StepOutput], folder: Path, line: Line) -> StepRun:
        """Run a step into an empty folder.

        Args:
            step: the step.
            needs: outputs of the steps that it needs, complete on disk.
            folder: takes the step's files.
            line: takes the step's counts.

        Raises:
            BurnishError: as the step did, or because its process died or hung.
        """

    def stop(self) -> None:
        """Kill every running step and refuse new ones."""
