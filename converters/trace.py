"""What a step read: the files behind its result, found while it runs.

A recipe's Python code may import and open what it likes, so what a result depends on is not guessed but seen. The
interpreter's audit events tell which files were opened and which folders were listed; the loaded modules tell the
code and the packages. What native code opens by itself is not seen: `depend` names such files.
"""

from __future__ import annotations

import hashlib
import os
import site
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import Distribution, packages_distributions
from pathlib import Path
from types import FrameType
from typing import Any

FILE, FOLDER, PACKAGE, CODE, MODULE = "file", "folder", "package", "code", "module"
_OWN = Path(__file__).resolve().parent.parent
_PACKAGES = ("burnish", "converters", "runtimes")  # Burnish's own
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/lib/", "/usr/share/", "/lib/", "/lib64/")
_BESIDE = ("__pycache__/", ".egg-info/", ".dist-info/", "/openvino_ga_cid")  # the last: telemetry's name for a user
ABSENT = "absent"


@dataclass
class Trace:
    """What this process reads from now on.

    Attributes:
        home: the recipe's folder; what lies below is told relative to it.
        ignored: folders whose files are no input: scratch, caches.
    """

    home: Path
    ignored: tuple[Path, ...]
    _opened: set[str] = field(default_factory=set)
    _listed: set[str] = field(default_factory=set)
    _linked: set[str] = field(default_factory=set)
    _named: dict[str, int] = field(default_factory=dict)
    _wanted: set[str] = field(default_factory=set)
    _written: set[str] = field(default_factory=set)
    _started: int = field(default_factory=time.time_ns)
    _path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))

    def heard(self, event: str, args: tuple[Any, ...]) -> None:
        """Take note of an audit event of the interpreter."""
        if event == "open":
            path, _, flags = args
            if isinstance(path, (str, bytes)):
                writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
                (self._written if writes else self._opened).add(_absolute(path))
        elif event == "ctypes.dlopen":
            if isinstance(args[0], (str, bytes)) and Path(os.fsdecode(args[0])).is_absolute():
                self._linked.add(_absolute(args[0]))
        elif args and isinstance(args[0], (str, bytes)) and not _importing():  # os.listdir, os.scandir
            self._listed.add(_absolute(args[0]))

    def depend(self, path: Path) -> None:
        """A file or folder that the result depends on, even if it is not there."""
        self._named[_absolute(path)] = _changed(path)

    def want(self, module: str) -> None:
        """A package or module that the result depends on, even if it is not installed."""
        self._wanted.add(module)

    def found(self) -> dict[str, str]:
        """What was read, each with the digest that it has now: `file PATH`, `package NAME`, ..."""
        modules = dict(_sources())
        users = {path for path in modules.values() if self._is_linked(path) or self._is_input(path)}
        own = {path for path in modules.values() if path.startswith(f"{_OWN}{os.sep}") and _is_own(path)}
        folders = {path for path in self._listed if self._is_input(path) and Path(path).is_dir()}
        linked = {path for path in self._linked if self._is_linked(path)}
        files = self._files() | {path for path in users | linked if Path(path).is_file()} | set(self._named)
        found = {f"{FILE} {self._told(path)}" for path in files}
        found |= {f"{FOLDER} {self._told(path)}" for path in folders}
        found |= {f"{CODE} {Path(path).relative_to(_OWN).as_posix()}" for path in own}
        found |= {f"{PACKAGE} {name}" for name in {*_distributions(), *self._wanted}}
        found |= {f"{MODULE} {name}" for name, path in modules.items() if path in users and self._is_at(name, path)}
        found |= {f"{MODULE} {name}" for name in self._wanted}
        return current(sorted(found), self.home, path=self._path)

    @property
    def disturbed(self) -> list[str]:
        """Files that were changed while the step ran: its result is of neither state."""
        read = {path for path in {*self._files(), *dict(_sources()).values()} if self._is_input(path)}
        changed = {path for path in read if _changed(path) > self._started}
        changed |= {path for path, before in self._named.items() if _changed(path) != before}
        return sorted(self._told(path) for path in changed)

    def _is_at(self, module: str, path: str) -> bool:
        """Whether a module comes from where it is looked for: a program may change that while it runs."""
        found = module_file(module, (self.home, *self._path))
        return found is not None and _absolute(found) == path

    def _files(self) -> set[str]:
        """What Python has opened or tried to: where there was no file, one that appears changes the result."""
        paths = {path for path in self._opened - self._written if self._is_input(path)}
        return {path for path in paths if Path(path).is_file()
                or not (Path(path).exists() or self._is_passing(path))}  # fmt: skip

    def _is_input(self, path: str) -> bool:
        return not path.endswith((".pyc", ".so")) and self._is_users(path)

    def _is_linked(self, path: str) -> bool:
        """A user's library or extension module; not what is compiled on the way and thrown away."""
        return path.endswith(".so") and self._is_users(path) and not self._is_passing(path)

    def _is_users(self, path: str) -> bool:
        if path.startswith(_elsewhere()) or any(one in path for one in _BESIDE):
            return False
        one = Path(path)
        own = one.is_relative_to(_OWN) and _is_own(path)
        return not own and not any(one.is_relative_to(folder) for folder in self.ignored)

    def _is_passing(self, path: str) -> bool:
        return path.startswith(f"{tempfile.gettempdir()}{os.sep}") and not Path(path).is_relative_to(self.home)

    def _told(self, path: str) -> str:
        one = Path(path)
        return one.relative_to(self.home).as_posix() if one.is_relative_to(self.home) else path


def _absolute(path: str | bytes | Path) -> str:
    """Links are not followed: a link that is changed is another file."""
    return os.path.abspath(os.fsdecode(path))  # noqa: PTH100


