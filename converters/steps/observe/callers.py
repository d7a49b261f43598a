"""Whose call it is: that of the user's code, of an installed package, or of Burnish.

A library looks at hundreds of files and variables that are no input of a step. Those count that
the user's code looks at itself, or has a library look at. Python's own modules (`pathlib`,
`os.path`) act for their caller and are passed over.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FrameType

from converters.digest import ROOT
from converters.steps.dependencies import installed_folders

PACKAGES = ("burnish", "converters", "runtimes")
"""Burnish's own."""
Place = tuple[int, int]
"""A frame, and the instruction that it is at."""
_PACKAGE_PARTS = tuple((name,) for name in PACKAGES)
_HERE = str(Path(__file__).parent) + "/"


def is_burnish(path: str) -> bool:
    """Return whether a file belongs to Burnish's own packages."""
    file = Path(path)
    return file.is_relative_to(ROOT) and file.relative_to(ROOT).parts[:1] in _PACKAGE_PARTS


def users_call() -> list[str] | None:
    """Return the names of Python's functions that the user's code makes a call through.

    None if an installed package or Burnish makes it.
    """
    between: list[str] = []
    for frame in _callers():
        name = frame.f_code.co_filename
        if not _is_pythons(name):
            return between if _is_users(name) else None
        between.append(frame.f_code.co_name)
    return None


def users_place() -> Place | None:
    """Return the place of the user's code from which a call is made, itself or through a package."""
    for frame in _callers():
        if _is_users(frame.f_code.co_filename):
            return id(frame), frame.f_lasti
    return None


def serves_user() -> bool:
    """Return whether the user's code makes a call, itself or through a package."""
    return any(_is_users(frame.f_code.co_filename) for frame in _callers())


def _callers() -> Iterator[FrameType]:
    """Yield the frames of the call, the innermost first, without those of this folder."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_HERE):
            yield frame
        frame = frame.f_back


@cache
def _is_pythons(name: str) -> bool:
    """Return whether code belongs to Python itself, or was made by `exec`."""
    if name.startswith("<"):
        return True
    in_python = any(name.startswith(f"{folder}/") for folder in _python_folders())
    return in_python and "/site-packages/" not in name and "/dist-packages/" not in name


@cache
def _python_folders() -> tuple[str, ...]:
    folders = [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "platstdlib")]
    return tuple({*map(str, folders), *(str(folder.resolve()) for folder in folders)})


@cache
def _is_users(name: str) -> bool:
    if _is_pythons(name) or is_burnish(name):
        return False
    return not any(Path(name).is_relative_to(folder) for folder in installed_folders())


def import_is_running() -> bool:
    """Return whether the import system makes a call, for a module or for package metadata.

    A user's module that makes it while it is imported does so itself: its frame comes first.
    """
    for frame in _callers():
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib") or _is_of_imports(name):
            return True
        if _is_users(name):
            return False
    return False


def _is_of_imports(name: str) -> bool:
    return "/importlib/" in name or "/pkg_resources/" in name
