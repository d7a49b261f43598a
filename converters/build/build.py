"""Run a plan: make every artifact, prove it, write build.json. A failure stops no others."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from converters.build.folders import (
    check_names,
    check_replaceable,
    lock_notes,
    output_folder,
    remove_changed_models,
)
from converters.build.make import Maker
from converters.build.options import DEFAULTS, BuildOptions
from converters.build.prove import Prover
from converters.build.publish import Publisher
from converters.build.verdicts import cached_verdicts_note
from converters.plan.plan import Plan, source_of
from converters.plan.step_graph import StepGraph
from converters.plan.work import LOAD, LoadedFacts
from converters.sources.load import code_notes
from converters.steps.cache import CACHE_LIMIT, StepCache
from converters.steps.dependencies import unseen_note
from converters.steps.runner import Runner, StepFailed
from converters.steps.workers.local import LocalWorker
from runtimes.errors import BurnishError, Unavailable, UsageError
from runtimes.files.atomic import write_atomically
from runtimes.files.layout import BUILD_FILE, BUILD_SIGNATURE, CHANGED, LOGS, STEPS_FILE
from runtimes.machine import machine
from runtimes.process.process import stopwatch
from runtimes.progress import Tell, watched
from runtimes.results import Build, Row
from runtimes.validator.defaults import BUDGET_SECONDS

__all__ = ["DEFAULTS", "BuildOptions", "build", "steps_runner"]


def steps_runner(
    plan: Plan,
    graph: StepGraph,
    output: Path,
    options: BuildOptions,
    progress: Tell,
    scratch: Path | None = None,
) -> Runner:
    """Return the runner of a plan's steps.

    Logs go to `output`, results that cannot be cached to `scratch` (by default `output`).
    """
    logs, scratch = output / LOGS, scratch or output
    logs.mkdir(parents=True, exist_ok=True)
    # The output folder as a whole is an input: a recipe and its code may lie in it.
    ignored = [output / CHANGED]
    if scratch != output:
        ignored.append(scratch)
    outputs = [logs, *map(output.joinpath, plan.artifact_names)]
    cache, notes = None, lock_notes(output)
    if options.cache:
        cache = StepCache(machine.cache_folder() / "steps", plan.folder, CACHE_LIMIT)
        ignored.append(cache.folder.parent)
        if problem := cache.problem():
            notes.append(f"no results are cached: {cache.folder}: {problem}")
            cache = None
    worker = LocalWorker(
        home=plan.folder,
        logs=logs,
        command=_reproduce_command(plan),
        ignored=tuple(ignored),
        outputs=tuple(outputs),
        limits=options.limits,
        progress=progress,
        preloads="converters.build._preload",
    )
    return Runner(
        steps=graph.by_name,
        recipe=plan.name,
        worker=worker,
        work=scratch,
        cache=cache,
        jobs=options.most_jobs,
        progress=progress,
        fresh=options.fresh,
        notes=notes,
    )


def _reproduce_command(plan: Plan) -> tuple[str, ...]:
    """Return the command that runs one step of a plan again; the step's name is appended."""
    command = [sys.executable, "-m", "converters.build.again", str(plan.document.path.resolve())]
    for setting in plan.settings:
        command += ["--set", setting]
    return tuple(command)


def build(
    plan: Plan,
    output: Path,
    devices: Sequence[str] = (),
    budget: float = BUDGET_SECONDS,
    progress: Tell = lambda message: None,
    options: BuildOptions = DEFAULTS,
) -> Build:
    """Build and prove every artifact of a recipe.

    Args:
        plan: a checked recipe.
        output: folder of the build; artifacts in it are replaced one by one.
        devices: instead of the recipe's.
        budget: seconds of timing per artifact; 0 leaves speed unmeasured.
        progress: is called with messages, from any thread; a `Watcher` also gets counts.
        options: cache, jobs, limits.

    Returns:
        The verdicts; they are also in `output`/build.json.

    Raises:
        UsageError: the folder cannot be written, or the model cannot be loaded as the recipe says.
        BurnishError: loading the model ended in an error.
    """
    if not find_spec("torch"):
        raise Unavailable("converting needs PyTorch: pip install 'burnish[convert]'")
    output = output.resolve()  # the user's factory may change the working directory
    check_names(output, plan.folder)
    check_replaceable(plan, output)
    graph = StepGraph.of(plan, source_of(plan))
    with output_folder(output) as scratch:
        runner = steps_runner(plan, graph, output, options, progress, scratch)
        job = _BuildRun(plan, graph, runner, output, scratch)
        try:
            return job.run(tuple(devices) or plan.recipe.devices, budget)
        except (KeyboardInterrupt, SystemExit):
            runner.stop()
            raise
        finally:
            runner.close()


