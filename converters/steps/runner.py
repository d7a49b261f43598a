"""Makes the steps of a build: each once, from the cache or in a process of its own, several side by side."""

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

from pydantic import TypeAdapter

from converters.steps.cache import DIGESTS, FILES, RESULT, Entry, StepCache, seal
from converters.steps.child import Done, describe
from converters.steps.key import Parts, first_key, parts
from converters.steps.step import Made, Step
from converters.steps.workers.worker import Worker
from runtimes.errors import BurnishError
from runtimes.process.process import stopwatch
from runtimes.progress import Line, Tell, watched

_ROOM = 1 << 20
"""Bytes: a disk with less is full, whatever could not be written."""


class StepFailed(BurnishError):
    """A step ended in an error. What needs its result gets the same: `step` tells which one it waits for."""

    def __init__(self, step: str, error: BurnishError) -> None:
        super().__init__(str(error))
        self.step, self.error = step, error


@dataclass
class Runner:
    """Makes the steps of one build.

    Attributes:
        steps: by name; more may be added while the build runs.
        recipe: name of the recipe, for the description beside a result.
        worker: runs a step.
        work: scratch folder, for what cannot be kept.
        cache: None where nothing is to be kept or found.
        jobs: number of steps that may run side by side.
        progress: is called with messages, from any thread; a `Watcher` also gets counts.
        fresh: whether nothing is taken from the cache.
        seconds: duration of each step; overhead: of these, the cost of processes of their own.
        parts: what each step depended on; notes: for the build's reader.
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
        self._slots, self._door = threading.Semaphore(self.jobs), threading.Lock()
        self._found: dict[str, Future[Made]] = {}
        self._whole: set[Path] = set()
        self._unkept: list[Path] = []
        self._full = False
        self._stopped = threading.Event()

    def made(self, name: str) -> Made:
        """What a step has made; it is made first where that must be. Waits where another thread does so.

        Raises BurnishError as the step did, each time that it is asked for.
        """
        with self._lock:
            future, mine = self._found.get(name), False
            if future is None:
                future, mine = Future(), True
                self._found[name] = future
        if mine:
            try:
                future.set_result(self._make(self.steps[name]))
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    def whole(self, name: str) -> Made:
        """As `made`, with files that are what they were when they were made."""
        made = self.made(name)
        with self._lock:
            if self.cache is None or (made.folder in self._whole and made.folder.is_dir()):
                return made
            if self._is_latest(name, made):  # else another thread has found the damage, and makes it anew
                if self.cache.check(Entry(made.folder.parent, made.digest), self._warn):
                    self._whole.add(made.folder)
                    return made
                del self._found[name]
        return self.whole(name)

    def _is_latest(self, name: str, made: Made) -> bool:
        future = self._found.get(name)
        return future is not None and future.done() and not future.exception() and future.result() is made

    def listed(self, name: str) -> dict[str, str]:
        """sha256 of the files that a step has made, by name."""
        listed = self.made(name).folder.parent / DIGESTS
        if not listed.is_file():  # somebody has removed it
            listed = self.whole(name).folder.parent / DIGESTS
        known = json.loads(listed.read_text(encoding="utf-8"))
        files = ((Path(path), digest) for path, digest in known.items())
        return {path.relative_to(FILES).as_posix(): digest for path, digest in files if path.parts[0] == FILES}

    def close(self) -> None:
        """Let go of the cache, and remove what is not kept in it."""
        for folder in self._unkept:
            shutil.rmtree(folder, ignore_errors=True)
        if self.cache is not None:
            self.cache.close()

    def _make(self, step: Step) -> Made:
        needs = {name: self.made(name) for name in step.needs}
        first = first_key(known := parts(step, needs))
        self.parts[step.name] = known
        if self.cache is None:
            return self._run(step, known, first, {name: self.whole(name) for name in step.needs})
        if found := self._kept(step, first):
            return found
        waits = partial(self.progress, f"waiting for another build, which is {step.what}")
        with self.cache.making(first, self._stopped.is_set, waits):
            if found := self._kept(step, first):  # by the build that was waited for
                return found
            whole = {name: self.whole(name) for name in step.needs}
            if any(whole[name].digest != needs[name].digest for name in step.needs):
                return self._make(step)  # what was damaged and made anew came out differently
            return self._run(step, known, first, whole)

    def _kept(self, step: Step, first: str) -> Made | None:
        assert self.cache is not None  # asked only then
        if self.fresh:
            return None
        with self._lock:
            entry, read = self.cache.find(first, self._warn)
        if entry is None:
            return None
        self.parts[step.name] = {**self.parts[step.name], **read}
        return _made(step, entry)

    def _warn(self, message: str) -> None:
        self.progress(message)
        self.notes.append(message)

    def _run(self, step: Step, known: Parts, first: str, needs: Mapping[str, Made]) -> Made:
        """Run a step; keep its result where that can be. Raises StepFailed."""
        try:
            full = self._full
            try:
                return self._run_in(step, known, first, needs)
            except (BurnishError, OSError):
                if full or not self._full:
                    raise
            # There is room where the artifacts go.
            return self._run_in(step, known, first, {name: self.whole(name) for name in step.needs})
        except BurnishError as error:
            raise StepFailed(step.name, error) from error
        except OSError as error:
            raise StepFailed(step.name, BurnishError(f"cannot write {step.name}: {error.strerror}")) from error

    def _run_in(self, step: Step, known: Parts, first: str, needs: Mapping[str, Made]) -> Made:
        with self._room(step), self._folder() as folder:
            self._check_stopped()
            self.progress(step.what)
            with watched(self.progress, step.what, timed=step.alone) as line:
                done = self._worked(step, folder, needs, line)
            self.parts[step.name] = {**known, **done.read}
            (folder / RESULT).write_bytes(TypeAdapter(step.result).dump_json(done.result))
            describe(folder, step, self.recipe)
            entry = self._keep(step, first, done, folder)
            self._whole.add(entry.files)
            return _made(step, entry)

    def _keep(self, step: Step, first: str, done: Done, folder: Path) -> Entry:
        """The finished folder, under its name in the cache where it was made there."""
        entry = seal(folder)
        if self.cache is None or not folder.is_relative_to(self.cache.folder):
            return entry
        if done.disturbed:
            self._unkept.append(folder)
            self._warn(f"{step.name} is not kept: {', '.join(done.disturbed[:3])} changed while it ran")
            return entry
        with self._lock:
            kept = self.cache.put(first, done.read, folder)
        if kept.folder == folder:  # another build is using what was kept under its name
            self._unkept.append(folder)
        return kept

    def _look_for_room(self, folder: Path) -> None:
        """Where a step failed and the cache is gone, or its disk has no room, nothing more is written to it."""
        if self.cache is None or self._full or not folder.is_relative_to(self.cache.folder):
            return
        gone = not folder.is_dir()
        if gone or shutil.disk_usage(folder).free < _ROOM:
            self._full = True
            why = f"{self.cache.folder} was removed" if gone else f"the disk of {self.cache.folder} is full"
            self._warn(f"nothing is kept for the next build: {why}")

    @contextmanager
    def _room(self, step: Step) -> Iterator[None]:
        """Wait until the step may run: beside `jobs` - 1 others, or alone."""
        places = self.jobs if step.alone else 1
        with self._door:  # in turn: two that each hold some places and wait for the rest would wait for ever
            for _ in range(places):
                self._slots.acquire()
        try:
            yield
        finally:
            self._slots.release(places)

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """A new folder for a step, in the cache where that can be written; removed where the step fails."""
        folder = None
        if self.cache is not None and not self._full:
            try:
                folder = self.cache.scratch()
            except OSError as error:
                self._warn_once(f"nothing is kept for the next build: {self.cache.folder}: {error.strerror}")
        if folder is None:
            (self.work / "steps").mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=self.work / "steps"))
        try:
            (folder / FILES).mkdir()
            yield folder
        except BaseException:
            self._look_for_room(folder)
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _warn_once(self, message: str) -> None:
        if message not in self.notes:
            self._warn(message)

    def _worked(self, step: Step, folder: Path, needs: Mapping[str, Made], line: Line) -> Done:
        clock = stopwatch()
        try:
            done = self.worker.run(step, needs, folder / FILES, line)
            with self._lock:
                self.overhead += clock() - done.seconds
            return done
        finally:
            self.seconds[step.name] = clock()

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise BurnishError("the build was interrupted")

    def stop(self) -> None:
        """Kill all that runs, and start nothing more. For whoever was interrupted."""
        self._stopped.set()
        self.worker.stop()


def _made(step: Step, entry: Entry) -> Made:
    return Made(entry.files, TypeAdapter(step.result).validate_json(entry.result()), entry.digest)
