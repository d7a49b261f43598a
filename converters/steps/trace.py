"""Trace of the files that a step reads: the dependencies of its result, observed while it runs.

A recipe's Python code may import and open anything, so the dependencies of a result are observed
rather than guessed. The interpreter's audit events report which files were opened and which folders
were listed; the loaded modules name the code and the packages. Files that native code opens by
itself are not seen: `depend` names them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from converters.digest import ROOT
from converters.steps.dependencies import (
    CODE,
    FILE,
    FOLDER,
    MODULE,
    PACKAGE,
    current_digests,
    imported_packages,
    installed_folders,
    module_file,
)

_PACKAGES = ("burnish", "converters", "runtimes")  # Burnish's own
_SYSTEM = (
    "/proc/",
    "/sys/",
    "/dev/",
    "/etc/",
    "/usr/lib/",
    "/usr/share/",
    "/lib/",
    "/lib64/",
)
# Parts of paths that are no input. The last is the file with OpenVINO's telemetry id of the user.
_GENERATED = ("__pycache__/", ".egg-info/", ".dist-info/", "/openvino_ga_cid")


@dataclass
class Trace:
    """Record of the files that this process reads from now on.

    Attributes:
        home: the recipe's folder; paths below it are recorded relative to it.
        ignored: folders whose files are no input: scratch folders, caches.
    """

    home: Path
    ignored: tuple[Path, ...]
    _opened: set[str] = field(default_factory=set)
    _listed: set[str] = field(default_factory=set)
    _linked: set[str] = field(default_factory=set)
    _named: dict[str, int] = field(default_factory=dict)
    _named_modules: set[str] = field(default_factory=set)
    _written: set[str] = field(default_factory=set)
    _started: int = field(default_factory=time.time_ns)
    _path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))

    def record_event(self, event: str, args: tuple[Any, ...]) -> None:
        """Record an audit event of the interpreter."""
        if event == "open":
            path, _, flags = args
            if isinstance(path, (str, bytes)):
                writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
                (self._written if writes else self._opened).add(_absolute(path))
        elif event == "ctypes.dlopen":
            if isinstance(args[0], (str, bytes)) and Path(os.fsdecode(args[0])).is_absolute():
                self._linked.add(_absolute(args[0]))
        elif args and isinstance(args[0], (str, bytes)) and not _is_import_running():
            self._listed.add(_absolute(args[0]))  # os.listdir, os.scandir

    def depend(self, path: Path) -> None:
        """Record a file or folder that the result depends on, even if it does not exist."""
        self._named[_absolute(path)] = _changed_at(path)

    def depend_on_module(self, module: str) -> None:
        """Record a package or module that the result depends on, even if it is not installed."""
        self._named_modules.add(module)

    def collect_dependencies(self) -> dict[str, str]:
        """Return everything that was read, each with the digest that it has now.

        The keys are `file PATH`, `folder PATH`, `code PATH`, `package NAME` and `module NAME`.
        """
        modules = dict(_module_files())
        names = self._code(modules)
        names |= _of_kind(FILE, map(self._relative, self._files(modules)))
        names |= _of_kind(FOLDER, map(self._relative, self._folders()))
        names |= _of_kind(PACKAGE, imported_packages() | self._named_modules)
        names |= _of_kind(MODULE, self._named_modules)
        for name, path in modules.items():
            if self._is_user_module(path) and self._is_importable_from(name, path):
                names.add(f"{MODULE} {name}")
        return current_digests(sorted(names), self.home, python_path=self._path)

    @property
    def disturbed(self) -> list[str]:
        """Files that changed while the step ran, so that its result belongs to neither version."""
        read = self._opened_inputs() | set(dict(_module_files()).values())
        changed = set()
        for path in read:
            if self._is_input(path) and _changed_at(path) > self._started:
                changed.add(path)
        for path, before in self._named.items():
            if _changed_at(path) != before:
                changed.add(path)
        return sorted(map(self._relative, changed))

    def _files(self, modules: dict[str, str]) -> set[str]:
        """Return the user's files: opened, imported, linked or named."""
        files = self._opened_inputs() | set(self._named)
        for path in modules.values():
            if self._is_user_module(path) and Path(path).is_file():
                files.add(path)
        for path in self._linked:
            if self._is_linked(path) and Path(path).is_file():
                files.add(path)
        return files

    def _folders(self) -> Iterator[str]:
        """Yield the user's folders that were listed."""
        for path in self._listed:
            if self._is_input(path) and Path(path).is_dir():
                yield path

    @staticmethod
    def _code(modules: dict[str, str]) -> set[str]:
        """Return the modules of Burnish itself."""
        names = set()
        for path in modules.values():
            if _is_burnish(path):
                names.add(f"{CODE} {Path(path).relative_to(ROOT).as_posix()}")
        return names

    def _is_importable_from(self, module: str, path: str) -> bool:
        """Return whether a module's file is on the search path that the process started with.

        A program may change the search path while it runs.
        """
        file = module_file(module, (self.home, *self._path))
        return file is not None and _absolute(file) == path

    def _opened_inputs(self) -> set[str]:
        """Return the paths that Python opened or tried to open.

        A missing file counts: if it appears, the result changes.
        """
        inputs = set()
        for path in self._opened - self._written:
            if self._is_input(path) and self._is_file_or_missing(path):
                inputs.add(path)
        return inputs

    def _is_file_or_missing(self, path: str) -> bool:
        if Path(path).exists():
            return Path(path).is_file()
        return not self._is_temporary(path)

    def _is_user_module(self, path: str) -> bool:
        return self._is_linked(path) or self._is_input(path)

    def _is_input(self, path: str) -> bool:
        return not path.endswith((".pyc", ".so")) and self._is_users(path)

    def _is_linked(self, path: str) -> bool:
        """Return whether a path is a user's library or extension module.

        Libraries that are compiled to a temporary folder and thrown away do not count.
        """
        return path.endswith(".so") and self._is_users(path) and not self._is_temporary(path)

    def _is_users(self, path: str) -> bool:
        if path.startswith(_installed_prefixes()) or any(part in path for part in _GENERATED):
            return False
        ignored = any(Path(path).is_relative_to(folder) for folder in self.ignored)
        return not ignored and not _is_burnish(path)

    def _is_temporary(self, path: str) -> bool:
        in_temporary_folder = path.startswith(f"{tempfile.gettempdir()}{os.sep}")
        return in_temporary_folder and not Path(path).is_relative_to(self.home)

    def _relative(self, path: str) -> str:
        absolute = Path(path)
        if absolute.is_relative_to(self.home):
            return absolute.relative_to(self.home).as_posix()
        return path


