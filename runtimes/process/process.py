"""Work in a process of its own: a crash, a hang or a leak there is an answer here, not the end."""

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
from runtimes.process.child import Counted, Raised, Told, serve
from runtimes.process.usage import usage
from runtimes.progress import Line

# glibc gives large blocks back to the kernel after every forward pass unless told not to, and each pass then
# pays for the page faults: eager MobileNetV2 takes 14.5 ms with the default thresholds and 9.9 ms with these.
# Every measured process gets them, eager first, so that no speed-up over eager is really malloc's.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}

_GRACE_SECONDS = 2.0  # what a child that was asked to stop may take before it is killed
_LOOK_SECONDS = 0.5  # between two looks at what a child takes: a look costs some milliseconds
_COMPUTES = 0.01  # seconds of processor time between two looks that are no mere waiting


class ChildDied(BurnishError):
    """A child process ended or hung without an answer; the message says by which signal or after how long."""


@dataclass(frozen=True)
class Limits:
    """What a child may take before it is stopped.

    Attributes:
        idle: seconds in which it neither says anything nor computes: it has hung.
        memory: bytes of resident memory, with all that it has started.
    """

    idle: float | None = None
    memory: int | None = None


NO_LIMITS = Limits()
_starting = threading.Lock()  # what is changed for a start is changed for the whole process
_preloaded = ["runtimes.engines._preload"]


def preload(module: str) -> None:
    """Have the server process import a module before it forks the first child; without effect once it runs."""
    if module not in _preloaded:
        _preloaded.append(module)


def stop_server() -> None:
    """Kill this process's fork server: one that is still importing torch would be waited for. Another can start."""
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if "multiprocessing.forkserver" in " ".join(process.cmdline()):
                process.kill()


class Child:
    """An object that lives in another process and is called by method name.

    Use as a context manager: leaving it by an exception (Ctrl-C too) kills the process at once.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        *,
        what: str,
        log: Path | None = None,
        torch: bool = False,
        told: Callable[[str], None] = lambda message: None,
        line: Line | None = None,
        limits: Limits = NO_LIMITS,
    ) -> None:
        """Start a process that holds `make()`.

        Args:
            make: picklable; called once in the child.
            what: names the child in messages ("the onnx exporter").
            log: file that the child's stdout and stderr are appended to; discarded where None.
            torch: start from a server process that has imported torch already (20 ms instead of seconds).
            told: is given what the child says with `tell` while it works.
            line: shows what the child counts while it works.
            limits: what it may take.
        """
        self.what, self._told, self._line, self._limits = what, told, line, limits
        context: Any = multiprocessing.get_context("forkserver" if torch else "spawn")
        if torch:
            context.set_forkserver_preload(_preloaded)
        self._pipe, theirs = context.Pipe()
        seconds = None if line is None else line.seconds
        self._process = context.Process(target=serve, args=(theirs, make, log, seconds), name=what, daemon=True)
        with _starting, _allocator(), _no_main():
            self._process.start()
        theirs.close()  # so that a child that dies ends the wait

    def call(self, method: str, *args: Any, timeout: float | None = None) -> Any:
        """Call a method of the child's object and return its result.

        Raises:
            BurnishError: as the child raised it; anything else that it raised comes as StepError.
            ChildDied: the process ended, or neither answered nor told anything for `timeout` seconds.
        """
        try:
            self._pipe.send((method, args))
        except (BrokenPipeError, ConnectionResetError):
            raise self._death() from None
        while isinstance(answer := self._receive(timeout), Told | Counted):
            self._hear(answer)
        if isinstance(answer, Raised):
            raise answer.error
        return answer

    def _hear(self, news: Told | Counted) -> None:
        """Pass on what the child says before its answer."""
        if isinstance(news, Told):
            self._told(news.message)
        elif self._line is not None:
            self._line.relay(news.counts)

    def _receive(self, timeout: float | None) -> Any:
        """The next thing that the child says."""
        silent, idle, computed = stopwatch(), stopwatch(), 0.0
        while not multiprocessing.connection.wait([self._pipe, self._process.sentinel], self._patience(timeout)):
            if timeout is not None and silent() >= timeout:
                self._give_up(f"gave no answer for {timeout:g} s")
            if self._limits == NO_LIMITS:
                continue
            taken = usage(self.pid)
            if self._limits.memory is not None and taken.memory > self._limits.memory:
                gigabytes = self._limits.memory / 1e9
                self._give_up(f"was out of memory at {gigabytes:.1f} GB, which is its limit (--memory)")
            if abs(taken.seconds - computed) > _COMPUTES:
                idle, computed = stopwatch(), taken.seconds
            elif self._limits.idle is not None and idle() >= self._limits.idle:
                self._give_up(f"made no progress for {self._limits.idle:g} s")
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise self._death() from None

    def _patience(self, timeout: float | None) -> float | None:
        """Seconds to wait before looking at the child again."""
        waits = [one for one in (timeout, self._limits.idle) if one is not None]
        return min([*waits, _LOOK_SECONDS]) if self._limits != NO_LIMITS else timeout

    def _give_up(self, why: str) -> NoReturn:
        self.kill()
        raise ChildDied(f"{self.what} {why} and was stopped")

    def _death(self) -> ChildDied:
        with _starting:  # multiprocessing, starting another, asks how each has ended; who asks second gets a 255
            self._process.join(_GRACE_SECONDS)
        self.stop()  # what it has started lives on
        code = self._process.exitcode
        if code is not None and code < 0:
            return ChildDied(f"{self.what} was killed by {_signal_name(-code)}")
        return ChildDied(f"{self.what} ended with exit code {code} and no answer")

    @property
    def pid(self) -> int:
        """Of the process, which leads a group of the same number."""
        assert self._process.pid is not None  # it was started in __init__
        return int(self._process.pid)

    def stop(self) -> None:
        """Have the process, and all that it has started, killed; whoever waits for its answer learns of its end."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it has no group yet, or has ended
            os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()

    def kill(self) -> None:
        """End the process at once."""
        self.stop()
        self._process.join(_GRACE_SECONDS)
        self._pipe.close()

    def close(self) -> None:
        """Ask the process to end; kill it where it does not."""
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
    told: Callable[[str], None] = lambda message: None,
    line: Line | None = None,
    limits: Limits = NO_LIMITS,
) -> Any:
    """Run `function(*args)` in a process of its own and return its result; raises as `Child.call` does."""
    run = partial(_Function, function)
    with Child(run, what=what, log=log, torch=torch, told=told, line=line, limits=limits) as child:
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

    multiprocessing imports the parent's main module in each child; `burnish.convert()` at the top of a
    script would then start itself over and over. Our children need nothing from it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def last_lines(log: Path, count: int = 5) -> str:
    """The end of a log, for a message."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-count:])


def stopwatch() -> Callable[[], float]:
    """Seconds since this call, each time the result is called."""
    start = time.perf_counter()
    return lambda: time.perf_counter() - start
