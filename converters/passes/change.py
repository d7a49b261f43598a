"""One pass over the eager module. What training has reached is kept by content, and goes on from there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.cache import Key
from converters.exporters.base import Job, ModelFacts
from converters.passes.options import PassOptions
from converters.passes.structure import difference
from converters.recipe import Recipe
from converters.sources.load import Source, build_module, call
from runtimes.machine import versions

if TYPE_CHECKING:
    import torch

STATE = "state.pt"
_ALSO = ("batch_norm.py", "operations.py")  # code beside this folder that passes depend on


@dataclass(frozen=True)
class Bench:
    """What every pass over a module works with; `kept`: folder of training that was interrupted."""

    source: Source
    recipe: Recipe
    facts: ModelFacts
    kept: Path

    @property
    def classification(self) -> bool:
        """Whether the first output is logits."""
        return self.recipe.task == "classification"

    def run(self, traced: bool = False) -> Callable[[torch.nn.Module], Any]:
        """A forward pass on seeded noise: at the sizes to be fastest at, or at those that exporters trace with."""
        import torch

        job = Job(None, self.facts, Path())
        if not traced:
            arrays = job.some_inputs(1)[1][0]
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        else:
            tensors = job.example()
        return lambda module: call(module, tensors)


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
    torch.save(changed.state_dict(), after / STATE)
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
    passes = Path(__file__).parent
    for file in (*sorted(passes.rglob("*.py")), *(passes.with_name(name) for name in _ALSO)):
        key.add(file.name, file.read_bytes())
    key.add("versions", json.dumps(versions(), sort_keys=True))
    return key.hex()


def state_digest(module: torch.nn.Module) -> str:
    """sha256 over the names, shapes and values of a module's state."""
    key = Key()
    for name, tensor in module.state_dict().items():
        key.add(f"{name} {tuple(tensor.shape)} {tensor.dtype}", tensor.contiguous().cpu().numpy().tobytes())
    return key.hex()