def _absolute(path: str | bytes | Path) -> str:
    """Return an absolute path. Links are not followed: a link that changes is another file."""
    return os.path.abspath(os.fsdecode(path))  # noqa: PTH100


def _is_burnish(path: str) -> bool:
    """Return whether a file belongs to Burnish's own packages."""
    file = Path(path)
    return file.is_relative_to(ROOT) and file.relative_to(ROOT).parts[:1] in _PACKAGE_PARTS


_PACKAGE_PARTS = tuple((name,) for name in _PACKAGES)
_tracing: Trace | None = None


def start(home: Path, ignored: Iterable[Path]) -> Trace:
    """Start to trace this process, until it ends: an audit hook cannot be removed."""
    global _tracing
    if _tracing is None:
        sys.addaudithook(_hook)
    _tracing = Trace(home.resolve(), tuple(map(Path.resolve, ignored)))
    return _tracing


def depend(path: Path) -> None:
    """Record in this process's trace, if it has one, a file or folder that its step depends on."""
    if _tracing is not None:
        _tracing.depend(path)


def depend_on_module(module: str) -> None:
    """Record in this process's trace, if it has one, a module that its step looks for."""
    if _tracing is not None:
        _tracing.depend_on_module(module)


_busy = threading.local()
_EVENTS = ("open", "os.listdir", "os.scandir", "ctypes.dlopen")


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _tracing is not None and event in _EVENTS and not getattr(_busy, "now", False):
        _busy.now = True  # what this very function opens is no input
        try:
            _tracing.record_event(event, args)
        finally:
            _busy.now = False


def _is_import_running() -> bool:
    """Return whether the import system lists a folder, for a module or for package metadata.

    A user's module that lists a folder while it is imported does so itself: its frame comes first.
    """
    frame: FrameType | None = sys._getframe(3)  # of the code that raised the audit event
    while frame is not None:
        name = frame.f_code.co_filename
        if (
            name.startswith("<frozen importlib")
            or "/importlib/" in name
            or "/pkg_resources/" in name
        ):
            return True
        if not name.startswith(("<", *_installed_prefixes())):
            return False
        frame = frame.f_back
    return False


def _changed_at(path: str | Path) -> int:
    """Return when a file was changed or replaced, in nanoseconds; 0 if it does not exist."""
    try:
        status = Path(path).stat()
    except OSError:
        return 0
    return max(status.st_mtime_ns, status.st_ctime_ns)


def _module_files() -> Iterator[tuple[str, str]]:
    """Yield the names and files of all modules that this process has imported."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith((".py", ".so")):
            yield name, _absolute(file)


@cache
def _installed_prefixes() -> tuple[str, ...]:
    """Return the prefixes of the paths of system files and installed packages."""
    return (*_SYSTEM, *(f"{folder}{os.sep}" for folder in installed_folders()))


def _of_kind(kind: str, names: Iterable[str]) -> set[str]:
    """Return the keys of dependencies of one kind."""
    return {f"{kind} {name}" for name in names}
