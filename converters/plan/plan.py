"""A checked recipe: its artifacts and their options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converters.exporters.base import Exporter
from converters.recipe.artifact import ExporterOptions
from converters.recipe.document import Document
from converters.recipe.schema import Recipe
from converters.sources.load import Source
from runtimes.artifact.gates import Gates


@dataclass(frozen=True)
class ArtifactPlan:
    """One artifact of a recipe: its exporter, options and gates."""

    name: str
    exporter: Exporter
    options: ExporterOptions
    gates: Gates


@dataclass(frozen=True)
class Plan:
    """A checked recipe, its document, and the overrides that it was read with."""

    name: str
    document: Document
    recipe: Recipe
    artifacts: tuple[ArtifactPlan, ...]
    settings: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Folder that the recipe's relative paths start from."""
        return self.document.path.resolve().parent

    @property
    def artifact_names(self) -> list[str]:
        """Names of the artifacts, in the recipe's order."""
        return [artifact.name for artifact in self.artifacts]


def source_of(plan: Plan) -> Source:
    """Return the source of a recipe's model."""
    recipe = plan.recipe
    location = str(plan.document.mark(("model",)))
    return Source(
        recipe.model,
        recipe.args,
        recipe.weights,
        plan.folder,
        location,
        recipe.inputs,
        recipe.dims,
        recipe.trust,
    )
