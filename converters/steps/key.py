"""Key of a step: the digest of everything that its result depends on before it runs."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from converters.digest import Key
from converters.steps.dependencies import describe_changes
from converters.steps.step import Step, StepOutput
from runtimes.machine.devices import gpus
from runtimes.machine.machine import instruction_sets, system

Parts = dict[str, str]
"""Dependencies of a step: `parameter NAME`, `result PLACE`, `machine ...`, and files."""


def step_parts(step: Step, needs: Mapping[str, StepOutput]) -> Parts:
    """Return the parts of a step that are known before it runs.

    These are its parameters with defaults written out, the outputs of earlier steps, and the
    machine if the result depends on it.
    """
    parts = {f"parameter {name}": value for name, value in _flatten(step.parameters)}
    # By place, not by name: the same graph may be an artifact's or a step of its own.
    for place, output in enumerate(needs.values()):
        parts[f"result {place}"] = output.digest
    parts["python"] = platform.python_version()
    return {**parts, **_machine_parts()} if step.machine else parts


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, json.dumps(value, sort_keys=True)


@cache
def _machine_parts() -> Parts:
    return {
        "machine system": system(),
        "machine instruction sets": " ".join(sorted(instruction_sets())),
        "machine GPUs": ", ".join(f"{gpu.name} {gpu.compute_capability}" for gpu in gpus()),
    }


def first_key(parts: Parts) -> str:
    """Return the digest of the parts that are known before the step runs."""
    key = Key()
    for name, value in sorted(parts.items()):
        key.add(name, value)
    return key.hex()


def explain_miss(before: Parts | None, now: Parts) -> str:
    """Explain why a step is not in the cache, from its parts in the last build."""
    if before is None:
        return "it was not built here before"
    phrases = _changed_parts(before, now)
    if not phrases:
        read = {name: value for name, value in before.items() if not _is_known_before(name)}
        current = {name: now.get(name, value) for name, value in read.items()}
        phrases = describe_changes(read, current)
    return "; ".join(phrases) or "its result is not in the cache"


def _changed_parts(before: Parts, now: Parts) -> list[str]:
    """Describe the differences between the parts that are known before a step runs."""
    phrases = []
    for name in {**before, **now}:
        if _is_known_before(name) and before.get(name) != now.get(name):
            phrases.append(_describe_part(name, before.get(name), now.get(name)))
    return phrases


def _is_known_before(name: str) -> bool:
    return name.split(" ")[0] in ("parameter", "result", "machine", "python")


def _describe_part(name: str, before: str | None, now: str | None) -> str:
    kind, _, part = name.partition(" ")
    if kind == "result":
        return "the result of an earlier step changed"
    return f"{part or kind} changed {before or 'nothing'} -> {now or 'nothing'}"
