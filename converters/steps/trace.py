"""Trace of what a step reads: the dependencies of its result, observed while it runs.

A recipe's Python code may import and open anything, so the dependencies of a result are observed
rather than guessed (`observe`). The loaded modules name the code and the packages. Files that
native code opens by itself are not seen: `depend` names them.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from converters.digest import ROOT
from converters.steps.dependencies import (
    CODE,
    EXISTENCE,
    FILE,
    FOLDER,
    LINK,
    MODULE,
    PACKAGE,
    STATUS,
    UNSEEN,
    VARIABLE,
    WORKING_FOLDER,
    current_digests,
    imported_packages,
    installed_folders,
    module_file,
)
from converters.steps.observe.callers import is_burnish
from converters.steps.observe.hooks import listen
from converters.steps.observe.record import Record
from converters.steps.observe.source import unseen_inputs

_SYSTEM = ("/proc/", "/sys/", "/dev/")
# Files of the system count if the user's code reads them: a library looks for locales and mime types.
_SHARED = ("/etc/", "/usr/lib/", "/usr/share/", "/lib/", "/lib64/", "/dev/shm/")
# Parts of paths that are no input. The last is the file with OpenVINO's telemetry id of the user.
_GENERATED = ("__pycache__/", ".egg-info/", ".dist-info/", "/openvino_ga_cid")
_LIBRARY = re.compile(r"\.so(\.\d+)*$")
_MAPPED = Path("/proc/self/maps")


@dataclass
class Trace:
    """Record of the files that this process reads from now on.

    Attributes:
        home: the recipe's folder; paths below it are recorded relative to it.
        ignored: folders whose files are no input: scratch folders, caches.
        outputs: folders of the build, whose files are one only if the user's code reads them.
    """

    home: Path
    ignored: tuple[Path, ...]
    outputs: tuple[Path, ...] = ()
    record: Record = field(default_factory=Record)
    _named: dict[str, int] = field(default_factory=dict)
    _named_modules: set[str] = field(default_factory=set)
    _started: int = field(default_factory=time.time_ns)
    _path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    _mapped: frozenset[str] = field(default_factory=lambda: frozenset(_mapped_libraries()))

    def depend(self, path: Path) -> None:
        """Record a file or folder that the result depends on, even if it does not exist."""
        self._named[_absolute(path)] = _changed_at(path)

    def depend_on_module(self, module: str) -> None:
        """Record a package or module that the result depends on, even if it is not installed."""
        self._named_modules.add(module)

    def collect_dependencies(self) -> dict[str, str]:
        """Return everything that was read, each with the digest that it has now.

        The keys are a kind of `dependencies` and a path or name, such as `file PATH`.
        """
        modules = dict(_module_files())
        names = self._code(modules)
        names |= _of_kind(FILE, map(self._relative, self._files(modules)))
        names |= _of_kind(FOLDER, map(self._relative, self._folders()))
        names |= _of_kind(PACKAGE, imported_packages() | self._named_modules)
        names |= _of_kind(MODULE, self._modules(modules))
        names |= _of_kind(UNSEEN, self._unseen(modules))
        names |= set(self._looks())
        return current_digests(sorted(names), self.home, python_path=self._path)

    @property
    def disturbed(self) -> list[str]:
        """Files that changed while the step ran, so that its result belongs to neither version."""
        read = self._opened_inputs() | set(dict(_module_files()).values())
        changed = set()
        for path in read:
            if self._is_users(path) and _changed_at(path) > self._started:
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
        for path in self.record.linked | (set(_mapped_libraries()) - self._mapped):
            if self._is_linked(path) and Path(path).is_file():
                files.add(path)
        return files

    def _folders(self) -> Iterator[str]:
        """Yield the user's folders that were listed."""
        for path in self.record.listed:
            if self._is_users(path) and Path(path).is_dir():
                yield path

    def _modules(self, modules: dict[str, str]) -> Iterator[str]:
        """Yield modules by the name that decides where they are found, and those that are missing."""
        yield from self._named_modules
        for name, path in modules.items():
            if self._is_user_module(path) and self._is_importable_from(name, path):
                yield name
        for name in self.record.modules:
            if sys.modules.get(name) is None:
                yield name

    def _looks(self) -> Iterator[str]:
        """Yield what was looked at without reading it."""
        by_kind = (
            (EXISTENCE, self.record.existing),
            (STATUS, self.record.statuses),
            (LINK, self.record.links),
        )
        for kind, paths in by_kind:
            for path in paths - self.record.written:
                if self._is_users(path) and not self._is_gone(path):
                    yield f"{kind} {self._relative(path)}"
        for variable in self.record.variables:
            yield f"{VARIABLE} {variable}"
        if self.record.from_folder:
            yield WORKING_FOLDER

    def _unseen(self, modules: dict[str, str]) -> set[str]:
        """Return the inputs of the user's code that leave nothing to compare later."""
        unseen = set(self.record.unseen)
        for path in modules.values():
            if path.endswith(".py") and self._is_users(path):
                unseen |= unseen_inputs(path)
        return unseen

    @staticmethod
    def _code(modules: dict[str, str]) -> set[str]:
        """Return the modules of Burnish itself."""
        names = set()
        for path in modules.values():
            if is_burnish(path):
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
        for path in self.record.opened - self.record.written:
            if not _LIBRARY.search(path) and self._is_read(path) and self._is_file_or_missing(path):
                inputs.add(path)
        return inputs

    def _is_read(self, path: str) -> bool:
        """Return whether an opened file is an input."""
        if self._is_users(path):
            return True
        if path not in self.record.users_files:
            return False
        in_outputs = any(Path(path).is_relative_to(folder) for folder in self.outputs)
        return in_outputs or path.startswith(_SHARED)

    def _is_file_or_missing(self, path: str) -> bool:
        if Path(path).exists():
            return Path(path).is_file()
        return not self._is_gone(path)

    def _is_gone(self, path: str) -> bool:
        """Return whether a path was a temporary one."""
        return self._is_temporary(path) and not os.path.lexists(path)

    def _is_user_module(self, path: str) -> bool:
        return self._is_linked(path) if _LIBRARY.search(path) else self._is_users(path)

    def _is_linked(self, path: str) -> bool:
        """Return whether a path is a user's library or extension module.

        Libraries that are compiled to a temporary folder and thrown away do not count.
        """
        is_library = _LIBRARY.search(path) is not None
        return is_library and self._is_users(path) and not self._is_temporary(path)

    def _is_users(self, path: str) -> bool:
        if path.startswith(_installed_prefixes()) or any(part in path for part in _GENERATED):
            return False
        aside = (*self.ignored, *self.outputs)
        ignored = any(Path(path).is_relative_to(folder) for folder in aside)
        return not ignored and not is_burnish(path)

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


