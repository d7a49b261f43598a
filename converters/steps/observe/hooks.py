"""Hooks on what a step looks at: audit events of the interpreter, and functions that have none.

`os.stat`, `os.readlink`, the environment and the clock raise no audit event, so their functions are
replaced in the step's process. Each hook hands its observation to a `Listener`; what that opens
itself is not observed.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import safetensors

EVENTS = {
    "open": "opened_file",
    "sqlite3.connect": "connected",
    "os.listdir": "listed_folder",
    "os.scandir": "listed_folder",
    "ctypes.dlopen": "linked_library",
    "import": "imported",
    "subprocess.Popen": "started",
    "os.system": "started",
    "os.exec": "started",
    "os.posix_spawn": "started",
    "socket.connect": "reached",
}
"""Audit events, each with the method of the listener that gets its arguments."""

_STATUS = ("stat", "lstat", "access", "readlink")
_CLOCKS = ("time", "time_ns", "localtime", "gmtime", "ctime", "strftime", "asctime")


class Listener(Protocol):
    """Receives observations. Methods of audit events take the arguments of the event."""

    def looked_at(self, function: str, path: Any, *rest: Any) -> None:
        """`os.FUNCTION` is called with a path."""

    def read_variable(self, name: str | None) -> None:
        """A variable of the environment is read; None stands for all of them."""

    def asked_folder(self) -> None:
        """The working folder is asked for."""

    def asked_time(self) -> None:
        """The clock is read."""

    def sought(self, module: str) -> None:
        """A module's place is looked for without importing it."""


_listener: Listener | None = None
_installed = False
_busy = threading.local()


def listen(listener: Listener) -> None:
    """Send this process's observations to a listener, until it ends: hooks cannot be removed."""
    global _listener, _installed
    _listener = listener
    if not _installed:
        _installed = True
        _replace_functions()
        sys.addaudithook(_audit)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if (method := EVENTS.get(event)) is not None:
        _notify(method, *args)


def _notify(method: str, *args: Any) -> None:
    if _listener is None or getattr(_busy, "now", False):
        return
    _busy.now = True
    try:
        getattr(_listener, method)(*args)
    finally:
        _busy.now = False


def _replace_functions() -> None:
    for name in _STATUS:
        _before(os, name, functools.partial(_notify, "looked_at", name))
    for name in ("getcwd", "getcwdb"):
        _before(os, name, lambda: _notify("asked_folder"))
    for name in _CLOCKS:
        _before(time, name, lambda *_: _notify("asked_time"))
    _before(importlib.util, "find_spec", lambda name, *_: _notify("sought", name))
    for module in _safetensors():  # reads its files in native code
        _before(
            module, "safe_open", lambda path, *_: _notify("opened_file", os.fspath(path), "", 0)
        )
    environment: Any = type(os.environ)
    _before(environment, "__getitem__", lambda _, name: _notify("read_variable", name))
    _before(environment, "__iter__", lambda _: _notify("read_variable", None))


def _safetensors() -> list[Any]:
    """Return the modules of safetensors that are loaded; others take their functions from these."""
    loaded = (sys.modules.get(f"safetensors.{name}") for name in ("torch", "numpy"))
    return [safetensors, *filter(None, loaded)]


def _before(owner: Any, name: str, observe: Callable[..., None]) -> None:
    """Replace a function by itself with an observation of its positional arguments before."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def observed(*args: Any, **options: Any) -> Any:
        if args or not options:
            observe(*args)
        else:
            observe(next(iter(options.values())))
        return function(*args, **options)

    setattr(owner, name, observed)
    # `shutil` and others ask whether a function of os takes a descriptor or does not follow links.
    for capability in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        if function in capability:
            capability.add(observed)
