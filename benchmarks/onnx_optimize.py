"""Gain of ONNX Runtime's graph optimizations if they are done ahead of time (`optimize:` of `format: onnx`).

Start: each graph is loaded in a new process each time, in random order. Run: sessions that live in processes
of their own take turns. All ratios are to the graph as it was exported, of the same run, with 95 % intervals.
Writes onnx_optimize.md beside this file.

    python benchmarks/onnx_optimize.py [CASE...] [--starts N] [--seconds S] [--page FILE]   # about half an hour
"""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from onnx_sessions import GraphOpener, StartHost
from options import option_parser

from converters.build.build import build
from converters.plan.load import load_recipe
from runtimes.artifact.artifact import Artifact
from runtimes.machine import machine
from runtimes.process.process import Child
from runtimes.results import Build, Speed
from runtimes.session import SessionOptions
from runtimes.validator import defaults
from runtimes.validator.speed import speed
from runtimes.validator.speed.pace import Pace
from runtimes.validator.speed.ratio import summarize

PAGE = Path(__file__).with_suffix(".md")
CASES = {
    "resnet18": ("resnet18", ""),
    "mobilenet_v2": ("mobilenet_v2", ""),
    "vit_b_16": ("vit_b_16", ""),
    "mobilenet_v2 in int8": ("mobilenet_v2", ", passes: [{quantize: int8}]"),
}
LEVELS = ("none", "basic", "extended", "all")
# What each graph is loaded with: all optimizations, as ONNX Runtime does by default, or none of them.
ROWS = [
    *((level, "ENABLE_ALL") for level in LEVELS),
    *((level, "DISABLE_ALL") for level in LEVELS[1:]),
]
BASE = ROWS[0]
STARTS = 20
SECONDS = 4.0  # of timing, for each session in each launch

RECIPE = """\
model: torchvision:{model}
weights: random:0
inputs: {{image: {{shape: [batch, 3, 224, 224]}}}}
outputs: [logits]
dims: {{batch: {{min: 1, opt: 1, max: 4}}}}
data: {{calibration: {{random: 0, samples: 16}}}}
artifacts:
{artifacts}
"""

Row = tuple[str, str]
Openers = Mapping[Row, GraphOpener]


@dataclass(frozen=True)
class Measured:
    """One row: creating the session, creation and first answer, run; each with its ratio to the base."""

    created: Speed
    first: Speed
    run: Speed


def made(model: str, options: str, folder: Path) -> Build:
    """The model's graph at every level, judged by its numbers."""
    artifacts = "\n".join(
        f"  {level}: {{format: onnx, optimize: {level}{options}}}" for level in LEVELS
    )
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=model, artifacts=artifacts), encoding="utf-8")
    return build(
        load_recipe(recipe),
        folder / "build",
        budget=0,
        progress=lambda text: print(" ", text, flush=True),
    )


def starts(openers: Openers, count: int) -> dict[Row, list[tuple[float, float]]]:
    """Seconds of creation, and of that and the first answer, `count` times for each row, in turn."""
    found: dict[Row, list[tuple[float, float]]] = {row: [] for row in openers}
    shuffle, pace, patience = random.Random(0), Pace(), defaults.PATIENCE_SECONDS
    for _ in range(count):
        for row in shuffle.sample(list(openers), len(openers)):
            _, waited = pace.wait(patience)
            patience = max(0.0, patience - waited)
            child = Child(partial(StartHost, openers[row]), what=" ".join(row))
            try:
                found[row].append(child.call("started", timeout=defaults.REQUEST_SECONDS))
            finally:
                child.kill()
    return found


def runs(openers: Openers, seconds: float) -> list[speed.Collected]:
    """The times of all sessions, which take turns; all are started several times."""
    found = []
    for _ in range(defaults.BENCH_LAUNCHES):
        with contextlib.ExitStack() as stack:
            children = {}
            for row, opener in openers.items():
                children[" ".join(row)] = child = Child(
                    partial(StartHost, opener), what=" ".join(row)
                )
                stack.callback(child.kill)
            found.append(
                speed.collect(children, seconds, " ".join(BASE), width=defaults.BENCH_HALF_WIDTH)
            )
        for name, error in found[-1].failed.items():
            raise SystemExit(f"{name}: {error}")
    return found


def measure(openers: Openers, count: int, seconds: float) -> dict[Row, Measured]:
    """Every row beside the base."""
    started, launches = starts(openers, count), runs(openers, seconds)
    usual = all(one.usual for one in launches)

    def start(row: Row, which: int) -> Speed:
        mine, base = ([[times[which]] for times in started[one]] for one in (row, BASE))
        return summarize([mine], [base] if row != BASE else [])

    def run(row: Row) -> Speed:
        mine, base = ([one.times[" ".join(name)] for one in launches] for name in (row, BASE))
        return summarize(mine, base if row != BASE else [], usual)

    return {row: Measured(start(row, 0), start(row, 1), run(row)) for row in openers}


def cells(found: Speed) -> str:
    """The median in ms, and how many times as fast as the base."""
    low, high = found.ci95 or (1.0, 1.0)
    ratio = "" if found.speedup is None else f"{found.speedup:.2f}x ({low:.2f}-{high:.2f})"
    return f"{found.median_ms:.4g} | {ratio}"


def section(case: str, count: int, seconds: float) -> list[str]:
    """The page's part on one case."""
    model, options = CASES[case]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found = made(model, options, folder)
        artifacts = {level: Artifact.open(folder / "build" / level) for level in LEVELS}
        threads = SessionOptions(threads=len(machine.cores()))
        openers = {row: GraphOpener(artifacts[row[0]].entry, row[1], threads) for row in ROWS}
        measured = measure(openers, count, seconds)
        megabytes = {level: one.size_bytes / 1e6 for level, one in artifacts.items()}
    judged = ", ".join(
        f"{row.name} {row.status}, {row.parity.noise or 0:.2f}x noise" for row in found.artifacts
    )
    rows = [
        f"| {row[0]} | {'all' if row[1] == 'ENABLE_ALL' else 'none'} | {megabytes[row[0]]:.1f} | "
        f"{cells(one.created)} | {cells(one.first)} | {cells(one.run)} |"
        for row, one in measured.items()
    ]
    return [
        f"## {case}", "", f"Numbers: {judged}.", "",
        "| optimize | at load | MB | creation ms | ratio | and first answer ms | ratio | run ms | ratio |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |", *rows, "",
    ]  # fmt: skip


def main() -> None:
    """Measure the cases asked for and write the page."""
    parser = option_parser(__doc__)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], default=list(CASES))
    parser.add_argument(
        "--starts", type=int, default=STARTS, help="How often each graph is loaded."
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="Of timing, for each session and launch."
    )
    parser.add_argument("--page", type=Path, default=PAGE)
    asked = parser.parse_args()
    here = machine.describe()
    lines = [
        "# ONNX Runtime's graph optimizations, ahead of time", "",
        f"Made by `python benchmarks/onnx_optimize.py` on {here['cpu']}, {here['cores']} cores "
        f"({', '.join(here['isa'])}); onnxruntime {here['versions']['onnxruntime']}. Random weights, batch 1. "
        f"Creation: medians of {asked.starts} processes each. Ratios: how many times as fast as the graph as it "
        "was exported (the first row), with their 95 % intervals. At load: what ONNX Runtime optimizes then. "
        "Burnish loads `all` with none, the others with all.", "",
    ]  # fmt: skip
    for case in asked.cases:
        print(case, flush=True)
        lines += section(case, asked.starts, asked.seconds)
    asked.page.write_text("\n".join(lines), encoding="utf-8")
    print(asked.page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
