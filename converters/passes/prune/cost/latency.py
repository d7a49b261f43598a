"""What each layer takes, measured in an engine at some widths: the cost model of `of: latency`.

Multiply-adds do not tell: a layer of a quarter of the operations may take half of the time, or all of it. So each
layer is run by itself at some widths of its inputs and outputs, and the engine's own profiler says what it took;
the reordering of a graph's inputs does not count.

Between the measured widths time is interpolated from block to block: kernels take as many channels at once as their
vectors hold, and eight more than a block may cost as much as a whole one more. Whether they do is measured too.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from converters.digest import Key, source_digest
from converters.models.attention import HeadAttention
from converters.models.operations import Run
from converters.passes.prune.cost.cost import Costs, is_layer
from converters.passes.prune.cost.single import Alone, depthwise, graph, narrow, some_input, widths
from converters.steps.store import Store
from runtimes.machine import machine
from runtimes.process.child import tell
from runtimes.progress import counted
from runtimes.validator.defaults import PATIENCE_SECONDS
from runtimes.validator.speed.pace import Pace

BLOCK = 16
"""Channels that kernels take at once, at most: the widest vectors of CPUs hold so many floats, or half of that."""
_WHOLE = 0.75  # where half a block costs more than this share of it, kernels take it whole
_GRID = (0.01, 1 / 3, 2 / 3, 1.0)  # shares of a width at which it is measured, rounded up to whole blocks
_ROUNDS = 3  # each width is measured so often, apart: the fastest time is the least disturbed
_AHEAD = 4  # a narrower layer may take as long, or longer than one narrower still: so many steps are compared
_FILE = "tables.json"


@dataclass(frozen=True)
class Axis:
    """One side of a layer: the widths at which it was measured, the whole one last; the block of its kernels."""

    widths: tuple[int, ...]
    block: int

    @classmethod
    def of(cls, width: int, block: int) -> Axis:
        """The widths to measure: one block, the whole, and two between."""
        return cls(tuple(sorted({min(width, block * math.ceil(width * one / block)) for one in _GRID})), block)

    def at(self, share: float) -> int:
        """The width that takes as long as this share of the whole: its last block counts as full."""
        return self.block * math.ceil(share * self.widths[-1] / self.block - 1e-6)


@dataclass(frozen=True)
class Table:
    """Microseconds of a layer [inputs, outputs] at the widths of its axes; bilinear in between."""

    ins: Axis
    outs: Axis
    times: np.ndarray[Any, Any]

    def __call__(self, ins: float, outs: float) -> float:
        """The time where these shares of inputs and outputs are left; below the least measured width that one's."""
        rows = [float(np.interp(self.outs.at(outs), self.outs.widths, row)) for row in self.times]
        return float(np.interp(self.ins.at(ins), self.ins.widths, rows))


@dataclass(frozen=True)
class _Kind:
    """A layer, what it is given, and what layers with the same kernels have in common."""

    layer: nn.Module
    shape: tuple[int, ...]

    @property
    def kernel(self) -> str:
        return f"{type(self.layer).__name__}{' depthwise' if depthwise(self.layer) else ''}"

    @property
    def axes(self) -> tuple[Axis, Axis]:
        grouped = getattr(self.layer, "groups", 1) > 1 and not depthwise(self.layer)
        block = 1 if grouped or isinstance(self.layer, HeadAttention) else BLOCK
        ins, outs = widths(self.layer)
        return Axis.of(ins, block), Axis.of(outs, block)


def measured(module: nn.Module, run: Run, engine: str, store: Store | None = None) -> Costs:
    """The time of every layer in an engine, as a function of its widths.

    Args:
        module: the module.
        run: a forward pass at the sizes to be fastest at.
        engine: onnx, openvino or torch.
        store: keeps the tables, so that several prunings of a model choose by the same.
    """
    shapes = _input_shapes(module, run)
    kinds = {name: _Kind(module.get_submodule(name), shape) for name, shape in shapes.items()}
    signatures = {name: f"{one.layer} {one.shape}" for name, one in kinds.items()}
    distinct = {signatures[name]: one for name, one in kinds.items()}
    tables = _kept(distinct, engine, store)
    layers = {name: tables[signature] for name, signature in signatures.items()}
    return Costs(sum(cost(1, 1) for cost in layers.values()), layers, _AHEAD)


def _input_shapes(module: nn.Module, run: Run) -> dict[str, tuple[int, ...]]:
    """What each layer is given; attention's own layers are a part of it."""
    found: dict[str, tuple[int, ...]] = {}

    def hook(name: str) -> Callable[..., None]:
        def note(layer: nn.Module, given: Any, named: dict[str, Any], made: Any) -> None:
            found[name] = tuple(next(iter((*given, *named.values()))).shape)

        return note

    inner = {f"{name}.out_proj" for name, one in module.named_modules() if isinstance(one, HeadAttention)}
    layers = [(name, one) for name, one in module.named_modules() if is_layer(one) and name not in inner]
    hooks = [one.register_forward_hook(hook(name), with_kwargs=True) for name, one in layers]
    with torch.no_grad():
        run(module)
    for one in hooks:
        one.remove()
    return found


