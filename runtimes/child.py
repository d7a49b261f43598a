"""The child's side of a process of its own: settle in, answer calls, tell what is done, end with the parent."""

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
from runtimes.progress import Counts, report_to

_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 0.2  # between two looks for the parent


class StepError(BurnishError):
    """Something raised in a child process. `trace` is its traceback, for the log."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


@dataclass(frozen=True)
class Raised:
    """An exception on its way through the pipe."""

    error: BaseException


@dataclass(frozen=True)
class Told:
    """What a child is doing, on its way through the pipe before its answer."""

    message: str


@dataclass(frozen=True)
class Counted:
    """How far a child is, on its way through the pipe before its answer."""

    counts: Counts


_parent: Any = None  # in a child: the pipe to the process that waits for its answer
_speaking = threading.Lock()  # what two threads send at once would be one garbled message


def tell(message: str) -> None:
    """Say what is being done to the process that waits for this one's answer; nothing outside of a `Child`."""
    if _parent is not None:
        with contextlib.suppress(OSError), _speaking:  # nobody listens any more: that is no fault of the work
            _parent.send(Told(message))


def _count(counts: Counts) -> bool:
    """Send counts, but never wait for a parent that does not read. Returns whether they were sent."""
    with contextlib.suppress(OSError), _speaking:  # a closed pipe is an OSError too
        room = select.poll()
        room.register(_parent.fileno(), select.POLLOUT)
        if room.poll(0):
            _parent.send(Counted(counts))
            return True
    return False


def serve(pipe: Any, make: Callable[[], Any], log: Path | None, seconds: float | None = None) -> None:
    """The child's main loop: make the object, then answer calls until told to stop.

    `seconds`: at least between two messages of how far it is; None if the parent has no line for them.
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
    """The error in a form that another process can raise: ours as they are, others as text."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, BurnishError):
        return error
    if isinstance(error, MemoryError):
        return StepError(f"out of memory{': ' if str(error) else ''}{error}", trace)
    return StepError(f"{type(error).__name__}: {error}", trace)


def _settle(log: Path | None) -> None:
    """Make the child quiet and mortal: output to its log, Ctrl-C left to the parent, dies with the parent.

    It leads a group of its own, so that whatever it starts (compilers, workers) ends with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setsid()
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
    """Import something long in the fork server, which then ends as soon as its parent does; elsewhere nothing.

    It looks for its parent's end only between its children, not while it imports torch. No thread may
    wait for it: a process with threads must not be forked.
    """
    if not any("multiprocessing.forkserver" in one for one in sys.orig_argv):
        yield
        return
    parent = os.getppid()

    def look(*_: object) -> None:
        if os.getppid() != parent:
            os._exit(1)

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _LOOK_SECONDS, _LOOK_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        # The last thing that is registered runs first. To take apart all that was imported would take a second.
        atexit.register(os._exit, 0)


def _all_cores() -> None:
    """Have torch compute on all cores, as it does by itself: the fork server left one thread to it."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )


def _end_with_parent() -> None:
    """Wait for the parent's end, then end at once, with all that this process has started.

    The kernel's signal alone is not enough: to it, the parent of a forked child is the fork server, which
    lives on for as long as a busy child does.
    """
    if parent := multiprocessing.parent_process():
        parent.join()
        os.killpg(os.getpid(), signal.SIGKILL)
