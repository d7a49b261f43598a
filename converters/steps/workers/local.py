"""A worker on this machine: each step runs in a child process, with limits, a log and a script."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from converters.steps.child import StepHost, StepRequest, StepRun
from converters.steps.script import write_script
from converters.steps.step import Step, StepOutput
from runtimes.errors import BurnishError
from runtimes.process.process import (
    Child,
    ChildDied,
    Limits,
    isolated,
    last_lines,
    preload,
    stop_server,
    stopwatch,
)
from runtimes.progress import Line, Tell

STEP_SECONDS = 3600.0
"""A step without any output for this long is stopped, even if it computes."""
IDLE_SECONDS = 600.0
"""A step without any output or CPU time for this long hangs, e.g. in a deadlock of thread pools."""


@dataclass
class LocalWorker:
    """Child processes of a server that has imported PyTorch.

    Attributes:
        home: folder of the recipe.
        logs: folder for the log of each step.
        command: runs one step again; the step's name is appended.
        ignored: paths that are no input of a step: scratch folders, and the cache.
        outputs: paths that the build writes, no input unless the user's code reads them.
        limits: of each step.
        progress: is called with messages, from any thread; a `Watcher` also gets counts.
        preloads: module that the server imports once for all steps.
        startup_seconds: duration of starting the server; None while it has not been started.
    """

    home: Path
    logs: Path
    command: tuple[str, ...]
    ignored: tuple[Path, ...]
    outputs: tuple[Path, ...]
    limits: Limits
    progress: Tell
    preloads: str
    startup_seconds: float | None = None
    _starting: threading.Lock = field(default_factory=threading.Lock)
    # A lock of its own: stopping a build must not wait for a server that starts.
    _running: threading.Lock = field(default_factory=threading.Lock)
    _children: set[Child] = field(default_factory=set)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        preload(self.preloads)

    def run(self, step: Step, needs: Mapping[str, StepOutput], folder: Path, line: Line) -> StepRun:
        """See `Worker.run`. A step that fails leaves a script beside its log that runs it again."""
        self._start_server()
        log = self.logs / f"{step.name}.log"
        log.unlink(missing_ok=True)
        request = StepRequest(step.action, self.home, self.ignored, self.outputs)
        child = Child(
            StepHost,
            what=f"the step {step.name!r}",
            log=log,
            torch=True,
            listener=self.progress,
            line=line,
            limits=self.limits,
        )
        with self._running:
            self._children.add(child)
        try:
            with child:
                self._check_stopped()
                step_run: StepRun = child.call("run", request, folder, needs, timeout=STEP_SECONDS)
                return step_run
        except BurnishError as error:
            self._check_stopped()
            script = write_script(self.logs, step.name, self.command)
            if isinstance(error, ChildDied):
                raise ChildDied(_died(str(error), log, script)) from error
            raise
        finally:
            with self._running:
                self._children.discard(child)

    def stop(self) -> None:
        """See `Worker.stop`."""
        self._stopped.set()
        with self._running:
            for child in self._children:
                child.stop()
        stop_server()

    def _start_server(self) -> None:
        """Start the server process, which imports torch once for all steps."""
        with self._starting:
            self._check_stopped()  # another thread's server may just have been killed
            if self.startup_seconds is None:
                clock = stopwatch()
                isolated(int, what="the server of the steps")
                self.startup_seconds = clock()

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise BurnishError("the build was interrupted")


def _died(message: str, log: Path, script: Path) -> str:
    """Return why a step died, the end of its log, and how to run it again."""
    end = "".join(f"\n    {line}" for line in last_lines(log).splitlines())
    excerpt = f"\n  {log.parent.name}/{log.name} ends:{end}" if end else ""
    return f"{message}{excerpt}\n  {script.parent.name}/{script.name} runs it again"