def _is_own(path: str) -> bool:
    return Path(path).relative_to(_OWN).parts[:1] in [(name,) for name in _PACKAGES]


_tracing: Trace | None = None


def start(home: Path, ignored: Iterable[Path]) -> Trace:
    """Begin to note what this process reads, for good: an audit hook cannot be removed."""
    global _tracing
    if _tracing is None:
        sys.addaudithook(_hook)
    _tracing = Trace(home.resolve(), tuple(one.resolve() for one in ignored))
    return _tracing


def depend(path: Path) -> None:
    """Tell the trace of this process, if there is one, of a file or folder that its step depends on."""
    if _tracing is not None:
        _tracing.depend(path)


def want(module: str) -> None:
    """Tell the trace of this process, if there is one, of a package or module that its step looks for."""
    if _tracing is not None:
        _tracing.want(module)


_busy = threading.local()
_EVENTS = ("open", "os.listdir", "os.scandir", "ctypes.dlopen")


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _tracing is not None and event in _EVENTS and not getattr(_busy, "now", False):
        _busy.now = True  # what this very function opens is no input
        try:
            _tracing.heard(event, args)
        finally:
            _busy.now = False


def _importing() -> bool:
    """Whether the import system is what lists a folder: on the way to a module, or to a package's metadata.

    A user's module that lists one while it is imported does so itself: its frame comes first.
    """
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib") or "/importlib/" in name or "/pkg_resources/" in name:
            return True
        if not name.startswith(("<", *_elsewhere())):
            return False
        frame = frame.f_back
    return False


def _changed(path: str | Path) -> int:
    """When a file was last changed, or put in place of another; 0 where there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return 0
    return max(found.st_mtime_ns, found.st_ctime_ns)


def _sources() -> Iterator[tuple[str, str]]:
    """Names and files of all modules that this process has imported."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith((".py", ".so")):
            yield name, _absolute(file)


def module_file(name: str, places: Iterable[str | Path]) -> Path | None:
    """The file that a module is imported from: found as Python does, but without running the packages around it."""
    inner = Path(*name.split("."))
    ends = (inner / "__init__.py", *(inner.with_name(f"{inner.name}{end}") for end in (*EXTENSION_SUFFIXES, ".py")))
    return next((file for place in places for end in ends if (file := Path(place) / end).is_file()), None)


@cache
def _installed() -> tuple[Path, ...]:
    """Folders of packages and of Python itself, whose versions stand for their files."""
    known = sysconfig.get_paths()
    paths = [known[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders = [Path(_absolute(path)) for path in (*paths, *site.getsitepackages(), site.getusersitepackages())]
    # Paths of modules keep their links: else all of torch would be the user's code in a venv that a link leads to.
    return tuple({*folders, *(folder.resolve() for folder in folders)})


@cache
def _elsewhere() -> tuple[str, ...]:
    """What the paths of the system's files, and of installed packages, begin with."""
    return (*_SYSTEM, *(f"{folder}{os.sep}" for folder in _installed()))


@cache
def known_packages() -> Mapping[str, list[str]]:
    """The installed packages by the names of their modules; a look through all of their lists of files."""
    return packages_distributions()


def _distributions() -> set[str]:
    """The installed packages that this process has imported from."""
    known = known_packages()
    tops = {name.partition(".")[0] for name in sys.modules}
    return {one for top in tops for one in known.get(top, ()) if one != "burnish"}


def current(
    names: Iterable[str], home: Path, known: dict[str, str] | None = None, path: Sequence[str] | None = None
) -> dict[str, str]:
    """The digests that these files, folders, packages and sources have now.

    Args:
        names: as `Trace.found` gives them.
        home: the recipe's folder.
        known: remembers digests.
        path: where modules are looked for, behind `home`; by default the Python path.
    """
    known, places = known if known is not None else {}, [str(home), *(sys.path if path is None else path)]
    return {name: _remembered(name, home, known, places) for name in names}


def _remembered(name: str, home: Path, known: dict[str, str], places: Sequence[str]) -> str:
    if name not in known:
        known[name] = _digest(name, home, places)
    return known[name]


def _digest(name: str, home: Path, places: Sequence[str]) -> str:
    kind, _, what = name.partition(" ")
    if kind == MODULE:
        file = module_file(what, places)
        return _content(file) if file else ABSENT
    if kind == PACKAGE:
        # Where packages are installed, and nowhere else: some bring copies of others that only they find.
        found = Distribution.discover(name=what, path=[str(place) for place in _installed()])
        return next((one.version for one in found), ABSENT)
    return _content((_OWN if kind == CODE else home) / what)


def _content(path: Path) -> str:
    """The digest of a file, or of the names in a folder."""
    try:
        if path.is_dir():
            return hashlib.sha256("\0".join(sorted(one.name for one in path.iterdir())).encode()).hexdigest()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ABSENT


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What of a step's reading is another than it was, in words."""
    own = [name for name in before if name.startswith(CODE) and before[name] != now[name]]
    words: list[str] = []
    for name in sorted(before, key=lambda one: one.startswith(MODULE)):
        kind, _, what = name.partition(" ")
        if before[name] == now[name] or kind == CODE or (kind == MODULE and words):  # told by its file
            continue
        gone = kind != PACKAGE and (ABSENT in (before[name], now[name]))
        verb = ("appeared" if before[name] == ABSENT else "is gone") if gone else "changed"
        versions = f" {before[name]} -> {now[name]}" if kind == PACKAGE else ""
        words.append(f"{what} {verb}{versions}")
    return [*words, *([f"Burnish's own code changed ({Path(own[0].partition(' ')[2]).name})"] if own else [])]
