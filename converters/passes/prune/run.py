"""The pass `prune`: choose, remove, and say what became smaller and what did not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from converters.digest import Key
from converters.models.call import call
from converters.models.figures import Figures, figures
from converters.models.operations import Run
from converters.passes.bench import Bench
from converters.passes.prune.cost.latency import measured
from converters.passes.prune.groups import units
from converters.passes.prune.structured import PruningInputs, prune_structured
from converters.passes.prune.unread import drop_unread
from converters.passes.prune.zeros import prune_zeros
from converters.recipe.passes import PassOptions
from converters.recipe.prune import PruneOptions
from converters.steps.store import Store
from runtimes.machine import machine
from runtimes.process.child import tell
from runtimes.progress import counted

_LEARNED = 16  # batches that gradients are taken on: a first-order measure settles within some hundred samples
_BATCH = 16
_MORE = 0.05  # more than what was asked by so much, as a share of the whole, is told


@dataclass(frozen=True)
class Pruning:
    """A pruning that is ready to be done.

    Attributes:
        digest: of everything but the model and the options.
        whole: units of the layers before any pass, which limits count from.
    """

    bench: Bench
    options: PruneOptions
    runs: list[Run]
    digest: str
    whole: Mapping[str, int] | None = None

    def apply(self, module: nn.Module, checkpoint: Path) -> tuple[nn.Module, dict[str, Any], list[str]]:
        """The pruned module, what the manifest tells, and notes. Pruning is short: it leaves no checkpoint."""
        options, best, example = self.options, self.bench.run(), self.bench.run(traced=True)
        left_out = drop_unread(module, [best, example])
        before = figures(module, best)
        layers: dict[str, Any]
        if options.structured is not None:
            tell(f"pruning {options.structured:.0%} of {options.of}")
            samples = PruningInputs(example, best, self.runs, self.bench.classification)
            module, removed = prune_structured(module, options, samples, self._latency(), self.whole)
            layers = {"layers": {name: list(pair) for name, pair in removed.layers.items()}}
            if removed.relied:
                layers["relied"] = list(removed.relied)
            if options.of == "latency":
                layers["latency_left_foretold"] = round(removed.left, 4)
        else:
            layers = {"zeros": {name: round(share, 4) for name, share in prune_zeros(module, options).items()}}
        after = figures(module, best)
        report = {"before": before.as_dict(), "after": after.as_dict(), "left_out": left_out, **layers}
        notes = [_words(options, before, after), *map(_left_out, left_out.items())]
        if relied := layers.get("relied"):
            notes.append(f"left whole, as the forward pass relies on their widths: {', '.join(relied)}")
        return module, report, notes

    def _latency(self) -> Callable[[nn.Module], Any]:
        tables = Store(self.bench.kept.with_name("latency"))
        return lambda module: measured(module, self.bench.run(), self.options.engine, tables)


def prepare(bench: Bench, one: PassOptions, notes: list[str], original: nn.Module | None = None) -> Pruning:
    """Read what the pruning needs: samples for importance by gradients, the widths of the original.

    Raises UsageError where the recipe has none.
    """
    options, key, runs = one.prune, Key(), []
    assert options is not None  # asked only then
    if options.importance == "taylor":
        from converters.data.shelf import Shelf, batches
        from converters.data.uses import training_pool

        pool, indices = training_pool(bench.recipe, bench.source.folder)
        shelf = Shelf(pool, bench.recipe.inputs, notes.append)
        step = max(1, len(indices) // (_LEARNED * _BATCH))
        for part in counted(list(batches(indices[::step], _BATCH))[:_LEARNED], "batches"):
            arrays = shelf.batch(part)
            for name, array in arrays.items():
                key.add(name, array.tobytes())
            runs.append(_run({name: torch.from_numpy(array) for name, array in arrays.items()}))
    if options.of == "latency":  # what a machine measures is that machine's
        here = machine.describe()
        key.add("machine", f"{here['cpu']} {here['isa']} {here['cores']}")
    return Pruning(bench, options, runs, key.hex(), None if original is None else units(original))


def _run(tensors: dict[str, torch.Tensor]) -> Run:
    return lambda module: call(module, tensors)


def _left_out(part: tuple[str, int]) -> str:
    path, parameters = part
    return f"left out {path} ({parameters:,} parameters): no forward pass in eval mode reads it"


def _words(options: PruneOptions, before: Figures, after: Figures) -> str:
    """What became smaller, apart: parameters, zeros, multiply-adds, bytes."""
    if options.structured is not None:
        left = {
            "parameters": after.parameters / before.parameters,
            "multiply-adds": after.macs / before.macs,
            "bytes": after.bytes / before.bytes,
        }
        told = ", ".join(f"{share:.0%} of the {name}" for name, share in left.items())
        gone = {"macs": 1 - left["multiply-adds"], "params": 1 - left["parameters"]}.get(options.of, 0.0)
        coarse = f"; that is more than was asked, as units go in steps (`round_to: {options.round_to}`)"
        more = coarse if gone > options.structured + _MORE else ""
        return f"pruned {options.structured:.0%} of {options.of}: {told} are left{more}"
    packed = after.compressed_bytes / max(1, before.compressed_bytes)
    gain = (
        "only TensorRT on a GPU with sparse tensor cores gains speed by it"
        if options.pattern
        else "dense engines, which all of these are, gain no speed by it"
    )
    return (
        f"{after.zeros:.0%} of the weights are zero; parameters, multiply-adds and bytes are what they were, "
        f"compressed, their {after.bytes:,} bytes take {after.compressed_bytes:,}, {packed:.0%} of what they did: "
        f"{gain}"
    )
