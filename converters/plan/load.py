"""The recipe: its schema and every default. Nothing heavy is imported to check one."""

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


def load_recipe(name: str | Path, settings: Sequence[str] = (), folders: Sequence[Path] = ()) -> Plan:
    """Find, read and check a recipe.

    Args:
        name: a path, or the name of a recipe in `folders`, ./configs or Burnish's own configs.
        settings: overrides such as `artifacts.onnx.opset=18`.
        folders: looked in before the usual ones.

    Raises:
        RecipeError: with everything that is wrong at once, each with file, line and key.
        UsageError: there is no such recipe.
    """
    path = find(str(name), [*folders, Path("configs"), CONFIGS])
    document = read(path, CONFIGS)
    for setting in settings:
        document = override(document, setting)
    recipe, problems = explain(Recipe, document.data, document, ())
    artifacts, more = _artifacts(document, recipe.gates if recipe else Gates())
    problems += [*more, *model_problems(document)]
    known = recipe or _readable(document.data)
    unreadable = {name for name in Recipe.model_fields if name in document.data} - known.model_fields_set
    if known.model_fields_set >= {"inputs"} and not unreadable & {"dims", "data", "preprocess"}:
        problems += [*dim_problems(known, document), *data_problems(known, document)]
        problems += calibration_problems(known, artifacts, document)
        problems += training_problems(known, artifacts, document)
    if not unreadable & {"task", "data"}:
        problems += budget_problems(known, artifacts, document)
    if not unreadable & {"task", "gates"}:
        problems += gate_problems(known, document)
    problems += output_problems(known, document)
    if problems or recipe is None:
        order = {str(document.path): 0}
        raise RecipeError(sorted(problems, key=lambda p: (order.get(p.mark.file, 1), p.mark.line or 0)))
    name = path.stem.encode("utf-8", "replace").decode()  # a file name may be no UTF-8
    return Plan(name, document, recipe, tuple(artifacts), tuple(settings))


def _artifacts(document: Document, gates: Gates) -> tuple[list[ArtifactPlan], list[Problem]]:
    """Check the options of every artifact by the classes of their exporters."""
    listed = document.data.get("artifacts")
    found, problems = [], []
    for name, raw in listed.items() if isinstance(listed, dict) else ():
        keys = ("artifacts", name)
        if raw is not None and not isinstance(raw, dict):
            continue  # the recipe's own schema has said so
        options = {"format": name, **(raw or {})}
        if not _is_folder_name(name):
            words = f"a name is letters, digits, - _ . ({_LONGEST} bytes at most) and none of {', '.join(RESERVED)}"
            problems.append(Problem(document.mark(keys), f"artifacts.{name}", words))
        try:
            exporter: Exporter = EXPORTERS.get(str(options["format"]))()
        except UsageError as error:
            given = isinstance(raw, dict) and "format" in raw
            key = (*keys, "format") if given else keys
            hint = "" if given else " (an artifact whose name is not a format needs `format:`)"
            problems.append(Problem(document.mark(key), f"artifacts.{name}", f"{error}{hint}"))
            continue
        checked, wrong = explain(exporter.Options, options, document, keys)
        problems += wrong
        if checked and (why := _impossible(exporter, checked)):
            problems.append(Problem(document.mark((*keys, "passes")), f"artifacts.{name}.passes", why))
        if checked:
            asked = checked.gates.model_dump(exclude_unset=True) if checked.gates else {}
            merged = gates.model_copy(update={**_budget_gate(checked.quantize), **asked})
            found.append(ArtifactPlan(name, exporter, checked, merged))
    return found, problems


def _impossible(exporter: Exporter, options: ExporterOptions) -> str | None:
    """Why a format cannot have the passes that are asked for, or None."""
    if problem := order_problem(options.passes):
        return problem
    if options.quantize is None:
        return None
    every = {name: EXPORTERS.get(name).quantization for name in EXPORTERS.shipped}
    mode = options.quantize.mode
    if mode in exporter.quantization:
        return None
    able = ", ".join(name for name, modes in every.items() if mode in modes)
    return f"{exporter.format} has no {mode} quantization; those that do: {able}"


def _budget_gate(quantize: QuantizeOptions | None) -> dict[str, float]:
    """The gate that proves an accuracy budget: what was searched for is judged like everything else."""
    if quantize is None or quantize.max_drop is None:
        return {}
    share = quantize.max_drop / 100
    return {
        "agreement": {"top1_agreement": 1 - share},
        "top1": {"accuracy_drop": share},
        "sqnr": {"sqnr_db": -20 * math.log10(share)},
    }[quantize.metric]


def _readable(data: dict[str, Any]) -> Recipe:
    """The parts of a faulty recipe that can be read, so that what is wrong between them is told at once too."""
    whole = {"model": "", "inputs": {"x": {"shape": [1]}}, "artifacts": {"x": {}}}
    parts: dict[str, Any] = {}
    for name in Recipe.model_fields:
        if name in data:
            with contextlib.suppress(ValidationError):  # its own mistakes have been told
                parts[name] = getattr(Recipe.model_validate({**whole, name: data[name]}), name)
    return Recipe.model_construct(set(parts), **{"inputs": {}, **parts})


_LONGEST = 100  # bytes: its log, its script and its scratch have longer names, and file systems take 255


def _is_folder_name(name: str) -> bool:
    return (
        name not in RESERVED
        and len(name.encode()) <= _LONGEST
        and name[:1].isalnum()
        and all(letter.isalnum() or letter in "-_." for letter in name)
    )
