"""Isolated processes: a crash, a hang or a leak in one is an error here and not the end."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Self

import psutil

from runtimes.errors import BurnishError
from runtimes.process.child import Counted, Message, Raised, serve
from runtimes.process.usage import usage
from runtimes.progress import Line

# By default glibc returns large blocks to the kernel after every forward pass, and each pass then
# pays for the page faults: eager MobileNetV2 takes 14.5 ms with the default thresholds and 9.9 ms
# with these. Every measured process gets them, eager included, so that no speed-up over eager is
# malloc's.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}

_GRACE_SECONDS = 2.0  # for a child that was asked to stop, before it is killed
_LOOK_SECONDS = 0.5  # between two checks of a child's usage, which cost some milliseconds
_COMPUTES = 0.01  # seconds of processor time between two checks that count as progress


class ChildDied(BurnishError):
    """A child process ended or hung without an answer; the message names the signal or timeout."""


@dataclass(frozen=True)
class Limits:
    """Limits of a child; it is stopped if it exceeds one.

    Attributes:
        idle: seconds in which it neither sends a message nor computes: it hangs.
        memory: bytes of resident memory, including all processes that it has started.
    """

    idle: float | None = None
    memory: int | None = None


NO_LIMITS = Limits()
_starting = threading.Lock()  # a start changes state of the whole process
_preloaded = ["runtimes.engines._preload"]


def preload(module: str) -> None:
    """Have the fork server import a module before it forks; without effect once it runs."""
    if module not in _preloaded:
        _preloaded.append(module)


def stop_server() -> None:
    """Kill this process's fork server, which may still be importing torch. Another can start."""
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if "multiprocessing.forkserver" in " ".join(process.cmdline()):
                process.kill()


