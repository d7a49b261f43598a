"""Run a plan: make every artifact, prove it, write build.json. One failure never stops the others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import psutil

from converters import again
from converters.folders import foreign, forget_models, output_folder
from converters.plan import Steps
from converters.publish import CHANGED, Press
from converters.recipe import Artifact, Plan
from converters.runner import IDLE_SECONDS, Place, Runner, StepFailed
from converters.sources.load import Source, code_notes
from converters.step_cache import LIMIT, StepCache
from converters.steps import LOAD, EagerFromState, LoadedFacts
from converters.verdicts import Verdicts, conditions, judged_before
from runtimes import machine
from runtimes.artifact import Artifact as Built
from runtimes.errors import BurnishError, Unavailable, UsageError
from runtimes.process import Limits, stopwatch
from runtimes.progress import Advance, Tell, watched
from runtimes.results import Build, Row, Status, write_atomically
from runtimes.session import unavailable
from runtimes.usage import memory_bytes
from runtimes.validator.defaults import BUDGET_SECONDS
from runtimes.validator.reference import FILE as REFERENCE
from runtimes.validator.reference import Reference
from runtimes.validator.validate import Target, default_options, validate

__all__ = ["CHANGED", "BuildOptions", "build", "devices_of", "source_of", "steps_runner"]
STEPS = "steps.json"
"""File of a build that tells what each of its steps depended on; `--explain` compares with it."""
_MEMORY_SHARE = 0.9  # of this machine's memory that one step may take, so that the kernel need not choose
_JOB_BYTES = 4 << 30  # of free memory for each step beside another: ViT-B/16 is exported in three


@dataclass(frozen=True)
class BuildOptions:
    """How a build is run; what is made is the recipe's.

    Attributes:
        cache: whether results of steps, and verdicts, are taken from earlier builds and kept for later ones.
        fresh: whether all is made and judged anew, and kept.
        jobs: steps side by side; None for what cores and memory allow.
        memory: bytes that a step may take; None for most of this machine's.
        idle: seconds without any progress after which a step is stopped.
    """

    cache: bool = False
    fresh: bool = False
    jobs: int | None = None
    memory: int | None = None
    idle: float = IDLE_SECONDS

    @property
    def most_jobs(self) -> int:
        """As asked, or what cores and memory allow."""
        if self.jobs is not None:
            return self.jobs
        return max(1, min(len(machine.cores()), psutil.virtual_memory().available // _JOB_BYTES))

    @property
    def limits(self) -> Limits:
        """Of each step."""
        return Limits(self.idle, self.memory or int(_MEMORY_SHARE * memory_bytes()))


DEFAULTS = BuildOptions()


def source_of(plan: Plan) -> Source:
    """What the model of a recipe is loaded from."""
    recipe = plan.recipe
    where = str(plan.document.mark(("model",)))
    return Source(
        recipe.model, recipe.args, recipe.weights, plan.folder, where, recipe.inputs, recipe.dims, recipe.trust
    )


def devices_of(artifact: Artifact, asked: Sequence[str]) -> list[str]:
    """The devices an artifact is judged on: those asked for that it can run on, else its first one."""
    own = artifact.exporter.runs_on(artifact.options)
    return [device for device in asked if device in own] or [own[0]]


def steps_runner(
    plan: Plan, source: Source, output: Path, options: BuildOptions, progress: Tell, work: Path | None = None
) -> Runner:
    """What makes the steps of a plan; logs go to `output`, what cannot be kept to `work`."""
    (output / "logs").mkdir(parents=True, exist_ok=True)
    cache = StepCache(machine.cache_folder() / "steps", plan.folder, LIMIT) if options.cache else None
    logs, scratch = output / "logs", work or output
    own = (logs, scratch, output / CHANGED, *(output / one.name for one in plan.artifacts))
    place = Place(plan.folder, scratch, logs, again.command(plan.document.path, plan.settings), own)
    steps = Steps.of(plan, source)
    return Runner(steps, place, cache, options.most_jobs, options.limits, progress, fresh=options.fresh)


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
        progress: told what is being done, from any thread; a `Watcher` also how far it is.
        options: cache, jobs, limits.

    Returns:
        What was found; it is also in `output`/build.json.

    Raises:
        UsageError: the folder cannot be written, or the model cannot be loaded as the recipe says.
        BurnishError: loading the model ended in an error.
    """
    if not find_spec("torch"):
        raise Unavailable("converting needs PyTorch: pip install 'burnish[convert]'")
    output = output.resolve()  # the user's factory may change the working folder
    foreign(plan, output)
    with output_folder(output) as work:
        runner = steps_runner(plan, source_of(plan), output, options, progress, work)
        try:
            return _Run(plan, output, work, tuple(devices) or plan.recipe.devices, budget, runner).run()
        except (KeyboardInterrupt, SystemExit):
            runner.stop()
            raise
        finally:
            runner.close()


