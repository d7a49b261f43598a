"""The folder of a build: what may be replaced in it, and the scratch that never stays."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from converters.publish import CHANGED
from converters.recipe import Plan
from runtimes.artifact import MANIFEST
from runtimes.errors import UsageError
from runtimes.results import Build
from runtimes.validator.reference import FILE as REFERENCE

_WORK = ".work"
_LEFT = re.compile(r"\.(.+\.old\.\d+|(build|steps)\.json\.\d+)$")


def foreign(plan: Plan, output: Path) -> None:
    """Raise UsageError where the build would replace something that Burnish did not make."""
    taken = [name for one in plan.artifacts if (output / (name := one.name)).exists()]
    found = [name for name in taken if not (output / name / MANIFEST).is_file()]
    if not (output / "build.json").exists() and not taken and not _unfinished(output):
        found += [name for name in (REFERENCE, CHANGED) if (output / name).exists()]
    if (output / "build.json").exists():
        try:
            Build.read(output)
        except UsageError:
            found.append("build.json")
    if found:
        raise UsageError(
            f"{output} holds {', '.join(found)}, which no build made and this one would replace: "
            "choose another --output, or remove it"
        )


def _unfinished(output: Path) -> bool:
    """Whether a build that was interrupted has left its logs."""
    return (output / "logs").is_dir()


def _tidy(output: Path) -> None:
    """Remove what a build that was killed in the middle of a rename has left."""
    for path in output.iterdir():
        if _LEFT.match(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def output_folder(output: Path) -> Iterator[Path]:
    """The output folder, for this build alone, and a scratch folder in it; what stays empty is removed again.

    Raises UsageError where it cannot be written, or another build is writing into it.
    """
    created = not output.exists()
    parent = not output.parent.exists()
    with contextlib.ExitStack() as stack:
        try:
            output.mkdir(parents=True, exist_ok=True)
            _alone(output, stack)
            work = output / _WORK
            shutil.rmtree(work, ignore_errors=True)
            _tidy(output)
            work.mkdir()
            (output / "logs").mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write to {output}: {error.strerror}") from error
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)
            if not (output / "build.json").exists() and not any(output.glob(f"*/{MANIFEST}")):
                shutil.rmtree(output / CHANGED, ignore_errors=True)  # nothing was finished that they would judge
                (output / REFERENCE).unlink(missing_ok=True)
            if created and not any(path.name != "logs" for path in output.iterdir()):
                shutil.rmtree(output, ignore_errors=True)
                if parent and not any(output.parent.iterdir()):
                    output.parent.rmdir()


def _alone(output: Path, stack: contextlib.ExitStack) -> None:
    """Lock the folder until the stack unwinds. Raises UsageError where another build holds it."""
    handle = os.open(output, os.O_RDONLY)
    stack.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"another build is writing into {output}: wait for it, or choose another --output"
        ) from None


def forget_models(output: Path, keys: Collection[str]) -> None:
    """Remove the changed models of earlier builds but those of these keys."""
    for folder in (output / CHANGED).iterdir() if (output / CHANGED).is_dir() else ():
        if folder.name not in keys:
            shutil.rmtree(folder, ignore_errors=True)
    if "" in keys and not any(keys):
        shutil.rmtree(output / CHANGED, ignore_errors=True)
