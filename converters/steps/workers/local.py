"""A worker on this machine: each step runs in a child process of its own, with limits, a log and a script."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from converters.steps.child import Done, Hand, StepRequest
from converters.steps.script import write_script
from converters.steps.step import Made, Step
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
"""A step that says nothing for so long is stopped, even if it computes."""
IDLE_SECONDS = 600.0
"""A step that neither says anything nor computes for so long has hung: a deadlock of two thread pools does."""


@dataclass
class LocalWorker:
    """Child processes of a server that has imported PyTorch.

    Attributes:
        home: folder of the recipe.
        logs: folder for the log of each step.
        again: command that runs one step again; the step's name is appended.
        ignored: paths that are no input of a step: what the build itself writes, and the cache.
        limits: of each step.
        progress: is called with messages, from any thread; a `Watcher` also gets counts.
        preloads: module that the server imports once for all steps.
        startup_seconds: duration of starting the server; None while it has not been started.
    """

    home: Path
    logs: Path
    again: tuple[str, ...]
    ignored: tuple[Path, ...]
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

    def run(self, step: Step, needs: Mapping[str, Made], folder: Path, line: Line) -> Done:
        """See `Worker.run`. A step that fails leaves a script beside its log that runs it again."""
        self._start_server()
        log = self.logs / f"{step.name}.log"
        log.unlink(missing_ok=True)
        request = StepRequest(step.work, self.home, self.ignored)
        child = Child(Hand, what=f"the step {step.name!r}", log=log, torch=True, told=self.progress,
                      line=line, limits=self.limits)  # fmt: skip
        with self._running:
            self._children.add(child)
        try:
            with child:
                self._check_stopped()
                done: Done = child.call("do", request, folder, needs, timeout=STEP_SECONDS)
                return done
        except BurnishError as error:
            self._check_stopped()
            script = write_script(self.logs, step.name, self.again)
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
        """Have the server process import torch, once: a build without processes would pay for that as well."""
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
    """Why a step died, the end of its log, and how to run it again."""
    end = "".join(f"\n    {line}" for line in last_lines(log).splitlines())
    excerpt = f"\n  {log.parent.name}/{log.name} ends:{end}" if end else ""
    return f"{message}{excerpt}\n  {script.parent.name}/{script.name} runs it again"
