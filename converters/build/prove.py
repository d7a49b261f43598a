"""Prove the artifacts of a build: verdicts from the validator, or kept ones if nothing has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from converters.build.make import Maker, Outcome
from converters.build.verdicts import Verdicts, conditions
from converters.models.facts import ModelFacts
from converters.plan.plan import ArtifactPlan, Plan
from converters.plan.step_graph import StepGraph
from converters.plan.work import LOAD
from converters.sources.restore import EagerFromState
from converters.steps.runner import Runner
from runtimes.artifact.artifact import Artifact
from runtimes.files.layout import CHANGED, LOGS, REFERENCE_FILE
from runtimes.machine import machine
from runtimes.results import Row
from runtimes.session import unavailable
from runtimes.validator.reference import Reference
from runtimes.validator.validate import Target, default_options, validate


@dataclass(frozen=True)
class Prover:
    """Proves the artifacts of one build.

    Attributes:
        plan, graph, runner, maker: of the build.
        facts: of the model as it was loaded.
        devices: those asked for.
        budget: seconds of timing per artifact; 0 leaves speed unmeasured.
    """

    plan: Plan
    graph: StepGraph
    runner: Runner
    maker: Maker
    facts: ModelFacts
    devices: Sequence[str]
    budget: float

    @property
    def output(self) -> Path:
        """Folder of the build."""
        return self.maker.output

    def prove(self, outcomes: Mapping[str, Outcome]) -> list[Row]:
        """Rows in the recipe's order: the validator's if an artifact was built, else its outcome."""
        placed = [
            (artifact, device) for artifact in self.plan.artifacts for device in devices_of(artifact, self.devices)
        ]
        targets = [
            self._target(built, artifact, device, outcomes)
            for artifact, device in placed
            if isinstance(built := outcomes[artifact.name], Artifact)
        ]
        judged = {(row.name, row.device): row for row in self._judged(targets)}
        return [
            judged.get((artifact.name, device)) or _unbuilt(outcomes[artifact.name], device)
            for artifact, device in placed
        ]

    def _target(
        self, built: Artifact, artifact: ArtifactPlan, device: str, outcomes: Mapping[str, Outcome]
    ) -> Target:
        parent = self._parent(built, artifact, device, outcomes)
        return Target(built, device, parent, self._own_reference(artifact))

    def _judged(self, targets: Sequence[Target]) -> list[Row]:
        """The validator's rows, or those of an earlier build if nothing has changed since."""
        if self.runner.cache is None:
            return self._validated(targets)
        reference = self.output / REFERENCE_FILE
        now = conditions(self.budget, self.runner.made(LOAD).digest, reference)
        verdicts = Verdicts(machine.cache_folder() / "verdicts", now)
        kept = [None if self.runner.fresh else verdicts.get(target) for target in targets]
        new = iter(self._validated([target for target, row in zip(targets, kept, strict=True) if row is None]))
        rows = [row or next(new) for row in kept]
        for target, row in zip(targets, rows, strict=True):
            verdicts.put(target, row)
        return rows

    def _validated(self, targets: Sequence[Target]) -> list[Row]:
        if not targets:
            return []
        loaded = self.runner.whole(LOAD)

        def eager(device: str) -> EagerFromState:
            return EagerFromState(self.graph.source, self.facts, loaded.folder, device, default_options())

        log = self.output / LOGS / "validate.log"
        log.unlink(missing_ok=True)
        # Trusted: they were made a moment ago, whether or not that could be noted in the user's folder.
        return validate(
            targets,
            Reference.load(self.output / REFERENCE_FILE),
            eager,
            budget=self.budget,
            log=log,
            progress=self.runner.progress,
            trust=True,
        )

    def _own_reference(self, artifact: ArtifactPlan) -> Reference | None:
        """The reference of the model that the artifact was exported from, if passes changed it."""
        model = self.graph.chains[artifact.name].model
        return Reference.load(self.output / CHANGED / model.key / REFERENCE_FILE) if model.key else None

    def _parent(
        self, built: Artifact, artifact: ArtifactPlan, device: str, outcomes: Mapping[str, Outcome]
    ) -> Artifact | None:
        """The artifact without its passes: the recipe's own, if it has such a one, else one made to be timed."""
        if not artifact.options.passes:
            return None
        if twin := _without_passes(artifact, self.plan.artifacts):
            outcome = outcomes[twin.name]
        elif not self.budget or unavailable(built, device):
            return None
        else:
            plain = artifact.options.model_copy(update={"passes": (), "format": artifact.exporter.format})
            outcome = self.maker.make_parent(replace(artifact, name=f"{artifact.name}-float", options=plain))
        return outcome if isinstance(outcome, Artifact) else None


def devices_of(artifact: ArtifactPlan, requested: Sequence[str]) -> list[str]:
    """The devices an artifact is judged on: those requested that it can run on, else its first one."""
    able = artifact.exporter.runs_on(artifact.options)
    return [device for device in requested if device in able] or [able[0]]


def _without_passes(artifact: ArtifactPlan, others: Sequence[ArtifactPlan]) -> ArtifactPlan | None:
    """The artifact of the recipe that has the same options but no passes."""
    neutral = {"passes": (), "gates": None}
    wanted = artifact.options.model_copy(update=neutral)
    for other in others:
        if not other.options.passes and other.options.model_copy(update=neutral) == wanted:
            return other
    return None


def _unbuilt(outcome: Outcome, device: str) -> Row:
    assert isinstance(outcome, Row)  # what was built has been judged
    return outcome.model_copy(update={"device": device})
