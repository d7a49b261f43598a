"""Dependencies of a step's result: files, folders, modules and packages, each with its digest."""

from __future__ import annotations

import hashlib
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import Distribution, packages_distributions
from pathlib import Path

from converters.digest import ROOT
from runtimes.files.regular import open_regular

FILE, FOLDER, PACKAGE, CODE, MODULE = "file", "folder", "package", "code", "module"
"""Kinds of dependencies. `code` is Burnish's own; a `module` is recorded by its import name."""
EXISTENCE, STATUS, LINK, VARIABLE = "existence", "status", "link", "variable"
"""Further kinds: whether a path is there and as what, its size and times, its target; the environment."""
WORKING_FOLDER = "working folder"
"""The dependency on the working folder: code that uses relative paths."""
UNSEEN = "unseen"
"""Inputs that leave nothing to compare: they are reported, and never change."""
ABSENT = "absent"
"""The digest of a dependency that does not exist."""


def current_digests(
    names: Iterable[str],
    home: Path,
    cached: dict[str, str] | None = None,
    python_path: Sequence[str] | None = None,
) -> dict[str, str]:
    """Return the digests that these dependencies have now.

    Args:
        names: as in the keys of `Trace.collect_dependencies`.
        home: the recipe's folder.
        cached: digests that were computed already; new ones are added.
        python_path: folders to search for modules, after `home`; by default the Python path.
    """
    if cached is None:
        cached = {}
    search_path = [str(home), *(sys.path if python_path is None else python_path)]
    digests = {}
    for name in names:
        if name not in cached:
            cached[name] = _digest(name, home, search_path)
        digests[name] = cached[name]
    return digests


def _digest(name: str, home: Path, search_path: Sequence[str]) -> str:
    kind, _, target = name.partition(" ")
    if kind == MODULE:
        file = module_file(target, search_path)
        return _content_digest(file) if file else ABSENT
    if kind == PACKAGE:
        return _package_version(target)
    if kind == UNSEEN:
        return ""
    if name == WORKING_FOLDER:
        return os.path.relpath(Path.cwd(), home)
    if kind == VARIABLE:
        value = os.environ.get(target)
        return ABSENT if value is None else hashlib.sha256(os.fsencode(value)).hexdigest()
    if kind in _LOOKS:
        return _LOOKS[kind](home / target)
    return _content_digest((ROOT if kind == CODE else home) / target)


def _package_version(name: str) -> str:
    """Return the installed version of a package, or ABSENT."""
    # Only in the folders of installed packages: some packages bundle copies of others that only
    # they can import.
    folders = list(map(str, installed_folders()))
    for distribution in Distribution.discover(name=name, path=folders):
        return distribution.version
    return ABSENT


def _content_digest(path: Path) -> str:
    """Return the digest of a file's content, or of the names in a folder."""
    try:
        if path.is_dir():
            names = sorted(entry.name for entry in path.iterdir())
            return hashlib.sha256("\0".join(names).encode()).hexdigest()
        with open_regular(path) as file:  # a pipe is no input
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ABSENT


def _existence(path: Path) -> str:
    """Return what is at a path."""
    if path.is_dir():
        return "folder"
    if path.exists():
        return "file"
    return "broken link" if path.is_symlink() else ABSENT


def _status(path: Path) -> str:
    """Return the size and the time of change of a file; what builds write changes those of folders."""
    try:
        status = path.stat()
    except OSError:
        return ABSENT
    if path.is_dir():
        return f"folder {status.st_mode:o}"
    return f"{status.st_size} {status.st_mtime_ns} {status.st_mode:o}"


def _link_target(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ABSENT


_LOOKS = {EXISTENCE: _existence, STATUS: _status, LINK: _link_target}


def module_file(name: str, search_path: Iterable[str | Path]) -> Path | None:
    """Return the file that a module is imported from, or None.

    Searches as Python does, but does not run the packages that contain the module.
    """
    inner = Path(*name.split("."))
    candidates = [inner / "__init__.py"]
    for suffix in (*EXTENSION_SUFFIXES, ".py", ".pyc"):
        candidates.append(inner.with_name(f"{inner.name}{suffix}"))
    for folder in search_path:
        for candidate in candidates:
            if (file := Path(folder) / candidate).is_file():
                return file
    return None


@cache
def installed_folders() -> tuple[Path, ...]:
    """Return the folders of packages and of Python itself; versions stand for their files."""
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    # Paths of modules keep their links: otherwise all of torch would count as the user's code in a
    # virtual environment that a link leads to.
    absolute = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100
    return tuple({*absolute, *map(Path.resolve, absolute)})


@cache
def known_packages() -> Mapping[str, list[str]]:
    """Return the installed packages by the names of their modules.

    Cached, since it reads the file list of every installed package.
    """
    return packages_distributions()


def imported_packages() -> set[str]:
    """Return the installed packages that this process has imported from."""
    packages: set[str] = set()
    by_module = known_packages()
    for name in list(sys.modules):
        packages.update(by_module.get(name.partition(".")[0], ()))
    return packages - {"burnish"}


def unseen_note(read: Iterable[str]) -> list[str]:
    """Return a line on inputs that leave nothing to compare later; none if there are none."""
    inputs = sorted({name.partition(" ")[2] for name in read if name.startswith(f"{UNSEEN} ")})
    if not inputs:
        return []
    listed = " and ".join(filter(None, (", ".join(inputs[:-1]), inputs[-1])))
    return [
        f"the recipe's code used {listed}: changes there are not noticed, and cached results are "
        "used again; --fresh builds all of it"
    ]


def describe_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return in words which dependencies changed between two sets of digests of the same names."""
    changed = [name for name in before if before[name] != now[name]]
    phrases: list[str] = []
    # Modules last: a changed module is usually reported as a changed file already.
    for name in sorted(changed, key=lambda name: name.startswith(MODULE)):
        kind = name.partition(" ")[0]
        if kind == CODE or (kind == MODULE and phrases):
            continue
        phrases.append(_describe_change(name, before[name], now[name]))
    code = [name for name in changed if name.startswith(CODE)]
    if code:
        file = Path(code[0].partition(" ")[2]).name
        phrases.append(f"Burnish's own code changed ({file})")
    return phrases


def _describe_change(name: str, before: str, now: str) -> str:
    kind, _, target = name.partition(" ")
    if kind == PACKAGE:
        return f"{target} changed {before} -> {now}"
    if name == WORKING_FOLDER:
        return "the working folder changed, and the code uses relative paths"
    if kind == VARIABLE:
        return f"the environment variable {target} changed"
    if kind == LINK:
        return f"{target} leads elsewhere"
    if before == ABSENT:
        return f"{target} appeared"
    return f"{target} is gone" if now == ABSENT else f"{target} changed"
