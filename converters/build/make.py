"""Make every artifact of a plan, each in its place in the output folder."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from converters.build.publish import Publisher
from converters.plan.plan import ArtifactPlan, Plan
from converters.plan.step_graph import StepGraph
from converters.steps.runner import Runner, StepFailed
from runtimes.artifact.artifact import Artifact
from runtimes.errors import BurnishError
from runtimes.progress import Advance
from runtimes.results import Row, Status

Outcome = Artifact | Row
"""An artifact that was built, or the row with the reason why it was not."""


@dataclass(frozen=True)
class Maker:
    """Makes the artifacts of one build.

    Attributes:
        plan, graph, runner, publisher: of the build.
        output: folder of the build.
        scratch: folder for artifacts that are only timed.
    """

    plan: Plan
    graph: StepGraph
    runner: Runner
    publisher: Publisher
    output: Path
    scratch: Path

    def make_all(self, advance: Advance) -> dict[str, Outcome]:
        """Make every artifact of the plan, side by side; the outcomes are in the recipe's order."""

        def make(artifact: ArtifactPlan) -> Outcome:
            outcome = self.make(artifact, self.output)
            advance(1)
            return outcome

        artifacts = self.plan.artifacts
        with ThreadPoolExecutor(len(artifacts)) as pool:
            try:
                outcomes = list(pool.map(make, artifacts))
                return dict(zip(self.plan.artifact_names, outcomes, strict=True))
            except BaseException:  # Ctrl-C, too
                self.runner.stop()
                raise

    def make_parent(self, artifact: ArtifactPlan) -> Outcome:
        """Make an artifact that is only timed beside another; it goes to the scratch folder."""
        self.graph.chain(artifact)
        return self.make(artifact, self.scratch / "parents")

    def make(self, artifact: ArtifactPlan, folder: Path) -> Outcome:
        """Make one artifact and publish it in `folder`."""
        if missing := artifact.exporter.missing(artifact.options):
            return _unbuilt_row(artifact, missing, Status.SKIPPED)
        chain = self.graph.chains[artifact.name]
        try:
            self.runner.output(chain.export)
            return self.publisher.publish_artifact(artifact, chain, folder / artifact.name)
        except StepFailed as error:
            reason = str(error)
            if error.step != chain.export:
                reason = f"needs the step {error.step!r}, which failed: {error}"
            return _unbuilt_row(artifact, reason)
        except BurnishError as error:
            return _unbuilt_row(artifact, str(error))
        except OSError as error:
            return _unbuilt_row(artifact, f"cannot write {artifact.name}: {_reason(error)}")


def _unbuilt_row(artifact: ArtifactPlan, reason: str, status: Status = Status.ERROR) -> Row:
    return Row(
        name=artifact.name,
        format=artifact.exporter.format,
        device="",
        status=status,
        precision=artifact.options.asked_precision,
        reason=reason,
    )


def _reason(error: OSError) -> str:
    """Return the system's message; if several files could not be copied, that for the first."""
    if isinstance(error, shutil.Error):
        return str(error.args[0][0][-1])
    return error.strerror or str(error)
