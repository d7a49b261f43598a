"""Run a plan: make every artifact, prove it, write build.json. One failure never stops the others."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from converters.build.folders import foreign, forget_models, output_folder
from converters.build.make import Maker
from converters.build.options import DEFAULTS, BuildOptions
from converters.build.prove import Prover
from converters.build.publish import Press
from converters.build.verdicts import judged_before
from converters.plan.plan import Plan, source_of
from converters.plan.step_graph import StepGraph
from converters.plan.work import LOAD, LoadedFacts
from converters.sources.load import code_notes
from converters.steps.cache import CACHE_LIMIT, StepCache
from converters.steps.runner import Runner, StepFailed
from converters.steps.workers.local import LocalWorker
from runtimes.errors import BurnishError, Unavailable, UsageError
from runtimes.files.atomic import write_atomically
from runtimes.files.layout import BUILD_FILE, CHANGED, LOGS, STEPS_FILE
from runtimes.machine import machine
from runtimes.process.process import stopwatch
from runtimes.progress import Tell, watched
from runtimes.results import Build, Row
from runtimes.validator.defaults import BUDGET_SECONDS

__all__ = ["DEFAULTS", "BuildOptions", "build", "steps_runner"]


def steps_runner(
    plan: Plan, graph: StepGraph, output: Path, options: BuildOptions, progress: Tell, work: Path | None = None
) -> Runner:
    """The runner of a plan's steps; logs go to `output`, what cannot be kept to `work`."""
    logs, scratch = output / LOGS, work or output
    logs.mkdir(parents=True, exist_ok=True)
    cache = StepCache(machine.cache_folder() / "steps", plan.folder, CACHE_LIMIT) if options.cache else None
    # The output folder as a whole is an input: a recipe and its code may lie in it.
    written = (logs, scratch, output / CHANGED, *(output / artifact.name for artifact in plan.artifacts))
    worker = LocalWorker(
        home=plan.folder,
        logs=logs,
        again=_again(plan),
        ignored=(*written, *([cache.folder.parent] if cache else [])),
        limits=options.limits,
        progress=progress,
        preloads="converters.build._preload",
    )
    return Runner(graph.by_name, plan.name, worker, scratch, cache, options.most_jobs, progress, options.fresh)


def _again(plan: Plan) -> tuple[str, ...]:
    """The command that runs one step of a plan again; the step's name is appended."""
    settings = [part for setting in plan.settings for part in ("--set", setting)]
    return (sys.executable, "-m", "converters.build.again", str(plan.document.path.resolve()), *settings)


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
        output: folder of the build; artifacts that it holds already are replaced one by one.
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
    output = output.resolve()  # the user's factory may change the working folder
    foreign(plan, output)
    graph = StepGraph.of(plan, source_of(plan))
    with output_folder(output) as work:
        runner = steps_runner(plan, graph, output, options, progress, work)
        try:
            return _build(plan, graph, runner, output, work, tuple(devices) or plan.recipe.devices, budget)
        except (KeyboardInterrupt, SystemExit):
            runner.stop()
            raise
        finally:
            runner.close()


def _build(
    plan: Plan, graph: StepGraph, runner: Runner, output: Path, work: Path, devices: Sequence[str], budget: float
) -> Build:
    """Load the model, make the artifacts, prove them, record the result."""
    total = stopwatch()
    with (
        watched(runner.progress, "artifacts", overall=True) as line,
        line.task("done", len(plan.artifacts)) as advance,
    ):
        loaded = _load(runner)
        _check_budgets(plan, loaded.labelled)
        (output / BUILD_FILE).unlink(missing_ok=True)
        press = Press(plan, output, work, runner, loaded)
        # Before the first artifact, so that each one that is finished can be judged, whatever comes then.
        press.reference(LOAD, output)
        maker = Maker(plan, graph, runner, press, output, work)
        outcomes = maker.make_all(advance)
    forget_models(output, {chain.model.key for chain in graph.chains.values()})
    clock = stopwatch()
    rows = Prover(plan, graph, runner, maker, loaded.facts, devices, budget).prove(outcomes)
    durations = {"validate": clock(), "isolation": runner.overhead, "total": total()}
    if (startup := runner.worker.startup_seconds) is not None:
        durations["server"] = startup
    return _record(plan, graph, runner, loaded, rows, durations, output)


def _load(runner: Runner) -> LoadedFacts:
    try:
        loaded: LoadedFacts = runner.made(LOAD).result
    except StepFailed as error:
        raise error.error from error
    return loaded


def _record(
    plan: Plan,
    graph: StepGraph,
    runner: Runner,
    loaded: LoadedFacts,
    rows: list[Row],
    durations: Mapping[str, float],
    output: Path,
) -> Build:
    """Write build.json and steps.json. Raises BurnishError if they cannot be written."""
    result = Build(
        recipe={"name": plan.name, **plan.recipe.model_dump(mode="json", exclude_defaults=True)},
        model=plan.recipe.model,
        weights=loaded.weights,
        machine=machine.describe(),
        artifacts=rows,
        notes=[*code_notes(graph.source), *loaded.notes, *runner.notes, *judged_before(rows)],
        seconds={name: round(value, 3) for name, value in {**runner.seconds, **durations}.items()},
        burnish=machine.burnish_version(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    try:
        write_atomically(output / STEPS_FILE, json.dumps(runner.parts, indent=1, sort_keys=True) + "\n")
        result.write(output / BUILD_FILE)
    except OSError as error:
        raise BurnishError(f"cannot write {output / BUILD_FILE}: {error.strerror}") from error
    return result


def _check_budgets(plan: Plan, labelled: bool) -> None:
    """Raise UsageError if a budget is one of accuracy on labels, and no sample has brought one along."""
    for artifact in plan.artifacts:
        quantize = artifact.options.quantize
        if quantize and quantize.max_drop and quantize.metric == "top1" and not labelled:
            raise UsageError(
                f"artifacts.{artifact.name}: metric: top1 is accuracy on labels, and the samples of "
                "data.evaluation have none: add them, or use metric: agreement"
            )