@dataclass
class _Run:
    """One build on its way."""

    plan: Plan
    output: Path
    work: Path
    devices: tuple[str, ...]
    budget: float
    runner: Runner
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self) -> Build:
        total = stopwatch()
        with (
            watched(self.runner.progress, "artifacts", overall=True) as line,
            line.task("done", len(self.plan.artifacts)) as advance,
        ):
            self._load()
            outcomes = self._make(advance)
        forget_models(self.output, {chain.model.key for chain in self.runner.steps.chains.values()})
        rows = self._prove(outcomes)
        self.seconds |= {"isolation": self.runner.overhead, "total": total()}
        result = Build(
            recipe={
                "name": self.plan.name,
                **self.plan.recipe.model_dump(mode="json", exclude_defaults=True),
            },
            model=self.plan.recipe.model,
            weights=self.loaded.weights,
            machine=machine.describe(),
            artifacts=rows,
            notes=[
                *code_notes(self.runner.steps.source),
                *self.loaded.notes,
                *self.runner.notes,
                *judged_before(rows),
            ],
            seconds={name: round(value, 3) for name, value in {**self.runner.seconds, **self.seconds}.items()},
            burnish=machine.burnish_version(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        try:
            write_atomically(self.output / STEPS, json.dumps(self.runner.parts, indent=1, sort_keys=True) + "\n")
            result.write(self.output / "build.json")
        except OSError as error:
            raise BurnishError(f"cannot write {self.output / 'build.json'}: {error.strerror}") from error
        return result

    def _load(self) -> None:
        """Load the model, and put its reference in its place."""
        try:
            self.loaded: LoadedFacts = self.runner.made(LOAD).result
        except StepFailed as error:
            raise error.error from error
        _check_budgets(self.plan, self.loaded.labelled)
        (self.output / "build.json").unlink(missing_ok=True)
        self.press = Press(self.plan, self.output, self.work, self.runner, self.loaded)
        # Before the first artifact, so that each one that is finished can be judged, whatever comes then.
        self.press.reference(LOAD, self.output)

    def _make(self, advance: Advance) -> dict[str, Built | Row]:
        """Every artifact, in its place; a row where that did not work."""

        def make(artifact: Artifact) -> Built | Row:
            outcome = self._artifact(artifact, self.output)
            advance(1)
            return outcome

        with ThreadPoolExecutor(len(self.plan.artifacts)) as pool:
            try:
                made = {one.name: pool.submit(make, one) for one in self.plan.artifacts}
                return {name: future.result() for name, future in made.items()}
            except BaseException:  # Ctrl-C, too
                self.runner.stop()
                raise

    def _artifact(self, artifact: Artifact, place: Path) -> Built | Row:
        """One artifact, put in its place; a row where that did not work."""
        row = Row(name=artifact.name, format=artifact.exporter.format, device="", status=Status.ERROR,
                  precision=artifact.options.asked_precision)  # fmt: skip
        if missing := artifact.exporter.missing(artifact.options):
            return row.model_copy(update={"status": Status.SKIPPED, "reason": missing})
        chain = self.runner.steps.chains[artifact.name]
        try:
            self.runner.made(chain.export)
            return self.press.publish(artifact, chain, place / artifact.name)
        except StepFailed as error:
            waits = "" if error.step == chain.export else f"waits for the step {error.step!r}, which failed: "
            return row.model_copy(update={"reason": f"{waits}{error}"})
        except BurnishError as error:
            return row.model_copy(update={"reason": str(error)})
        except OSError as error:
            return row.model_copy(update={"reason": f"cannot write {artifact.name}: {_why(error)}"})

    def _prove(self, outcomes: dict[str, Built | Row]) -> list[Row]:
        """Rows in the recipe's order: of what was built by the validator, of the rest as it ended."""
        clock = stopwatch()
        by_name = {artifact.name: artifact for artifact in self.plan.artifacts}
        targets = [
            Target(built, device, self._parent(by_name[name], device, outcomes), self._own_reference(by_name[name]))
            for name, built in outcomes.items()
            if isinstance(built, Built)
            for device in devices_of(by_name[name], self.devices)
        ]
        judged = {(row.name, row.device): row for row in self._judged(targets)}
        self.seconds["validate"] = clock()
        return [
            judged.get((name, device)) or _unbuilt(outcome, device)
            for name, outcome in outcomes.items()
            for device in devices_of(by_name[name], self.devices)
        ]

    def _judged(self, targets: Sequence[Target]) -> list[Row]:
        """The validator's rows, or those of an earlier build where nothing has changed since."""
        kept: dict[int, Row] = {}
        verdicts = None
        if self.runner.cache is not None:
            now = conditions(self.budget, self.runner.made(LOAD).digest, self.output / REFERENCE)
            verdicts = Verdicts(machine.cache_folder() / "verdicts", now)
            found = {index: verdicts.get(one) for index, one in enumerate(targets) if not self.runner.fresh}
            kept = {index: row for index, row in found.items() if row is not None}
        rest = [one for index, one in enumerate(targets) if index not in kept]
        rows = iter(self._validated(rest) if rest else ())
        done = [kept.get(index) or next(rows) for index in range(len(targets))]
        for target, row in zip(targets, done, strict=True):
            if verdicts is not None:
                verdicts.put(target, row)
        return done

    def _validated(self, targets: Sequence[Target]) -> list[Row]:
        loaded = self.runner.whole(LOAD)
        source = self.runner.steps.source

        def eager(device: str) -> EagerFromState:
            return EagerFromState(source, self.loaded.facts, loaded.folder, device, default_options())

        log = self.output / "logs" / "validate.log"
        log.unlink(missing_ok=True)
        reference, progress = Reference.load(self.output / REFERENCE), self.runner.progress
        # Trusted: they were made a moment ago, whether or not that could be noted in the user's folder.
        return validate(targets, reference, eager, budget=self.budget, log=log, progress=progress, trust=True)

    def _own_reference(self, artifact: Artifact) -> Reference | None:
        """The reference of the model that the artifact was exported from, where passes changed it."""
        model = self.runner.steps.chains[artifact.name].model
        return Reference.load(self.output / CHANGED / model.key / REFERENCE) if model.key else None

    def _parent(self, artifact: Artifact, device: str, outcomes: Mapping[str, Built | Row]) -> Built | None:
        """The artifact without its passes: the recipe's own, where it has such a one, else one made to be timed."""
        built = outcomes[artifact.name]
        assert isinstance(built, Built)  # what was not built is not judged
        if not artifact.options.passes:
            return None
        if twin := _without_passes(artifact, self.plan.artifacts):
            made = outcomes[twin.name]
        elif not self.budget or unavailable(built, device):
            return None
        else:
            plain = artifact.options.model_copy(update={"passes": (), "format": artifact.exporter.format})
            other = replace(artifact, name=f"{artifact.name}-float", options=plain)
            self.runner.steps.chain(other)
            made = self._artifact(other, self.work / "parents")
        return made if isinstance(made, Built) else None


def _check_budgets(plan: Plan, labelled: bool) -> None:
    """Raise UsageError where a budget is one of accuracy on labels, and no sample has brought one along."""
    for artifact in plan.artifacts:
        quantize = artifact.options.quantize
        if quantize and quantize.max_drop and quantize.metric == "top1" and not labelled:
            raise UsageError(
                f"artifacts.{artifact.name}: metric: top1 is accuracy on labels, and the samples of "
                "data.evaluation have none: add them, or use metric: agreement"
            )


def _why(error: OSError) -> str:
    """In the system's words; where several files could not be copied, those for the first."""
    return str(error.args[0][0][-1]) if isinstance(error, shutil.Error) else error.strerror or str(error)


def _without_passes(artifact: Artifact, others: Sequence[Artifact]) -> Artifact | None:
    """The artifact of the recipe that has the same options but no passes."""
    unlike = {"passes": (), "gates": None}
    wanted = artifact.options.model_copy(update=unlike)
    return next((one for one in others if not one.options.passes and
                 one.options.model_copy(update=unlike) == wanted), None)  # fmt: skip


def _unbuilt(outcome: Built | Row, device: str) -> Row:
    assert isinstance(outcome, Row)  # what was built has been judged
    return outcome.model_copy(update={"device": device})
