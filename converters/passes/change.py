"""One pass over the eager module. What training has reached is kept by content, and goes on from there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.digest import Key, source_digest
from converters.models.structure import difference, state_digest
from converters.passes.bench import Bench
from converters.recipe.passes import PassOptions
from converters.sources.load import build_module
from runtimes.files.layout import STATE_FILE
from runtimes.machine.machine import versions

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Changed:
    """What a pass did: for the manifest, and for a reader."""

    report: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def change(
    bench: Bench, one: PassOptions, teacher: torch.nn.Module, module: torch.nn.Module, after: Path
) -> Changed:
    """Apply a pass to `module` and leave its state and structure in the folder `after`.

    Args:
        bench: the recipe and what is known of the model.
        one: prune or recover.
        teacher: the model as it was loaded.
        module: the model to change.
        after: a folder for it.

    Raises:
        UsageError: names that match nothing, no data, or more to remove than can be.
    """
    import torch

    from converters.passes.prune import run as prune
    from converters.passes.recover import run as recover

    notes: list[str] = []
    work = (
        recover.prepare(bench, one.recover, teacher, notes)
        if one.recover
        else prune.prepare(bench, one, notes, teacher)
    )
    key = _key(bench, one, module, work.digest)
    changed, report, said = work.apply(module, bench.kept / key / "checkpoint.pt")
    torch.save(changed.state_dict(), after / STATE_FILE)
    difference(build_module(bench.source), changed).save(after)
    return Changed({one.name: {"options": _asked(one), **report}}, [*said, *notes])


def _asked(one: PassOptions) -> dict[str, Any]:
    return getattr(one, one.name).model_dump(mode="json", exclude_defaults=True)  # type: ignore[no-any-return]


def _key(bench: Bench, one: PassOptions, module: torch.nn.Module, data: str) -> str:
    """The digest of all that the result depends on: weights, options with defaults, samples, code, versions."""
    key = Key()
    key.add("model", state_digest(module))
    known = {**bench.facts.inputs, **bench.facts.dims}
    sizes = {name: one.model_dump(mode="json") for name, one in known.items()}
    key.add("sizes", json.dumps(sizes))
    key.add("factory", json.dumps([bench.source.model, bench.source.args], default=str))
    key.add("pass", one.model_dump_json())
    key.add("samples", data)
    key.add("task", str(bench.recipe.task))
    key.add("code", source_digest(__name__))
    key.add("versions", json.dumps(versions(), sort_keys=True))
    return key.hex()