class Child:
    """An object in another process whose methods are called by name.

    Use it as a context manager: an exception inside (also Ctrl-C) kills the process at once.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        *,
        what: str,
        log: Path | None = None,
        torch: bool = False,
        listener: Callable[[str], None] = lambda message: None,
        line: Line | None = None,
        limits: Limits = NO_LIMITS,
    ) -> None:
        """Start a process that holds `make()`.

        Args:
            make: picklable; called once in the child.
            what: names the child in messages ("the onnx exporter").
            log: file to which the child's stdout and stderr are appended; discarded if None.
            torch: start from a server process that has imported torch already (20 ms instead of
                seconds).
            listener: called with the messages that the child sends with `tell`.
            line: shows the counts of the child.
            limits: of its memory and idle time.
        """
        self.what, self._listener, self._line, self._limits = what, listener, line, limits
        context: Any = multiprocessing.get_context("forkserver" if torch else "spawn")
        if torch:
            context.set_forkserver_preload(_preloaded)
        self._pipe, child_pipe = context.Pipe()
        seconds = None if line is None else line.seconds
        self._process = context.Process(
            target=serve, args=(child_pipe, make, log, seconds), name=what, daemon=True
        )
        with _starting, _allocator(), _no_main():
            self._start()
        child_pipe.close()  # so that the child's death ends the wait

    def _start(self) -> None:
        """Start the process. Raises ChildDied if the server that forks it has been killed."""
        try:
            self._process.start()
        except (EOFError, ConnectionError) as error:
            raise ChildDied(
                f"{self.what} could not be started: the process that imports PyTorch for all of them "
                "was killed (is there enough memory? `--memory` limits a step)"
            ) from error

    def call(self, method: str, *args: Any, timeout: float | None = None) -> Any:
        """Call a method of the child's object and return its result.

        Raises:
            BurnishError: as the child raised it; any other error comes as StepError.
            ChildDied: the process ended, or sent nothing for `timeout` seconds.
        """
        try:
            self._pipe.send((method, args))
        except (BrokenPipeError, ConnectionResetError):
            raise self._death() from None
        while isinstance(answer := self._receive(timeout), Message | Counted):
            self._pass_on(answer)
        if isinstance(answer, Raised):
            raise answer.error
        return answer

    def _pass_on(self, report: Message | Counted) -> None:
        """Pass on a message or counts that the child sent before its answer."""
        if isinstance(report, Message):
            self._listener(report.message)
        elif self._line is not None:
            self._line.relay(report.counts)

    def _receive(self, timeout: float | None) -> Any:
        """Return the next object that the child sends."""
        silent, idle, computed = stopwatch(), stopwatch(), 0.0
        sources, patience = [self._pipe, self._process.sentinel], self._patience(timeout)
        while not multiprocessing.connection.wait(sources, patience):
            if timeout is not None and silent() >= timeout:
                self._give_up(f"gave no answer for {timeout:g} s")
            if self._limits == NO_LIMITS:
                continue
            current = usage(self.pid)
            if self._limits.memory is not None and current.memory > self._limits.memory:
                gigabytes = self._limits.memory / 1e9
                self._give_up(f"was out of memory at its limit of {gigabytes:.1f} GB (--memory)")
            if abs(current.seconds - computed) > _COMPUTES:
                idle, computed = stopwatch(), current.seconds
            elif self._limits.idle is not None and idle() >= self._limits.idle:
                self._give_up(f"made no progress for {self._limits.idle:g} s")
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise self._death() from None

    def _patience(self, timeout: float | None) -> float | None:
        """Return the seconds to wait before the next check of the child."""
        if self._limits == NO_LIMITS:
            return timeout
        waits = (timeout, self._limits.idle, _LOOK_SECONDS)
        return min(seconds for seconds in waits if seconds is not None)

    def _give_up(self, why: str) -> NoReturn:
        self.kill()
        raise ChildDied(f"{self.what} {why} and was stopped")

    def _death(self) -> ChildDied:
        # When multiprocessing starts another child it reaps those that ended: a second wait would
        # get 255.
        with _starting:
            self._process.join(_GRACE_SECONDS)
        self.stop()  # processes that it has started live on
        code = self._process.exitcode
        if code is not None and code < 0:
            return ChildDied(f"{self.what} was killed by {_signal_name(-code)}")
        return ChildDied(f"{self.what} ended with exit status {code} and no answer")

    @property
    def pid(self) -> int:
        """Id of the process and of the group that it leads."""
        assert self._process.pid is not None  # it was started in __init__
        return int(self._process.pid)

    def stop(self) -> None:
        """Kill the process and all that it has started; a waiting `call` raises ChildDied."""
        # It has no group yet, or has ended.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()

    def kill(self) -> None:
        """End the process at once."""
        self.stop()
        self._process.join(_GRACE_SECONDS)
        self._pipe.close()

    def close(self) -> None:
        """Ask the process to end; kill it if it does not."""
        with contextlib.suppress(OSError):  # already gone: nothing left to ask
            self._pipe.send(None)
        self._process.join(_GRACE_SECONDS)
        self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self.kill() if kind else self.close()


def isolated(
    function: Callable[..., Any],
    *args: Any,
    what: str,
    log: Path | None = None,
    timeout: float | None = None,
    torch: bool = True,
    listener: Callable[[str], None] = lambda message: None,
    line: Line | None = None,
    limits: Limits = NO_LIMITS,
) -> Any:
    """Run `function(*args)` in an isolated process and return its result.

    Raises as `Child.call` does.
    """
    run = partial(_Function, function)
    with Child(
        run, what=what, log=log, torch=torch, listener=listener, line=line, limits=limits
    ) as child:
        return child.call("run", *args, timeout=timeout)


@dataclass(frozen=True)
class _Function:
    run: Callable[..., Any]


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"{name} (out of memory?)" if number == signal.SIGKILL else name


@contextlib.contextmanager
def _allocator() -> Iterator[None]:
    """Start processes with the allocator settings that every measurement shares."""
    before = {key: os.environ.get(key) for key in ALLOCATOR}
    os.environ.update(ALLOCATOR)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


@contextlib.contextmanager
def _no_main() -> Iterator[None]:
    """Hide `__main__` while a child starts, so that a user's script is not run again in the child.

    multiprocessing imports the parent's main module in each child; `burnish.convert()` at the top
    of a script would then start itself over and over. Children need nothing from it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def last_lines(log: Path, count: int = 5) -> str:
    """Return the end of a log, for a message."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-count:])


def stopwatch() -> Callable[[], float]:
    """Return a function that returns the seconds since this call."""
    start = time.perf_counter()
    return lambda: time.perf_counter() - start