_Measured = tuple[list[list[float]], list[int]]
"""Of a layer: microseconds [inputs, outputs], and the blocks of both sides."""


def _kept(kinds: Mapping[str, _Kind], engine: str, store: Store | None) -> dict[str, Table]:
    """The tables from the store, or measured and put there."""
    here, key = machine.describe(), Key()
    for part in (engine, here["cpu"], here["isa"], here["cores"], json.dumps(machine.versions()), *kinds):
        key.add("part", str(part))
    key.add("code", source_digest(__name__))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "tables")
        if store and store.get(key.hex(), folder, tell):
            tell(f"what layers take in {engine}: found in the cache")
            raw = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        else:
            raw = _measure(kinds, engine)
            folder.mkdir()
            (folder / _FILE).write_text(json.dumps(raw), encoding="utf-8")
            if store:
                store.put(key.hex(), folder)
    return {name: _table(kind, *raw[name]) for name, kind in kinds.items()}


def _table(kind: _Kind, times: list[list[float]], blocks: Sequence[int]) -> Table:
    ins, outs = (Axis(one.widths, block) for one, block in zip(kind.axes, blocks, strict=True))
    # Noise must not make a narrower layer the slower one: no more units, no more time.
    return Table(ins, outs, np.maximum.accumulate(np.maximum.accumulate(np.array(times), axis=0), axis=1))


def _measure(kinds: Mapping[str, _Kind], engine: str) -> dict[str, _Measured]:
    """By signature."""
    times: dict[str, list[list[float]]] = {}
    rises: dict[tuple[str, int], np.ndarray[Any, Any]] = {}
    pace, patience = Pace(), PATIENCE_SECONDS
    for number, (name, kind) in enumerate(counted(kinds.items(), "layers"), 1):
        tell(f"measuring layer {number} of {len(kinds)} in {engine}")
        patience -= pace.wait(patience)[1]
        ins, outs = kind.axes
        probes = _half_a_block(ins, outs), [(one, other) for other, one in _half_a_block(outs, ins)]
        pairs = [(one, other) for one in ins.widths for other in outs.widths]
        taken = _fastest(kind, list(dict.fromkeys([*pairs, *probes[0], *probes[1]])), engine)
        times[name] = [[taken[one, other] for other in outs.widths] for one in ins.widths]
        for side, probe in enumerate(probes):
            if probe:
                low, middle, high = (taken[pair] for pair in probe)
                rises[kind.kernel, side] = rises.get((kind.kernel, side), 0) + np.array([middle - low, high - low])
    return {name: (times[name], _blocks(kind, rises)) for name, kind in kinds.items()}


def _half_a_block(axis: Axis, other: Axis) -> list[tuple[int, int]]:
    """Widths half a block apart and the whole other side; none where the axis has too few blocks to tell."""
    if axis.block < BLOCK or axis.widths[-1] < 3 * BLOCK:
        return []
    upper = axis.widths[-2]
    return [(width, other.widths[-1]) for width in (upper - BLOCK, upper - BLOCK // 2, upper)]


def _blocks(kind: _Kind, rises: Mapping[tuple[str, int], np.ndarray[Any, Any]]) -> list[int]:
    """Of both sides, by what half a block and a whole one cost all layers with the same kernels."""
    found = []
    for side, axis in enumerate(kind.axes):
        half, whole = rises.get((kind.kernel, side), (1.0, 1.0))
        found.append(BLOCK // 2 if axis.block == BLOCK and half < _WHOLE * whole else axis.block)
    return found


def _fastest(kind: _Kind, pairs: Sequence[tuple[int, int]], engine: str) -> dict[tuple[int, int], float]:
    """Microseconds at each pair of widths."""
    clocks = {pair: _clock(narrow(kind.layer, *pair), kind.shape, engine) for pair in pairs}
    rounds = [{pair: clock() for pair, clock in clocks.items()} for _ in range(_ROUNDS)]
    return {pair: min(one[pair] for one in rounds) for pair in pairs}


def _clock(layer: nn.Module, shape: tuple[int, ...], engine: str) -> Callable[[], float]:
    """Measures what the layer takes on one input."""
    given = some_input(layer, shape)
    if engine == "torch":
        return lambda: _in_torch(layer, given)
    from converters.passes.quantize.trial import trial

    opened = trial(engine, graph(layer, given), "fp32")

    def taken() -> float:
        profile = opened.profile({"x": given.numpy()})
        return sum(time for name, time in profile.items() if "eorder" not in name and "onvert" not in name)

    return taken


def _in_torch(layer: nn.Module, given: torch.Tensor) -> float:
    """The lower quartile of some runs."""
    import time

    module, times = Alone(layer).eval(), []
    with torch.inference_mode():
        for _ in range(40):
            start = time.perf_counter()
            module(given)
            times.append(time.perf_counter() - start)
    return float(np.percentile(times[10:], 25) * 1e6)
