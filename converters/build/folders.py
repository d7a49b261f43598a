"""The folder of a build: checks before anything is replaced in it, its lock, its scratch folder."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from converters.plan.plan import Plan
from runtimes.artifact.artifact import MANIFEST
from runtimes.errors import UsageError
from runtimes.files.disks import has_inodes, has_locks, is_readable_name, try_lock
from runtimes.files.layout import BUILD_FILE, CHANGED, LOGS, REFERENCE_FILE
from runtimes.process.process import ChildDied
from runtimes.results import Build

_SCRATCH = ".work"
_MODEL_KEY = re.compile("[0-9a-f]{12}")  # names of changed models: the keys of their passes
_LEFTOVER = re.compile(r"\.(.+\.old\.\d+|(build\.json|build\.sig|steps\.json)\.\d+)$")


def check_replaceable(plan: Plan, output: Path) -> None:
    """Raise UsageError if the build would replace something that Burnish did not make."""
    existing = _existing(output, plan.artifact_names)
    foreign = [name for name in existing if not (output / name / MANIFEST).is_file()]
    if (output / BUILD_FILE).exists():
        try:
            Build.read(output)
        except UsageError:
            foreign.append(BUILD_FILE)
    elif not existing and not _is_unfinished_build(output):
        foreign += _existing(output, (REFERENCE_FILE, CHANGED))
    elif _has_foreign_models(output / CHANGED):
        foreign.append(CHANGED)
    if foreign:
        raise UsageError(
            f"{output} holds {', '.join(foreign)}, which Burnish did not make and this build would "
            "replace: choose another --output, or remove it"
        )


def _existing(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if (folder / name).exists()]


def _is_unfinished_build(output: Path) -> bool:
    """Return whether a build was killed here, or interrupted after its first artifact.

    A folder `logs` alone proves nothing.
    """
    return (output / _SCRATCH).is_dir() or any(output.glob(f"*/{MANIFEST}"))


def _has_foreign_models(models: Path) -> bool:
    """Return whether the folder of changed models holds anything else.

    A project may have a folder of that name, too.
    """
    if not models.is_dir():
        return False
    return not all(_MODEL_KEY.fullmatch(path.name) and path.is_dir() for path in models.iterdir())


def _remove_leftovers(output: Path) -> None:
    """Remove the leftovers of a build that was killed in the middle of a rename."""
    for path in output.iterdir():
        if _LEFTOVER.match(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def output_folder(output: Path) -> Iterator[Path]:
    """Lock the output folder for this build, and yield a scratch folder in it.

    Folders that stay empty are removed. Raises UsageError if the folder cannot be written, or if
    another build is writing into it.
    """
    is_new, parent_is_new = not output.exists(), not output.parent.exists()
    with contextlib.ExitStack() as stack:
        try:
            output.mkdir(parents=True, exist_ok=True)
            _lock(output, stack)
            scratch = output / _SCRATCH
            shutil.rmtree(scratch, ignore_errors=True)
            _remove_leftovers(output)
            scratch.mkdir()
            (output / LOGS).mkdir(exist_ok=True)
        except OSError as error:
            why = str(error.strerror)
            if error.errno == errno.ENOSPC and not has_inodes(output.parent):
                why += " (no inode is free: remove some files)"
            raise UsageError(f"cannot write to {output}: {why}") from error
        died = False
        try:
            yield scratch
        except ChildDied:  # the message names its log, and the script that runs the step again
            died = True
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            if not (output / BUILD_FILE).exists() and not any(output.glob(f"*/{MANIFEST}")):
                remove_changed_models(output, ())  # no artifact was finished that they could judge
                (output / REFERENCE_FILE).unlink(missing_ok=True)
            if is_new and not died:
                _remove_if_empty(output, parent_is_new)


def _remove_if_empty(output: Path, with_parent: bool) -> None:
    """Remove an output folder that holds nothing but logs."""
    if any(path.name != LOGS for path in output.iterdir()):
        return
    shutil.rmtree(output, ignore_errors=True)
    if with_parent and not any(output.parent.iterdir()):
        output.parent.rmdir()


def _lock(output: Path, stack: contextlib.ExitStack) -> None:
    """Lock the folder until the stack unwinds. Raises UsageError if another build holds it."""
    handle = os.open(output, os.O_RDONLY)
    stack.callback(os.close, handle)
    if has_locks(output) and not try_lock(handle):
        raise UsageError(
            f"another build is writing into {output}: wait for it, or choose another --output"
        )


def check_names(*folders: Path) -> None:
    """Raise UsageError if the name of a folder is not UTF-8: no engine could open its files."""
    for folder in folders:
        if not is_readable_name(folder):
            name = os.fsencode(folder).decode(errors="backslashreplace")
            raise UsageError(f"the name of {name} is not UTF-8, which engines need: rename it")


def lock_notes(output: Path) -> list[str]:
    """Return a note if a second build into the folder would not be noticed."""
    if has_locks(output):
        return []
    return [
        f"{output} is on a file system without locks: run no other build into it at the same time"
    ]


def remove_changed_models(output: Path, keep: Collection[str]) -> None:
    """Remove the changed models of earlier builds, except those with these keys."""
    models = output / CHANGED
    for folder in models.iterdir() if models.is_dir() else ():
        if _MODEL_KEY.fullmatch(folder.name) and folder.name not in keep:
            shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # there is none, or it is not empty
        models.rmdir()
