"""Record of everything that a process looks at: paths, variables, modules, and what leaves no trace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.steps.observe.callers import (
    Place,
    import_is_running,
    serves_user,
    users_call,
    users_place,
)

# Functions of Python that ask of a path only whether it is there, and as what.
_ASKS_EXISTENCE = frozenset(
    ("exists", "lexists", "isfile", "isdir", "islink", "is_file", "is_dir", "is_symlink", "walk")
) | {"updatecache", "checkcache"}  # of linecache, for lines in warnings
_FOLLOWS_LINKS = frozenset(("realpath", "_joinrealpath"))
# Functions of Python that read variables, or the working folder, for purposes of their own: where
# programs and temporary files lie, how wide the terminal is.
_OWN_PURPOSES = frozenset(("get_exec_path", "get_terminal_size", "_candidate_tempdir_list"))
# Folders in which the system reports its state: nothing there can be compared later.
_STATE = ("/proc/", "/sys/", "/dev/")
_SHARED_MEMORY = "/dev/shm/"

CLOCK, NETWORK, PROGRAMS = "the clock", "the network", "other programs"
SYSTEM_STATE, ENVIRONMENT = "the state of the system", "the whole environment"
"""Inputs that leave nothing to compare later."""


@dataclass
class Record:
    """Raw observations; a `Listener` of the hooks.

    Attributes:
        opened, written, listed: absolute paths.
        users_files: those of the opened paths that the user's code opened, itself or through a package.
        linked: libraries that were loaded by their path.
        existing: paths of which only the existence was asked for.
        statuses: paths whose size or times the user's code asked for.
        links: links that were followed.
        variables: of the environment.
        modules: that the user's code looked for; some were not found.
        from_folder: whether the working folder at the start was used.
        unseen: inputs that leave nothing to compare later.
    """

    opened: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)
    users_files: set[str] = field(default_factory=set)
    linked: set[str] = field(default_factory=set)
    existing: set[str] = field(default_factory=set)
    statuses: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)
    modules: set[str] = field(default_factory=set)
    from_folder: bool = False
    unseen: set[str] = field(default_factory=set)
    _folder: str = field(default_factory=os.getcwd)
    _whole: Place | None = None

    def opened_file(self, path: Any, mode: Any, flags: Any) -> None:
        """Record a file that Python opens."""
        if not isinstance(path, (str, bytes)):
            return
        name = self._absolute(path)
        is_written = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        if is_written and not self._is_read_too(name, flags):
            self.written.add(name)
            return
        if name.startswith(_STATE) and not name.startswith(_SHARED_MEMORY):
            if users_call() is not None and name != os.devnull:
                self.unseen.add(SYSTEM_STATE)
            return
        self.opened.add(name)
        if name not in self.users_files and serves_user():
            self.users_files.add(name)

    def _is_read_too(self, name: str, flags: int) -> bool:
        """Return whether a file that is opened for writing had content from before the step."""
        is_fresh = flags & (os.O_TRUNC | os.O_APPEND) or not flags & os.O_RDWR
        return not is_fresh and name not in self.written and Path(name).is_file()

    def connected(self, database: Any) -> None:
        """Record a database of SQLite, which opens its file by itself."""
        if isinstance(database, (str, bytes)) and os.fsdecode(database) != ":memory:":
            self.opened_file(database, None, 0)

    def listed_folder(self, path: Any = None) -> None:
        """Record a folder that is listed, but for the search of the import system."""
        if path is None:
            path = os.curdir
        if isinstance(path, (str, bytes)) and not import_is_running():
            self.listed.add(self._absolute(path))

    def linked_library(self, name: Any) -> None:
        """Record a library that is loaded by its path; `Trace` finds those that are loaded by name."""
        if isinstance(name, (str, bytes)) and os.sep in os.fsdecode(name):
            self.linked.add(self._absolute(name))

    def imported(self, module: Any, *_: Any) -> None:
        """Record a module that the user's code imports, or tries to."""
        if isinstance(module, str) and users_call() is not None:
            self.modules.add(module)

    def sought(self, module: str) -> None:
        """See `Listener`."""
        self.imported(module)

    def started(self, *_: Any) -> None:
        """Record that the user's code runs another program."""
        if users_call() is not None:
            self.unseen.add(PROGRAMS)

    def reached(self, _: Any, address: Any) -> None:
        """Record a connection to another machine."""
        if isinstance(address, tuple) and serves_user():
            self.unseen.add(NETWORK)

    def looked_at(self, function: str, path: Any, *_: Any) -> None:
        """See `Listener`."""
        if not isinstance(path, (str, bytes, os.PathLike)) or not serves_user():
            return
        between = users_call()
        if between is not None and _FOLLOWS_LINKS & set(between):
            self.links.update(_links_to(self._absolute(path)))
        elif function == "readlink":
            self.links.add(self._absolute(path))
        elif function == "access" or between is None or _ASKS_EXISTENCE & set(between):
            self.existing.add(self._absolute(path))
        else:
            self.statuses.add(self._absolute(path))

    def read_variable(self, name: str | None) -> None:
        """See `Listener`."""
        between = users_call()
        if between is None or _OWN_PURPOSES & set(between):
            return
        place = users_place()
        if name is None:
            self._whole = place
            self.unseen.add(ENVIRONMENT)
        elif isinstance(name, str) and place != self._whole:
            self.variables.add(name)

    def asked_folder(self) -> None:
        """See `Listener`."""
        if not self.from_folder:
            between = users_call()
            if between is not None and not _OWN_PURPOSES & set(between):
                self._use_folder()

    def asked_time(self) -> None:
        """See `Listener`."""
        if CLOCK not in self.unseen and users_call() == []:  # not one for a log's line
            self.unseen.add(CLOCK)

    def _absolute(self, path: str | bytes | os.PathLike[Any]) -> str:
        """Return an absolute path. Links are not followed: a link that changes is another file."""
        name = os.fsdecode(path)
        if not name.startswith(os.sep) and not self.from_folder and serves_user():
            self._use_folder()
        return os.path.abspath(name)  # noqa: PTH100

    def _use_folder(self) -> None:
        """Record that the working folder matters, unless the user's code went to another one."""
        self.from_folder = os.getcwd() == self._folder  # noqa: PTH109


def _links_to(path: str) -> Iterator[str]:
    """Yield the links among a path and the folders above it."""
    for candidate in (path, *map(str, Path(path).parents)):
        if os.path.islink(candidate):  # noqa: PTH114
            yield candidate
