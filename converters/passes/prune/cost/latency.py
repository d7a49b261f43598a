"""Latency of each layer, measured in an engine at some widths: the cost model of `of: latency`.

Multiply-adds do not predict it: a layer of a quarter of the operations may take half of the time,
or all of it. So each layer is run alone at some widths of its inputs and outputs, and the engine's
profiler reports its time; the reordering of a graph's inputs does not count.

Between the measured widths time is interpolated from block to block: kernels take as many channels
at once as their vectors hold, and eight more than a block may cost as much as a whole block more.
Whether they do is measured too.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
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
"""Channels that kernels take at once, at most: as many floats as the widest CPU vectors hold."""
_WHOLE = 0.75  # if half a block costs more than this share of it, kernels take it whole
_GRID = (
    0.01,
    1 / 3,
    2 / 3,
    1.0,
)  # shares of a width at which it is measured, rounded up to whole blocks
_ROUNDS = 3  # each width is measured so often, apart: the fastest time is the least disturbed
# Steps that are compared: a narrower layer may take as long, or longer than an even narrower one
_AHEAD = 4
_FILE = "tables.json"


@dataclass(frozen=True)
class Axis:
    """One side of a layer: the measured widths, the whole one last; the block of its kernels."""

    widths: tuple[int, ...]
    block: int

    @classmethod
    def of(cls, width: int, block: int) -> Axis:
        """Choose the widths to measure: one block, the whole, and two between."""
        widths = {min(width, block * math.ceil(width * share / block)) for share in _GRID}
        return cls(tuple(sorted(widths)), block)

    def at(self, share: float) -> int:
        """Return the width that takes as long as this share: its last block counts as full."""
        return self.block * math.ceil(share * self.widths[-1] / self.block - 1e-6)


@dataclass(frozen=True)
class Table:
    """Microseconds of a layer [inputs, outputs] at the widths of its axes; bilinear in between."""

    ins: Axis
    outs: Axis
    times: np.ndarray[Any, Any]

    def __call__(self, ins: float, outs: float) -> float:
        """Return the time if these shares of inputs and outputs are left.

        Below the least measured width it is that one's.
        """
        width = self.outs.at(outs)
        rows = [float(np.interp(width, self.outs.widths, row)) for row in self.times]
        return float(np.interp(self.ins.at(ins), self.ins.widths, rows))


@dataclass(frozen=True)
class _Kind:
    """A layer with its input shape, and the properties of layers with the same kernels."""

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


def latency_costs(module: nn.Module, run: Run, engine: str, store: Store | None = None) -> Costs:
    """Measure the time of each layer in an engine, as a function of its widths.

    Args:
        module: the module.
        run: a forward pass at the sizes to be fastest at.
        engine: onnx, openvino or torch.
        store: keeps the tables, so that several prunings of a model use the same ones.
    """
    signatures: dict[str, str] = {}
    kinds: dict[str, _Kind] = {}
    for name, shape in _input_shapes(module, run).items():
        kind = _Kind(module.get_submodule(name), shape)
        signatures[name] = f"{kind.layer} {kind.shape}"
        kinds[signatures[name]] = kind
    tables = _tables(kinds, engine, store)
    layers = {name: tables[signature] for name, signature in signatures.items()}
    return Costs(sum(table(1, 1) for table in layers.values()), layers, _AHEAD)


def _input_shapes(module: nn.Module, run: Run) -> dict[str, tuple[int, ...]]:
    """Return the input shape of each layer; the layers of an attention are a part of it."""
    shapes: dict[str, tuple[int, ...]] = {}

    def recorder(name: str) -> Callable[..., None]:
        def record(layer: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            shapes[name] = tuple(next(iter((*args, *kwargs.values()))).shape)

        return record

    projections, hooks = set[str](), []
    for name, part in module.named_modules():  # an attention comes before its projection
        if isinstance(part, HeadAttention):
            projections.add(f"{name}.out_proj")
        if is_layer(part) and name not in projections:
            hooks.append(part.register_forward_hook(recorder(name), with_kwargs=True))
    with torch.no_grad():
        run(module)
    for hook in hooks:
        hook.remove()
    return shapes


_Measured = tuple[list[list[float]], list[int]]
"""Of a layer: microseconds [inputs, outputs], and the blocks of both sides."""


def _tables(kinds: Mapping[str, _Kind], engine: str, store: Store | None) -> dict[str, Table]:
    """Return the tables from the store, or measure them and put them there."""
    described, key = machine.describe(), Key()
    hardware = (described["cpu"], described["isa"], described["cores"])
    for part in (engine, *hardware, json.dumps(machine.versions()), *kinds):
        key.add("part", str(part))
    key.add("code", source_digest(__name__))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "tables")
        if store and store.get(key.hex(), folder, tell):
            tell(f"latencies of the layers in {engine}: cache hit")
            raw = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        else:
            raw = _measure(kinds, engine)
            folder.mkdir()
            (folder / _FILE).write_text(json.dumps(raw), encoding="utf-8")
            if store:
                store.put(key.hex(), folder)
    return {name: _table(kind, *raw[name]) for name, kind in kinds.items()}


def _table(kind: _Kind, times: list[list[float]], blocks: Sequence[int]) -> Table:
    ins, outs = kind.axes
    # Noise must not make a narrower layer the slower one: no more units, no more time.
    rising = np.maximum.accumulate(np.maximum.accumulate(np.array(times), axis=0), axis=1)
    return Table(Axis(ins.widths, blocks[0]), Axis(outs.widths, blocks[1]), rising)


def _measure(kinds: Mapping[str, _Kind], engine: str) -> dict[str, _Measured]:
    """Measure each kind of layer, by signature."""
    times: dict[str, list[list[float]]] = {}
    rises: dict[tuple[str, int], np.ndarray[Any, Any]] = {}
    pace, patience = Pace(), PATIENCE_SECONDS
    for number, (name, kind) in enumerate(counted(kinds.items(), "layers"), 1):
        tell(f"measuring layer {number} of {len(kinds)} in {engine}")
        patience -= pace.wait(patience)[1]
        ins, outs = kind.axes
        whole_in, whole_out = ins.widths[-1], outs.widths[-1]
        sides = (
            [(width, whole_out) for width in _half_a_block(ins)],
            [(whole_in, width) for width in _half_a_block(outs)],
        )
        grid = list(product(ins.widths, outs.widths))
        fastest = _fastest(kind, list(dict.fromkeys([*grid, *sides[0], *sides[1]])), engine)
        times[name] = np.reshape([fastest[pair] for pair in grid], (len(ins.widths), -1)).tolist()
        for side, pairs in enumerate(sides):
            if pairs:
                low, middle, high = map(fastest.__getitem__, pairs)
                rise = np.array([middle - low, high - low])
                rises[kind.kernel, side] = rises.get((kind.kernel, side), 0) + rise
    return {name: (times[name], _blocks(kind, rises)) for name, kind in kinds.items()}


def _half_a_block(axis: Axis) -> list[int]:
    """Return three widths half a block apart; none if the axis has too few blocks for that."""
    if axis.block < BLOCK or axis.widths[-1] < 3 * BLOCK:
        return []
    upper = axis.widths[-2]
    return [upper - BLOCK, upper - BLOCK // 2, upper]


def _blocks(kind: _Kind, rises: Mapping[tuple[str, int], np.ndarray[Any, Any]]) -> list[int]:
    """Return the blocks of both sides.

    They follow from the cost of half a block and of a whole one, over all layers with the same
    kernels.
    """
    blocks = []
    for side, axis in enumerate(kind.axes):
        half, whole = rises.get((kind.kernel, side), (1.0, 1.0))
        blocks.append(BLOCK // 2 if axis.block == BLOCK and half < _WHOLE * whole else axis.block)
    return blocks


def _fastest(
    kind: _Kind, pairs: Sequence[tuple[int, int]], engine: str
) -> dict[tuple[int, int], float]:
    """Return microseconds at each pair of widths."""
    clocks = {pair: _clock(narrow(kind.layer, *pair), kind.shape, engine) for pair in pairs}
    fastest = dict.fromkeys(pairs, math.inf)
    for _ in range(_ROUNDS):
        for pair, clock in clocks.items():
            fastest[pair] = min(fastest[pair], clock())
    return fastest


def _clock(layer: nn.Module, shape: tuple[int, ...], engine: str) -> Callable[[], float]:
    """Return a function that measures the layer's time on one input."""
    example = some_input(layer, shape)
    if engine == "torch":
        return lambda: _time_in_torch(layer, example)
    from converters.passes.quantize.trial import trial

    opened = trial(engine, graph(layer, example), "fp32")

    def measure() -> float:
        profile = opened.profile({"x": example.numpy()})
        kernels = [
            time for name, time in profile.items() if "eorder" not in name and "onvert" not in name
        ]
        return sum(kernels)

    return measure


def _time_in_torch(layer: nn.Module, example: torch.Tensor) -> float:
    """Return the lower quartile of some runs."""
    import time

    module, times = Alone(layer).eval(), []
    with torch.inference_mode():
        for _ in range(40):
            start = time.perf_counter()
            module(example)
            times.append(time.perf_counter() - start)
    return float(np.percentile(times[10:], 25) * 1e6)
