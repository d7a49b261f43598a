"""The child's side of an isolated process: settle in, answer calls, report, end with the parent."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import multiprocessing
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtimes.errors import BurnishError
from runtimes.machine.telemetry import refuse_telemetry
from runtimes.process.leftovers import end_server, server_folder, survive_group
from runtimes.process.streams import open_streams
from runtimes.progress import Counts, report_to

_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 0.2  # between two checks for the parent


class StepError(BurnishError):
    """An error of a child process. `trace` is its traceback, for the log."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


@dataclass(frozen=True)
class Raised:
    """An exception on its way through the pipe."""

    error: BaseException


@dataclass(frozen=True)
class Message:
    """A child's message about its activity, on its way through the pipe before its answer."""

    message: str


@dataclass(frozen=True)
class Counted:
    """A child's counts, on their way through the pipe before its answer."""

    counts: Counts


_parent: Any = None  # in a child: the pipe to the process that waits for its answer
_speaking = threading.Lock()  # two threads that send at once would garble their messages


def tell(message: str) -> None:
    """Send a message to the process that waits for this one; nothing outside of a `Child`."""
    if _parent is not None:
        with contextlib.suppress(OSError), _speaking:  # the parent may have stopped listening
            _parent.send(Message(message))


def _count(counts: Counts) -> bool:
    """Send counts unless the parent does not read; return whether they were sent."""
    with contextlib.suppress(OSError), _speaking:  # a closed pipe is an OSError too
        room = select.poll()
        room.register(_parent.fileno(), select.POLLOUT)
        if room.poll(0):
            _parent.send(Counted(counts))
            return True
    return False


def serve(
    pipe: Any, make: Callable[[], Any], log: Path | None, seconds: float | None = None
) -> None:
    """Run the child's main loop: make the object, then answer calls until a request to stop.

    `seconds`: minimum between two messages with counts; None if the parent shows none.
    """
    global _parent
    _settle(log)
    _parent = pipe
    if seconds is not None:
        report_to(_count, seconds)
    target: Any = None
    while (request := _receive(pipe)) is not None:
        method, args = request
        try:
            target = make() if target is None else target
            answer = getattr(target, method)(*args)
            with _speaking:
                pipe.send(answer)
        except BaseException as error:
            traceback.print_exc()
            with _speaking:
                pipe.send(Raised(_portable(error)))


def _receive(pipe: Any) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        return None


def _portable(error: BaseException) -> BaseException:
    """Return the error in a form that another process can raise: foreign ones as text."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, BurnishError):
        return error
    if isinstance(error, MemoryError):
        return StepError(f"out of memory{': ' if str(error) else ''}{error}", trace)
    return StepError(f"{type(error).__name__}: {error}", trace)


def _settle(log: Path | None) -> None:
    """Set up the child: output goes to its log, Ctrl-C to the parent, and it ends with the parent.

    It leads a process group, so that all that it starts (compilers, workers) ends with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setsid()
    open_streams()
    refuse_telemetry()
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    faulthandler.enable()
    _all_cores()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def ending_with_parent() -> Iterator[None]:
    """Have the fork server end with its parent while it imports something long; elsewhere nothing.

    By itself it checks for its parent's end only between its children, not while it imports torch.
    No thread may wait for that: a process with threads must not be forked.
    """
    if not any("multiprocessing.forkserver" in argument for argument in sys.orig_argv):
        yield
        return
    parent, folder = os.getppid(), server_folder()
    survive_group()
    refuse_telemetry()

    def look(*_: object) -> None:
        if os.getppid() != parent:
            end_server(folder)

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _LOOK_SECONDS, _LOOK_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        # The last registered function runs first. Tearing down all imports would take a second.
        atexit.register(end_server, folder)


def _all_cores() -> None:
    """Have torch compute on all cores, as by default: the fork server had set one thread."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )


def _end_with_parent() -> None:
    """Wait for the parent's end, then kill this process and all that it has started.

    The kernel's signal alone is not enough: for it, the parent of a forked child is the fork
    server, which lives on for as long as a busy child does.
    """
    if parent := multiprocessing.parent_process():
        parent.join()
        os.killpg(os.getpid(), signal.SIGKILL)
