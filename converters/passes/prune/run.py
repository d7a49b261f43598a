"""The pass `prune`: choose, remove, and report what became smaller and what did not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from converters.digest import Key
from converters.models.call import call
from converters.models.figures import Figures, figures
from converters.models.operations import Run
from converters.passes.bench import Bench, PassResult
from converters.passes.prune.cost.latency import latency_costs
from converters.passes.prune.groups import count_units
from converters.passes.prune.structured import PruningInputs, prune_structured
from converters.passes.prune.unread import drop_unread
from converters.passes.prune.zeros import prune_zeros
from converters.recipe.passes import PassOptions
from converters.recipe.prune import PruneOptions
from converters.steps.store import Store
from runtimes.engines.torch.inputs import to_tensors
from runtimes.machine import machine
from runtimes.process.child import tell
from runtimes.progress import counted

_LEARNED = 16  # batches for gradients: a first-order measure settles within some hundred samples
_BATCH = 16
_MORE = 0.05  # an excess over the requested share is reported from here on, as a share of the whole


@dataclass(frozen=True)
class Pruning:
    """A pruning that is ready to run.

    Attributes:
        digest: of everything but the model and the options.
        whole: units of the layers before any pass, which limits count from.
        notes: remarks about the samples.
    """

    bench: Bench
    options: PruneOptions
    runs: list[Run]
    digest: str
    whole: Mapping[str, int] | None = None
    notes: list[str] = field(default_factory=list)

    def apply(self, module: nn.Module, checkpoint: Path) -> PassResult:
        """Prune the module. Pruning is short: it leaves no checkpoint."""
        options, best, example = self.options, self.bench.run(), self.bench.run(traced=True)
        left_out = drop_unread(module, [best, example])
        before = figures(module, best)
        layers: dict[str, Any]
        if options.structured is not None:
            tell(f"pruning {options.structured:.0%} of {options.of}")
            samples = PruningInputs(example, best, self.runs, self.bench.classification)
            module, removed = prune_structured(
                module, options, samples, self._latency(), self.whole
            )
            layers = {"layers": {name: list(pair) for name, pair in removed.layers.items()}}
            if removed.relied:
                layers["relied"] = list(removed.relied)
            if options.of == "latency":
                layers["latency_left_foretold"] = round(removed.left, 4)
        else:
            zeros = prune_zeros(module, options)
            layers = {"zeros": {name: round(share, 4) for name, share in zeros.items()}}
        after = figures(module, best)
        report = {
            "before": before.as_dict(),
            "after": after.as_dict(),
            "left_out": left_out,
            **layers,
        }
        notes = [_summary(options, before, after)]
        for path, parameters in left_out.items():
            notes.append(
                f"left out {path} ({parameters:,} parameters): no forward pass in eval mode reads "
                "it"
            )
        if relied := layers.get("relied"):
            notes.append(
                f"left whole, as the forward pass relies on their widths: {', '.join(relied)}"
            )
        return PassResult(module, report, [*notes, *self.notes])

    def _latency(self) -> Callable[[nn.Module], Any]:
        tables = Store(self.bench.kept.with_name("latency"))
        return lambda module: latency_costs(module, self.bench.run(), self.options.engine, tables)


def prepare_pruning(bench: Bench, step: PassOptions, original: nn.Module | None = None) -> Pruning:
    """Read the inputs of the pruning: samples for gradients, widths of the original.

    Raises UsageError if the recipe has no such samples.
    """
    options, key, runs = step.prune, Key(), []
    assert options is not None  # called only then
    notes: list[str] = []
    if options.importance == "taylor":
        from converters.data.shelf import Shelf
        from converters.data.uses import training_pool

        pool, indices = training_pool(bench.recipe, bench.source.folder)
        shelf = Shelf(pool, bench.recipe.inputs)
        stride = max(1, len(indices) // (_LEARNED * _BATCH))
        for part in counted(list(shelf.batches(indices[::stride], _BATCH))[:_LEARNED], "batches"):
            arrays = shelf.batch(part)
            for name, array in arrays.items():
                key.add(name, array.tobytes())
            runs.append(_run(to_tensors(arrays)))
        notes = shelf.notes
    if options.of == "latency":  # a measurement belongs to the machine that made it
        described = machine.describe()
        key.add("machine", f"{described['cpu']} {described['isa']} {described['cores']}")
    whole = None if original is None else count_units(original)
    return Pruning(bench, options, runs, key.hex(), whole, notes)


def _run(tensors: dict[str, torch.Tensor]) -> Run:
    return lambda module: call(module, tensors)


def _summary(options: PruneOptions, before: Figures, after: Figures) -> str:
    """Return what became smaller, apart: parameters, zeros, multiply-adds, bytes."""
    if options.structured is not None:
        return _structured_summary(options, options.structured, before, after)
    packed = after.compressed_bytes / max(1, before.compressed_bytes)
    gain = "dense engines, which all of these are, gain no speed by it"
    if options.pattern:
        gain = "only TensorRT on a GPU with sparse tensor cores gains speed by it"
    return (
        f"{after.zeros:.0%} of the weights are zero; parameters, multiply-adds and bytes are "
        f"unchanged, compressed, their {after.bytes:,} bytes take {after.compressed_bytes:,}, "
        f"{packed:.0%} of before: {gain}"
    )


def _structured_summary(
    options: PruneOptions, share: float, before: Figures, after: Figures
) -> str:
    left = {
        "parameters": after.parameters / before.parameters,
        "multiply-adds": after.macs / before.macs,
        "bytes": after.bytes / before.bytes,
    }
    shares = ", ".join(f"{part:.0%} of the {name}" for name, part in left.items())
    gone = {"macs": 1 - left["multiply-adds"], "params": 1 - left["parameters"]}.get(
        options.of, 0.0
    )
    summary = f"pruned {share:.0%} of {options.of}: {shares} are left"
    if gone > share + _MORE:
        summary += (
            f"; more than requested, since units go in steps (`round_to: {options.round_to}`)"
        )
    return summary
