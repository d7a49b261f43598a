"""Load a recipe: find, read and check it. Checking a recipe imports no heavy library."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from converters.exporters import EXPORTERS
from converters.exporters.base import Exporter
from converters.plan.checks import (
    budget_problems,
    calibration_problems,
    data_problems,
    dim_problems,
    gate_problems,
    model_problems,
    output_problems,
    training_problems,
)
from converters.plan.plan import ArtifactPlan, Plan
from converters.recipe.artifact import ExporterOptions
from converters.recipe.document import Document, Problem, RecipeError, find, override, read
from converters.recipe.order import order_problem
from converters.recipe.problems import explain
from converters.recipe.quantize import QuantizeOptions
from converters.recipe.schema import Recipe
from runtimes.artifact.gates import Gates
from runtimes.errors import UsageError
from runtimes.files.layout import RESERVED

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
"""The recipes that come with a clone of the repository."""


def load_recipe(
    name: str | Path, settings: Sequence[str] = (), folders: Sequence[Path] = ()
) -> Plan:
    """Find, read and check a recipe.

    Args:
        name: a path, or the name of a recipe in `folders`, ./configs or Burnish's own configs.
        settings: overrides such as `artifacts.onnx.opset=18`.
        folders: searched before the usual ones.

    Raises:
        RecipeError: with all problems at once, each with file, line and key.
        UsageError: there is no such recipe.
    """
    path = find(str(name), [*folders, Path("configs"), CONFIGS])
    document = read(path, CONFIGS)
    for setting in settings:
        document = override(document, setting)
    recipe, problems = explain(Recipe, document.data, document, ())
    artifacts, artifact_problems = _artifacts(document, _common_gates(recipe))
    problems += [*artifact_problems, *model_problems(document)]
    problems += _cross_problems(recipe or _readable(document.data), artifacts, document)
    if problems or recipe is None:
        raise RecipeError(_sorted(problems, document))
    stem = path.stem.encode("utf-8", "replace").decode()  # a file name may be no UTF-8
    return Plan(stem, document, recipe, tuple(artifacts), tuple(settings))


def _sorted(problems: Sequence[Problem], document: Document) -> list[Problem]:
    """Sort problems by line; those of the recipe itself come before those of recipes it extends."""
    own_file = str(document.path)
    return sorted(problems, key=lambda p: (p.mark.file != own_file, p.mark.line or 0))


def _cross_problems(
    recipe: Recipe, artifacts: Sequence[ArtifactPlan], document: Document
) -> list[Problem]:
    """Return the problems between keys, as far as the keys could be read."""
    problems: list[Problem] = []
    present = {name for name in Recipe.model_fields if name in document.data}
    unreadable = present - recipe.model_fields_set
    if recipe.model_fields_set >= {"inputs"} and not unreadable & {"dims", "data", "preprocess"}:
        problems += dim_problems(recipe, document)
        problems += data_problems(recipe, document)
        problems += calibration_problems(recipe, artifacts, document)
        problems += training_problems(recipe, artifacts, document)
    if not unreadable & {"task", "data"}:
        problems += budget_problems(recipe, artifacts, document)
    if not unreadable & {"task", "gates"}:
        problems += gate_problems(recipe, document)
    return problems + output_problems(recipe, document)


def _common_gates(recipe: Recipe | None) -> Gates:
    """Return the recipe's gates, with those of its outputs."""
    if recipe is None:
        return Gates()
    if not isinstance(recipe.outputs, dict):
        return recipe.gates
    outputs = {**recipe.outputs, **recipe.gates.outputs}
    return recipe.gates.model_copy(update={"outputs": outputs})


