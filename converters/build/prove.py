"""Prove the artifacts of a build: the validator's verdicts, or cached ones if nothing changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from converters.build.make import Maker, Outcome
from converters.build.verdicts import Verdicts, conditions
from converters.data.metric import opened
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
        devices: that were requested.
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
        """Return rows in the recipe's order: the verdict on a built artifact, or its outcome."""
        placed = []
        for artifact in self.plan.artifacts:
            for device in devices_of(artifact, self.devices):
                placed.append((artifact, device))
        targets = []
        for artifact, device in placed:
            outcome = outcomes[artifact.name]
            if isinstance(outcome, Artifact):
                targets.append(self._target(outcome, artifact, device, outcomes))
        judged = {(row.name, row.device): row for row in self._judge(targets)}
        rows = []
        for artifact, device in placed:
            row = judged.get((artifact.name, device))
            rows.append(row or _unbuilt_row(outcomes[artifact.name], device))
        return rows

    def _target(
        self, built: Artifact, artifact: ArtifactPlan, device: str, outcomes: Mapping[str, Outcome]
    ) -> Target:
        parent = self._parent(built, artifact, device, outcomes)
        return Target(built, device, parent, self._changed_reference(artifact))

    def _judge(self, targets: Sequence[Target]) -> list[Row]:
        """Return the validator's rows, or those of an earlier build if nothing changed since."""
        if self.runner.cache is None:
            return self._validate(targets)
        reference = self.output / REFERENCE_FILE
        eager = self.runner.output(LOAD).digest
        digests = [conditions(budget, eager, reference) for budget in (self.budget, 0.0)]
        verdicts = Verdicts(machine.cache_folder() / "verdicts", *digests)
        # Nothing shows whether the code of a user's metric has changed.
        fresh = self.runner.fresh or self.plan.recipe.metric is not None
        if not self.runner.fresh:
            targets = [replace(target, earlier=verdicts.earlier(target)) for target in targets]
        cached = [None if fresh else verdicts.get(target) for target in targets]
        pairs = list(zip(targets, cached, strict=True))
        new_rows = iter(self._validate([target for target, row in pairs if row is None]))
        rows = []
        for target, cached_row in pairs:
            row = cached_row or next(new_rows)
            verdicts.put(target, row)
            rows.append(row)
        return rows

    def _validate(self, targets: Sequence[Target]) -> list[Row]:
        if not targets:
            return []
        loaded = self.runner.verified_output(LOAD)

        def eager(device: str) -> EagerFromState:
            return EagerFromState(
                self.graph.source, self.facts, loaded.folder, device, default_options()
            )

        log = self.output / LOGS / "validate.log"
        log.unlink(missing_ok=True)
        # Trusted: they were made a moment ago, even if the user's folder could not record that.
        with opened(self.plan.recipe, self.plan.folder, log) as metric:
            return validate(
                [replace(target, metric=metric) for target in targets],
                Reference.load(self.output / REFERENCE_FILE),
                eager,
                budget=self.budget,
                log=log,
                progress=self.runner.progress,
                trust=True,
            )

    def _changed_reference(self, artifact: ArtifactPlan) -> Reference | None:
        """Return the reference of the artifact's model, if passes changed that model."""
        key = self.graph.chains[artifact.name].model.key
        return Reference.load(self.output / CHANGED / key / REFERENCE_FILE) if key else None

    def _parent(
        self, built: Artifact, artifact: ArtifactPlan, device: str, outcomes: Mapping[str, Outcome]
    ) -> Artifact | None:
        """Return the artifact without its passes: the recipe's, or one that is made to be timed."""
        if not artifact.options.passes:
            return None
        if twin := _without_passes(artifact, self.plan.artifacts):
            outcome = outcomes[twin.name]
        elif not self.budget or unavailable(built, device):
            return None
        else:
            without = {"passes": (), "format": artifact.exporter.format}
            options = artifact.options.model_copy(update=without)
            plain = replace(artifact, name=f"{artifact.name}-float", options=options)
            outcome = self.maker.make_parent(plain)
        return outcome if isinstance(outcome, Artifact) else None


def devices_of(artifact: ArtifactPlan, requested: Sequence[str]) -> list[str]:
    """Return the requested devices that an artifact can run on, or else its first device."""
    able = artifact.exporter.runs_on(artifact.options)
    return [device for device in requested if device in able] or [able[0]]


def _without_passes(
    artifact: ArtifactPlan, artifacts: Sequence[ArtifactPlan]
) -> ArtifactPlan | None:
    """Return the artifact of the recipe with the same options but no passes."""
    neutral = {"passes": (), "gates": None}
    options = artifact.options.model_copy(update=neutral)
    for candidate in artifacts:
        if candidate.options.passes:
            continue
        if candidate.options.model_copy(update=neutral) == options:
            return candidate
    return None


def _unbuilt_row(outcome: Outcome, device: str) -> Row:
    assert isinstance(outcome, Row)  # built artifacts have been judged
    return outcome.model_copy(update={"device": device})
