"""Make every artifact of a plan, each in its place in the output folder."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from converters.build.publish import Press
from converters.plan.plan import ArtifactPlan, Plan
from converters.plan.step_graph import StepGraph
from converters.steps.runner import Runner, StepFailed
from runtimes.artifact.artifact import Artifact
from runtimes.errors import BurnishError
from runtimes.progress import Advance
from runtimes.results import Row, Status

Outcome = Artifact | Row
"""An artifact that was built, or the row that says why it was not."""


@dataclass(frozen=True)
class Maker:
    """Makes the artifacts of one build."""

    plan: Plan
    graph: StepGraph
    runner: Runner
    press: Press
    output: Path
    work: Path

    def make_all(self, advance: Advance) -> dict[str, Outcome]:
        """Make every artifact of the plan, side by side; the outcomes are in the recipe's order."""

        def make(artifact: ArtifactPlan) -> Outcome:
            outcome = self.make(artifact, self.output)
            advance(1)
            return outcome

        with ThreadPoolExecutor(len(self.plan.artifacts)) as pool:
            try:
                futures = {artifact.name: pool.submit(make, artifact) for artifact in self.plan.artifacts}
                return {name: future.result() for name, future in futures.items()}
            except BaseException:  # Ctrl-C, too
                self.runner.stop()
                raise

    def make_parent(self, artifact: ArtifactPlan) -> Outcome:
        """Make an artifact that only serves to be timed beside another; it goes to the scratch folder."""
        self.graph.chain(artifact)
        return self.make(artifact, self.work / "parents")

    def make(self, artifact: ArtifactPlan, folder: Path) -> Outcome:
        """Make one artifact and publish it in `folder`."""
        row = Row(
            name=artifact.name,
            format=artifact.exporter.format,
            device="",
            status=Status.ERROR,
            precision=artifact.options.asked_precision,
        )
        if missing := artifact.exporter.missing(artifact.options):
            return row.model_copy(update={"status": Status.SKIPPED, "reason": missing})
        chain = self.graph.chains[artifact.name]
        try:
            self.runner.made(chain.export)
            return self.press.publish(artifact, chain, folder / artifact.name)
        except StepFailed as error:
            waits = "" if error.step == chain.export else f"waits for the step {error.step!r}, which failed: "
            return row.model_copy(update={"reason": f"{waits}{error}"})
        except BurnishError as error:
            return row.model_copy(update={"reason": str(error)})
        except OSError as error:
            return row.model_copy(update={"reason": f"cannot write {artifact.name}: {_why(error)}"})


def _why(error: OSError) -> str:
    """In the system's words; if several files could not be copied, those for the first."""
    return str(error.args[0][0][-1]) if isinstance(error, shutil.Error) else error.strerror or str(error)
