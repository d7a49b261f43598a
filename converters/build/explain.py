"""Explain what a build would do: which steps are cached, and why the others must run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from converters.plan.plan import Plan, source_of
from converters.plan.step_graph import StepGraph
from converters.steps.cache import StepCache
from converters.steps.key import Parts, explain_miss, first_key, step_parts
from converters.steps.runner import output_of
from converters.steps.step import Step, StepOutput
from runtimes.files.layout import STEPS_FILE
from runtimes.machine.machine import cache_folder


@dataclass(frozen=True)
class Explanation:
    """One step: whether its result is cached, and if not, why it must run."""

    step: str
    cached: bool
    why: str | None = None


def explain(plan: Plan, output: Path) -> list[Explanation]:
    """Explain every step of a recipe, in the order in which they need each other.

    Args:
        plan: a checked recipe.
        output: folder of the build, with the dependencies of its last build's steps.
    """
    cache = StepCache(cache_folder() / "steps", plan.folder)
    try:
        graph, before = StepGraph.of(plan, source_of(plan)), _last_parts(output)
        outputs: dict[str, StepOutput] = {}
        explanations = []
        for name in _needed_steps(graph, plan):
            step = graph.by_name[name]
            explanations.append(_explain(step, cache, outputs, before.get(name)))
        return explanations
    finally:
        cache.release()


def _needed_steps(graph: StepGraph, plan: Plan) -> list[str]:
    """Return the steps of the artifacts that can be built here, each after those that it needs."""
    order: dict[str, None] = {}

    def add(name: str) -> None:
        for need in graph.by_name[name].needs:
            add(need)
        order[name] = None

    buildable = set()
    for artifact in plan.artifacts:
        if not artifact.exporter.missing(artifact.options):
            buildable.add(artifact.name)
    for name, chain in graph.chains.items():
        if name in buildable:
            add(chain.export)
    return list(order)


def _explain(
    step: Step, cache: StepCache, outputs: dict[str, StepOutput], before: Parts | None
) -> Explanation:
    """Explain one step; if it is cached, add its output to `outputs` for the steps after it."""
    missing = [name for name in step.needs if name not in outputs]
    if missing:
        names = " and ".join(missing)
        return Explanation(step.name, False, f"{names} must run first, and its result may change")
    parts = step_parts(step, {name: outputs[name] for name in step.needs})
    entry, read = cache.find(first_key(parts))
    if entry is None:
        return Explanation(step.name, False, explain_miss(before, {**parts, **read}))
    outputs[step.name] = output_of(step, entry)
    return Explanation(step.name, True)


def _last_parts(output: Path) -> dict[str, Parts]:
    """Return what the steps of the last build in a folder depended on; empty if there was none."""
    parts_by_step: dict[str, Parts] = {}
    try:
        recorded = json.loads((output / STEPS_FILE).read_text(encoding="utf-8"))
        for name, parts in recorded.items():
            parts_by_step[str(name)] = {str(key): str(value) for key, value in parts.items()}
    except (OSError, ValueError, AttributeError):
        return {}
    return parts_by_step
