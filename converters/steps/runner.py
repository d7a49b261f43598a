"""Runs the steps of a build, each once: from the cache, or by a worker, several side by side."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from converters.steps.cache import StepCache
from converters.steps.child import StepRun, describe
from converters.steps.entry import DIGESTS, FILES, RESULT, Entry, seal
from converters.steps.key import Parts, first_key, step_parts
from converters.steps.places import Places
from converters.steps.step import Step, StepOutput
from converters.steps.workers.worker import Worker
from runtimes.errors import BurnishError
from runtimes.files.disks import has_inodes
from runtimes.process.process import stopwatch
from runtimes.progress import Line, Tell, watched

_MIN_FREE_BYTES = 1 << 20
"""Free bytes below which a disk counts as full, whatever could not be written."""


class StepFailed(BurnishError):
    """A step ended in an error. Steps that need its output get the same error."""

    def __init__(self, step: str, error: BurnishError) -> None:
        super().__init__(str(error))
        self.step, self.error = step, error


@dataclass
class Runner:
    """Runs the steps of one build.

    Attributes:
        steps: by name; more may be added while the build runs.
        recipe: name of the recipe, for the description beside a result.
        worker: runs a step.
        work: scratch folder, for results that cannot be cached.
        cache: None if no results are cached or reused.
        jobs: number of steps that may run side by side.
        progress: is called with messages, from any thread; a `Watcher` also gets counts.
        fresh: whether no result is taken from the cache.
        seconds: duration of each step; overhead: of these, the cost of processes of their own.
        parts: dependencies of each step; notes: for the build's reader.
    """

    steps: Mapping[str, Step]
    recipe: str
    worker: Worker
    work: Path
    cache: StepCache | None
    jobs: int
    progress: Tell
    fresh: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    parts: dict[str, Parts] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    overhead: float = 0.0

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._places = Places(self.jobs)
        self._outputs: dict[str, Future[StepOutput]] = {}
        self._verified: set[Path] = set()
        self._uncached: list[Path] = []
        self._full = False
        self._stopped = threading.Event()

    def output(self, name: str) -> StepOutput:
        """Return the output of a step; the step runs first if it has to.

        Waits if another thread runs it. Raises BurnishError as the step did, on every call.
        """
        with self._lock:
            future, is_mine = self._outputs.get(name), False
            if future is None:
                future, is_mine = Future(), True
                self._outputs[name] = future
        if is_mine:
            try:
                future.set_result(self._make(self.steps[name]))
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    def verified_output(self, name: str) -> StepOutput:
        """Return the output of a step after comparing its files with their digests.

        If they are damaged, the step runs again.
        """
        output = self.output(name)
        with self._lock:
            is_verified = output.folder in self._verified and output.folder.is_dir()
            if self.cache is None or is_verified:
                return output
            # Otherwise another thread noticed the damage and reruns it.
            if self._is_latest(name, output):
                if self.cache.check(Entry(output.folder.parent, output.digest), self._warn):
                    self._verified.add(output.folder)
                    return output
                del self._outputs[name]
        return self.verified_output(name)

    def _is_latest(self, name: str, output: StepOutput) -> bool:
        future = self._outputs.get(name)
        if future is None or not future.done() or future.exception():
            return False
        return future.result() is output

    def file_digests(self, name: str) -> dict[str, str]:
        """Return the sha256 of each of a step's files, by its name."""
        listed = self.output(name).folder.parent / DIGESTS
        if not listed.is_file():  # somebody has removed it
            listed = self.verified_output(name).folder.parent / DIGESTS
        digests = {}
        for path, digest in json.loads(listed.read_text(encoding="utf-8")).items():
            if Path(path).parts[0] == FILES:
                digests[Path(path).relative_to(FILES).as_posix()] = digest
        return digests

    def close(self) -> None:
        """Release the cache, and remove the results that are not cached."""
        for folder in self._uncached:
            shutil.rmtree(folder, ignore_errors=True)
        if self.cache is not None:
            self.cache.close()

    def _make(self, step: Step) -> StepOutput:
        """Return the output of a step from the cache, or run it."""
        needs = {name: self.output(name) for name in step.needs}
        parts = step_parts(step, needs)
        first = first_key(parts)
        self.parts[step.name] = parts
        if self.cache is None:
            return self._run(step, parts, first, self._verified_needs(step))
        if output := self._cached(step, first):
            return output
        on_wait = partial(self.progress, f"waiting for another build, which is {step.description}")
        with self.cache.making(first, self._stopped.is_set, on_wait):
            if output := self._cached(step, first):  # by the build that was waited for
                return output
            verified = self._verified_needs(step)
            if any(verified[name].digest != needs[name].digest for name in step.needs):
                return self._make(step)  # a damaged output was made again, and came out differently
            return self._run(step, parts, first, verified)

    def _verified_needs(self, step: Step) -> dict[str, StepOutput]:
        return {name: self.verified_output(name) for name in step.needs}

    def _cached(self, step: Step, first: str) -> StepOutput | None:
        assert self.cache is not None  # only called with a cache
        if self.fresh:
            return None
        with self._lock:
            entry, read = self.cache.find(first, self._warn)
        if entry is None:
            return None
        self.parts[step.name] = {**self.parts[step.name], **read}
        return output_of(step, entry)

    def _warn(self, message: str) -> None:
        self.progress(message)
        self.notes.append(message)

    def _run(
        self, step: Step, parts: Parts, first: str, needs: Mapping[str, StepOutput]
    ) -> StepOutput:
        """Run a step, and cache its result if possible. Raises StepFailed."""
        try:
            was_full = self._full
            try:
                return self._run_in(step, parts, first, needs)
            except (BurnishError, OSError):
                if was_full or not self._full:
                    raise
            # The cache's disk is full: there may be room where the artifacts go.
            return self._run_in(step, parts, first, self._verified_needs(step))
        except BurnishError as error:
            raise StepFailed(step.name, error) from error
        except OSError as error:
            cause = BurnishError(f"cannot write {step.name}: {error.strerror}")
            raise StepFailed(step.name, cause) from error

    def _run_in(
        self, step: Step, parts: Parts, first: str, needs: Mapping[str, StepOutput]
    ) -> StepOutput:
        with self._places.take(step.alone), self._folder() as folder:
            self._check_stopped()
            self.progress(step.description)
            with watched(self.progress, step.description, timed=step.alone) as line:
                step_run = self._work(step, folder, needs, line)
            self.parts[step.name] = {**parts, **step_run.read}
            (folder / RESULT).write_bytes(TypeAdapter(step.result).dump_json(step_run.result))
            describe(folder, step, self.recipe)
            entry = self._keep(step, first, step_run, folder)
            self._verified.add(entry.files)
            return output_of(step, entry)

    def _keep(self, step: Step, first: str, step_run: StepRun, folder: Path) -> Entry:
        """Seal a finished folder; if it lies in the cache, give it its name there."""
        entry = seal(folder)
        if self.cache is None or not folder.is_relative_to(self.cache.folder):
            return entry
        if step_run.disturbed:
            self._uncached.append(folder)
            changed = ", ".join(step_run.disturbed[:3])
            self._warn(f"{step.name} is not cached: {changed} changed while it ran")
            return entry
        with self._lock:
            cached = self.cache.put(first, step_run.read, folder)
        if cached.folder == folder:  # another build is using the entry of that name
            self._uncached.append(folder)
        return cached

    def _check_room(self, folder: Path) -> None:
        """After a failure, stop using a cache that was removed or whose disk is full."""
        if self.cache is None or self._full or not folder.is_relative_to(self.cache.folder):
            return
        is_gone = not folder.is_dir()
        is_full = not is_gone and (
            shutil.disk_usage(folder).free < _MIN_FREE_BYTES or not has_inodes(folder)
        )
        if is_gone or is_full:
            self._full = True
            cache = self.cache.folder
            why = f"{cache} was removed" if is_gone else f"the disk of {cache} is full"
            self._warn(f"no results are cached for the next build: {why}")

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """Create a folder for a step, in the cache if that can be written; remove it on failure."""
        folder = None
        if self.cache is not None and not self._full:
            try:
                folder = self.cache.scratch()
            except OSError as error:
                why = f"{self.cache.folder}: {error.strerror}"
                self._warn_once(f"no results are cached for the next build: {why}")
        if folder is None:
            (self.work / "steps").mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=self.work / "steps"))
        try:
            (folder / FILES).mkdir()
            yield folder
        except BaseException:
            self._check_room(folder)
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _warn_once(self, message: str) -> None:
        if message not in self.notes:
            self._warn(message)

    def _work(
        self, step: Step, folder: Path, needs: Mapping[str, StepOutput], line: Line
    ) -> StepRun:
        """Run a step with the worker, and record its duration."""
        clock = stopwatch()
        try:
            step_run = self.worker.run(step, needs, folder / FILES, line)
            with self._lock:
                self.overhead += clock() - step_run.seconds
            return step_run
        finally:
            self.seconds[step.name] = clock()

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise BurnishError("the build was interrupted")

    def stop(self) -> None:
        """Kill every running step, and start no more, after an interrupt."""
        self._stopped.set()
        self.worker.stop()


def output_of(step: Step, entry: Entry) -> StepOutput:
    """Return the output of a step from its entry."""
    result: Any = TypeAdapter(step.result).validate_json(entry.result())
    return StepOutput(entry.files, result, entry.digest)