@dataclass(frozen=True)
class _BuildRun:
    """One build: its plan, its steps, and its folders."""

    plan: Plan
    graph: StepGraph
    runner: Runner
    output: Path
    scratch: Path

    def run(self, devices: Sequence[str], budget: float) -> Build:
        """Load the model, make the artifacts, prove them, record the result."""
        total = stopwatch()
        with (
            watched(self.runner.progress, "artifacts", overall=True) as line,
            line.task("done", len(self.plan.artifacts)) as advance,
        ):
            loaded = self._load()
            maker = self._maker(loaded)
            outcomes = maker.make_all(advance)
        models = {chain.model.key for chain in self.graph.chains.values()}
        remove_changed_models(self.output, keep=models)
        clock = stopwatch()
        prover = Prover(self.plan, self.graph, self.runner, maker, loaded.facts, devices, budget)
        rows = prover.prove(outcomes)
        durations = {"validate": clock(), "isolation": self.runner.overhead, "total": total()}
        if (startup := self.runner.worker.startup_seconds) is not None:
            durations["server"] = startup
        return self._record(loaded, rows, durations)

    def _load(self) -> LoadedFacts:
        """Load the model, and check the recipe against it."""
        try:
            loaded: LoadedFacts = self.runner.output(LOAD).result
        except StepFailed as error:
            raise error.error from error
        _check_budgets(self.plan, loaded.labelled)
        return loaded

    def _maker(self, loaded: LoadedFacts) -> Maker:
        """Return the maker of the artifacts, after publishing the reference."""
        for name in (BUILD_FILE, BUILD_SIGNATURE):  # which are of the build before
            (self.output / name).unlink(missing_ok=True)
        publisher = Publisher(self.plan, self.output, self.scratch, self.runner, loaded)
        # Before the first artifact, so that finished artifacts can be judged whatever happens then.
        publisher.publish_reference(LOAD, self.output)
        return Maker(self.plan, self.graph, self.runner, publisher, self.output, self.scratch)

    def _record(
        self, loaded: LoadedFacts, rows: list[Row], durations: Mapping[str, float]
    ) -> Build:
        """Write build.json and steps.json. Raises BurnishError if they cannot be written."""
        plan, runner = self.plan, self.runner
        seconds = {**runner.seconds, **durations}
        result = Build(
            recipe={
                "name": plan.name,
                **plan.recipe.model_dump(mode="json", exclude_defaults=True),
            },
            model=plan.recipe.model,
            weights=loaded.weights,
            machine=machine.describe(),
            artifacts=rows,
            notes=[
                *code_notes(self.graph.source),
                *loaded.notes,
                *runner.notes,
                *unseen_note(name for parts in runner.parts.values() for name in parts),
                *cached_verdicts_note(rows),
            ],
            seconds={name: round(value, 3) for name, value in seconds.items()},
            burnish=machine.burnish_version(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        parts = json.dumps(runner.parts, indent=1, sort_keys=True) + "\n"
        try:
            write_atomically(self.output / STEPS_FILE, parts)
            result.write(self.output / BUILD_FILE)
        except OSError as error:
            file = self.output / BUILD_FILE
            raise BurnishError(f"cannot write {file}: {error.strerror}") from error
        return result


def _check_budgets(plan: Plan, labelled: bool) -> None:
    """Raise UsageError if a budget is one of accuracy on labels, but no sample has a label."""
    if labelled:
        return
    for artifact in plan.artifacts:
        quantize = artifact.options.quantize
        if quantize and quantize.max_drop and quantize.metric == "top1":
            raise UsageError(
                f"artifacts.{artifact.name}: metric: top1 is accuracy on labels, and the samples "
                "of data.evaluation have no labels: add them, or use metric: agreement"
            )
