"""What a build would do, without doing it: which steps are kept, and why the others must run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from converters.plan.plan import Plan, source_of
from converters.plan.step_graph import StepGraph
from converters.steps.cache import StepCache
from converters.steps.key import Parts, first_key, parts, why
from converters.steps.step import Made, Step
from runtimes.files.layout import STEPS_FILE
from runtimes.machine.machine import cache_folder


@dataclass(frozen=True)
class Explained:
    """One step: whether its result is there, else why it must run."""

    step: str
    cached: bool
    why: str | None = None


def explain(plan: Plan, output: Path) -> list[Explained]:
    """Every step of a recipe, in the order that they need each other.

    Args:
        plan: a checked recipe.
        output: folder of the build; what its steps depended on the last time is compared with now.
    """
    cache = StepCache(cache_folder() / "steps", plan.folder)
    try:
        steps, before = StepGraph.of(plan, source_of(plan)), _before(output)
        skipped = {one.name: reason for one in plan.artifacts if (reason := one.exporter.missing(one.options))}
        made: dict[str, Made] = {}
        found = []
        for name in _needed(steps, {one.name for one in plan.artifacts} - set(skipped)):
            found.append(_explain(steps.by_name[name], cache, made, before.get(name)))
        return found
    finally:
        cache.release()


def _needed(steps: StepGraph, artifacts: set[str]) -> list[str]:
    """The steps of these artifacts, each behind those that it needs."""
    order: dict[str, None] = {}

    def add(name: str) -> None:
        for need in steps.by_name[name].needs:
            add(need)
        order[name] = None

    for name, chain in steps.chains.items():
        if name in artifacts:
            add(chain.export)
    return list(order)


def _explain(step: Step, cache: StepCache, made: dict[str, Made], before: Parts | None) -> Explained:
    if waits := [name for name in step.needs if name not in made]:
        return Explained(step.name, False, f"{' and '.join(waits)} must run first, and may make something else")
    known = parts(step, {name: made[name] for name in step.needs})
    entry, read = cache.find(first_key(known))
    if entry is None:
        return Explained(step.name, False, why(before, {**known, **read}))
    made[step.name] = Made(entry.files, TypeAdapter(step.result).validate_json(entry.result()), entry.digest)
    return Explained(step.name, True)


def _before(output: Path) -> dict[str, Parts]:
    """What the steps of the last build in a folder depended on; nothing where there was none."""
    try:
        found = json.loads((output / STEPS_FILE).read_text(encoding="utf-8"))
        return {str(name): {str(k): str(v) for k, v in known.items()} for name, known in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}
