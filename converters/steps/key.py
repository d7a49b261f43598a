"""What a step depends on before it runs, and the digest of that."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from converters.digest import Key
from converters.steps import trace
from converters.steps.step import Made, Step
from runtimes.machine.devices import gpus
from runtimes.machine.machine import instruction_sets, system

Parts = dict[str, str]
"""What a step depends on: `parameter NAME`, `result PLACE`, `machine ...`, and the files that it read."""


def parts(step: Step, needs: Mapping[str, Made]) -> Parts:
    """The parameters with defaults written out, what earlier steps made, and the machine where it counts."""
    found = {f"parameter {name}": value for name, value in _flat(step.asked)}
    # By place, not by name: the same graph may be an artifact's or a step of its own.
    found |= {f"result {place}": made.digest for place, made in enumerate(needs.values())}
    found["python"] = platform.python_version()
    return {**found, **_machine()} if step.machine else found


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, json.dumps(value, sort_keys=True)


@cache
def _machine() -> Parts:
    return {
        "machine system": system(),
        "machine instruction sets": " ".join(sorted(instruction_sets())),
        "machine GPUs": ", ".join(f"{gpu.name} {gpu.compute_capability}" for gpu in gpus()),
    }


def first_key(known: Parts) -> str:
    """The digest of what is known before the step runs."""
    key = Key()
    for name, value in sorted(known.items()):
        key.add(name, value)
    return key.hex()


def why(before: Parts | None, now: Parts) -> str:
    """In words why a step is not found in the cache, from its parts of the last build in the same folder."""
    if before is None:
        return "it was not built here before"
    words = [_change(name, before.get(name), now.get(name)) for name in {**before, **now} if _is_known(name)
             and before.get(name) != now.get(name)]  # fmt: skip
    read = {name: value for name, value in before.items() if not _is_known(name)}
    if not words:
        words = trace.changes(read, {name: now.get(name, value) for name, value in read.items()})
    return "; ".join(words) or "its result is not in the cache"


def _is_known(name: str) -> bool:
    return name.split(" ")[0] in ("parameter", "result", "machine", "python")


def _change(name: str, before: str | None, now: str | None) -> str:
    kind, _, what = name.partition(" ")
    if kind == "result":
        return "an earlier step made something else"
    return f"{what or kind} changed {before or 'nothing'} -> {now or 'nothing'}"