def _artifacts(document: Document, gates: Gates) -> tuple[list[ArtifactPlan], list[Problem]]:
    """Check the options of every artifact by the classes of their exporters."""
    listed = document.data.get("artifacts")
    artifacts: list[ArtifactPlan] = []
    problems: list[Problem] = []
    for name, options in listed.items() if isinstance(listed, dict) else ():
        if options is not None and not isinstance(options, dict):
            continue  # the recipe's own schema reports it
        artifact, artifact_problems = _artifact(name, options or {}, document, gates)
        problems += artifact_problems
        if artifact is not None:
            artifacts.append(artifact)
    return artifacts, problems


def _artifact(
    name: str, options: dict[str, Any], document: Document, gates: Gates
) -> tuple[ArtifactPlan | None, list[Problem]]:
    """Check the options of one artifact."""
    keys, key = ("artifacts", name), f"artifacts.{name}"
    problems = []
    if not _is_folder_name(name):
        message = (
            f"a name has letters, digits, - _ . ({_MAX_NAME_BYTES} bytes at most) and is none of "
            f"{', '.join(RESERVED)}"
        )
        problems.append(Problem(document.mark(keys), key, message))
    try:
        exporter: Exporter = EXPORTERS.get(str(options.get("format", name)))()
    except UsageError as error:
        if "format" in options:
            problems.append(Problem(document.mark((*keys, "format")), key, str(error)))
        else:
            hint = "(an artifact whose name is not a format needs `format:`)"
            problems.append(Problem(document.mark(keys), key, f"{error} {hint}"))
        return None, problems
    checked, option_problems = explain(
        exporter.Options, {"format": name, **options}, document, keys
    )
    problems += option_problems
    if checked is None:
        return None, problems
    if passes_problem := _passes_problem(exporter, checked):
        mark = document.mark((*keys, "passes"))
        problems.append(Problem(mark, f"{key}.passes", passes_problem))
    overrides = checked.gates.model_dump(exclude_unset=True) if checked.gates else {}
    merged = gates.model_copy(update={**_budget_gate(checked.quantize), **overrides})
    return ArtifactPlan(name, exporter, checked, merged), problems


def _passes_problem(exporter: Exporter, options: ExporterOptions) -> str | None:
    """Return why a format cannot have these passes, or None."""
    if problem := order_problem(options.passes):
        return problem
    if options.quantize is None:
        return None
    mode = options.quantize.mode
    if mode in exporter.quantization:
        return None
    formats = [name for name in EXPORTERS.shipped if mode in EXPORTERS.get(name).quantization]
    return f"{exporter.format} has no {mode} quantization; formats that have: {', '.join(formats)}"


def _budget_gate(quantize: QuantizeOptions | None) -> dict[str, float]:
    """Return the gate that proves an accuracy budget, which the search for it does not."""
    if quantize is None or quantize.max_drop is None:
        return {}
    if quantize.metric == "user":
        return {"metric_drop": quantize.max_drop}
    share = quantize.max_drop / 100
    if quantize.metric == "agreement":
        return {"top1_agreement": 1 - share}
    if quantize.metric == "top1":
        return {"accuracy_drop": share}
    return {"sqnr_db": -20 * math.log10(share)}


def _readable(data: dict[str, Any]) -> Recipe:
    """Return the readable keys of a faulty recipe, to report problems between them too."""
    minimal = {"model": "", "inputs": {"x": {"shape": [1]}}, "artifacts": {"x": {}}}
    values: dict[str, Any] = {}
    for name in Recipe.model_fields:
        if name in data:
            with contextlib.suppress(ValidationError):  # its own problems are reported already
                recipe = Recipe.model_validate({**minimal, name: data[name]})
                values[name] = getattr(recipe, name)
    return Recipe.model_construct(set(values), **{"inputs": {}, **values})


_MAX_NAME_BYTES = 100  # its log, script and scratch have longer names; file systems allow 255


def _is_folder_name(name: str) -> bool:
    return (
        name not in RESERVED
        and len(name.encode()) <= _MAX_NAME_BYTES
        and name[:1].isalnum()
        and all(letter.isalnum() or letter in "-_." for letter in name)
    )
