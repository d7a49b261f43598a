"""One pass over the eager module.

A training's progress is kept by content, and continues from there.
"""

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
    """Report of a pass, for the manifest, and notes for a reader."""

    report: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def change(
    bench: Bench,
    options: PassOptions,
    teacher: torch.nn.Module,
    module: torch.nn.Module,
    after: Path,
) -> Changed:
    """Apply a pass to `module` and leave its state and structure in the folder `after`.

    Args:
        bench: the recipe and the facts of the model.
        options: prune or recover.
        teacher: the model as it was loaded.
        module: the model to change.
        after: a folder for it.

    Raises:
        UsageError: names that match nothing, no data, or more to remove than possible.
    """
    import torch

    from converters.passes.prune.run import Pruning, prepare_pruning
    from converters.passes.recover.run import Recovery, prepare_recovery

    task: Pruning | Recovery
    if options.recover:
        task = prepare_recovery(bench, options.recover, teacher)
    else:
        task = prepare_pruning(bench, options, teacher)
    key = _key(bench, options, module, task.digest)
    result = task.apply(module, bench.kept / key / "checkpoint.pt")
    torch.save(result.module.state_dict(), after / STATE_FILE)
    difference(build_module(bench.source), result.module).save(after)
    return Changed(
        {options.name: {"options": _recipe_options(options), **result.report}}, result.notes
    )


def _recipe_options(options: PassOptions) -> dict[str, Any]:
    """Return the options that differ from the defaults."""
    pass_options = getattr(options, options.name)
    return pass_options.model_dump(mode="json", exclude_defaults=True)  # type: ignore[no-any-return]


def _key(bench: Bench, options: PassOptions, module: torch.nn.Module, data: str) -> str:
    """Return the digest of everything that the result depends on.

    That is: weights, options with defaults, samples, code, versions.
    """
    key = Key()
    key.add("model", state_digest(module))
    specs = {**bench.facts.inputs, **bench.facts.dims}
    sizes = {name: spec.model_dump(mode="json") for name, spec in specs.items()}
    key.add("sizes", json.dumps(sizes))
    key.add("factory", json.dumps([bench.source.model, bench.source.args], default=str))
    key.add("pass", options.model_dump_json())
    key.add("samples", data)
    key.add("task", str(bench.recipe.task))
    key.add("code", source_digest(__name__))
    key.add("versions", json.dumps(versions(), sort_keys=True))
    return key.hex()
