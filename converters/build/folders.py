"""The folder of a build: what may be replaced in it, and the scratch that never stays."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from converters.plan.plan import Plan
from runtimes.artifact.artifact import MANIFEST
from runtimes.errors import UsageError
from runtimes.files.layout import BUILD_FILE, CHANGED, LOGS, REFERENCE_FILE
from runtimes.process.process import ChildDied
from runtimes.results import Build

_WORK = ".work"
_KEY = re.compile("[0-9a-f]{12}")  # names of changed models: those of their passes
_LEFT = re.compile(r"\.(.+\.old\.\d+|(build|steps)\.json\.\d+)$")


def foreign(plan: Plan, output: Path) -> None:
    """Raise UsageError where the build would replace something that Burnish did not make."""
    taken = [name for one in plan.artifacts if (output / (name := one.name)).exists()]
    found = [name for name in taken if not (output / name / MANIFEST).is_file()]
    if not (output / BUILD_FILE).exists() and not taken and not _unfinished(output):
        found += [name for name in (REFERENCE_FILE, CHANGED) if (output / name).exists()]
    elif not (output / BUILD_FILE).exists() and _strange(output / CHANGED):
        found.append(CHANGED)
    if (output / BUILD_FILE).exists():
        try:
            Build.read(output)
        except UsageError:
            found.append(BUILD_FILE)
    if found:
        raise UsageError(
            f"{output} holds {', '.join(found)}, which no build made and this one would replace: "
            "choose another --output, or remove it"
        )


def _unfinished(output: Path) -> bool:
    """Whether a build was killed here, or interrupted behind its first artifact. `logs` alone proves nothing."""
    return (output / _WORK).is_dir() or any(output.glob(f"*/{MANIFEST}"))


def _strange(models: Path) -> bool:
    """Whether something lies among the changed models that is none: projects have a folder of that name, too."""
    return models.is_dir() and not all(_KEY.fullmatch(path.name) and path.is_dir() for path in models.iterdir())


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
            (output / LOGS).mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write to {output}: {error.strerror}") from error
        died = False
        try:
            yield work
        except ChildDied:  # the message names its log, and the script that runs the step again
            died = True
            raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
            if not (output / BUILD_FILE).exists() and not any(output.glob(f"*/{MANIFEST}")):
                forget_models(output, ())  # nothing was finished that they would judge
                (output / REFERENCE_FILE).unlink(missing_ok=True)
            if created and not died and not any(path.name != LOGS for path in output.iterdir()):
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
    """Remove the changed models of earlier builds but those of these keys, and nothing else."""
    for folder in (output / CHANGED).iterdir() if (output / CHANGED).is_dir() else ():
        if _KEY.fullmatch(folder.name) and folder.name not in keys:
            shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # none, or one that is not empty
        (output / CHANGED).rmdir()
