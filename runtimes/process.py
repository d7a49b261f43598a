"""Work in a process of its own: a crash, a hang or a leak there is an answer here, not the end."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from runtimes.errors import BurnishError

# glibc gives large blocks back to the kernel after every forward pass unless told not to, and each pass then
# pays for the page faults: eager MobileNetV2 takes 14.5 ms with the default thresholds and 9.9 ms with these.
# Every measured process gets them, eager first, so that no speed-up over eager is really malloc's.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}

_PR_SET_PDEATHSIG = 1
_GRACE_SECONDS = 2.0  # what a child that was asked to stop may take before it is killed


class StepError(BurnishError):
    """Something raised in a child process. `trace` is its traceback, for the log."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


class ChildDied(BurnishError):
    """A child process ended or hung without an answer; the message says by which signal or after how long."""


@dataclass(frozen=True)
class _Raised:
    """An exception on its way through the pipe."""

    error: BaseException


@dataclass(frozen=True)
class _Told:
    """What a child is doing, on its way through the pipe before its answer."""

    message: str


_parent: Any = None  # in a child: the pipe to the process that waits for its answer


def tell(message: str) -> None:
    """Say what is being done to the process that waits for this one's answer; nothing outside of a `Child`."""
    if _parent is not None:
        _parent.send(_Told(message))


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
    ) -> None:
        """Start a process that holds `make()`.

        Args:
            make: picklable; called once in the child.
            what: names the child in messages ("the onnx exporter").
            log: file that the child's stdout and stderr are appended to; discarded where None.
            torch: start from a server process that has imported torch already (20 ms instead of seconds).
            told: is given what the child says with `tell` while it works.
        """
        self.what, self._told = what, told
        context: Any = multiprocessing.get_context("forkserver" if torch else "spawn")
        if torch:
            context.set_forkserver_preload(["runtimes.engines._preload"])
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, log), name=what, daemon=True)
        with _allocator(), _no_main():
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
        while isinstance(answer := self._receive(timeout), _Told):
            self._told(answer.message)
        if isinstance(answer, _Raised):
            raise answer.error
        return answer

    def _receive(self, timeout: float | None) -> Any:
        """The next thing that the child says."""
        ready = multiprocessing.connection.wait([self._pipe, self._process.sentinel], timeout)
        if not ready:
            self.kill()
            raise ChildDied(f"{self.what} gave no answer for {timeout:g} s and was stopped")
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise self._death() from None

    def _death(self) -> ChildDied:
        self._process.join(_GRACE_SECONDS)
        code = self._process.exitcode
        if code is not None and code < 0:
            return ChildDied(f"{self.what} was killed by {_signal_name(-code)}")
        return ChildDied(f"{self.what} ended with exit code {code} and no answer")

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
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
) -> Any:
    """Run `function(*args)` in a process of its own and return its result; raises as `Child.call` does."""
    with Child(partial(_Function, function), what=what, log=log, torch=torch, told=told) as child:
        return child.call("run", *args, timeout=timeout)


@dataclass(frozen=True)
class _Function:
    run: Callable[..., Any]


def _serve(pipe: Any, make: Callable[[], Any], log: Path | None) -> None:
    """The child's main loop: make the object, then answer calls until told to stop."""
    global _parent
    _settle(log)
    _parent = pipe
    target: Any = None
    while (request := _receive(pipe)) is not None:
        method, args = request
        try:
            target = make() if target is None else target
            pipe.send(getattr(target, method)(*args))
        except BaseException as error:
            traceback.print_exc()
            pipe.send(_Raised(_portable(error)))


def _receive(pipe: Any) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        return None


def _portable(error: BaseException) -> BaseException:
    """The error in a form that another process can raise: ours as they are, others as text."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, BurnishError):
        return error
    if isinstance(error, MemoryError):
        return StepError(f"out of memory{': ' if str(error) else ''}{error}", trace)
    return StepError(f"{type(error).__name__}: {error}", trace)


def _settle(log: Path | None) -> None:
    """Make the child quiet and mortal: output to its log, Ctrl-C left to the parent, dies with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    faulthandler.enable()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with_parent() -> None:
    """Wait for the parent's end, then end at once.

    The kernel's signal alone is not enough: to it, the parent of a forked child is the fork server, which
    lives on for as long as a busy child does.
    """
    if parent := multiprocessing.parent_process():
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)


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