_tracing: Trace | None = None


def start(home: Path, ignored: Iterable[Path], outputs: Iterable[Path] = ()) -> Trace:
    """Start to trace this process, until it ends."""
    global _tracing
    aside = tuple(map(Path.resolve, ignored))
    _tracing = Trace(home.resolve(), aside, tuple(map(Path.resolve, outputs)))
    listen(_tracing.record)
    return _tracing


def depend(path: Path) -> None:
    """Record in this process's trace, if it has one, a file or folder that its step depends on."""
    if _tracing is not None:
        _tracing.depend(path)


def depend_on_module(module: str) -> None:
    """Record in this process's trace, if it has one, a module that its step looks for."""
    if _tracing is not None:
        _tracing.depend_on_module(module)


def _changed_at(path: str | Path) -> int:
    """Return when a file was changed or replaced, in nanoseconds; 0 if it does not exist."""
    try:
        status = Path(path).stat()
    except OSError:
        return 0
    return max(status.st_mtime_ns, status.st_ctime_ns)


def _module_files() -> Iterator[tuple[str, str]]:
    """Yield the names and files of all modules that this process has imported.

    A file of compiled code counts if it stands for its source.
    """
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith((".py", ".so", ".pyc")):
            yield name, _absolute(file)


def _mapped_libraries() -> Iterator[str]:
    """Yield the paths of the libraries that this process has loaded, in whatever way."""
    try:
        lines = _MAPPED.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, _, path = line.partition("/")
        if path and _LIBRARY.search(path):
            yield f"/{path}"


@cache
def _installed_prefixes() -> tuple[str, ...]:
    """Return the prefixes of the paths of system files and installed packages."""
    return (*_SYSTEM, *_SHARED, *(f"{folder}{os.sep}" for folder in installed_folders()))


def _of_kind(kind: str, names: Iterable[str]) -> set[str]:
    """Return the keys of dependencies of one kind."""
    return {f"{kind} {name}" for name in names}
