"""How repeatable a speed ratio is on a machine that is not quiet: Burnish's way beside the naive way.

MobileNetV2's ONNX artifact against its TorchScript one, ten times each, while another process keeps one core
busy half of the time. The naive way: both sessions in one process, a fixed warm-up, the ratio of two means.
Writes repeatability.md beside this file.

    python benchmarks/repeatability.py       # about five minutes
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from options import option_parser

from runtimes.machine import machine
from runtimes.machine.machine import cores
from runtimes.session import SessionOptions, load
from runtimes.validator.probes import synthetic_samples

PAGE = Path(__file__).with_suffix(".md")
RUNS = 10
NAIVE_WARM_UP, NAIVE_RUNS = 10, 100
BUSY_SECONDS = 0.05
BURNISH = [sys.executable, "-c", "from burnish.cli import main; main()"]


def disturb() -> None:
    """Keep one core busy half of the time, until killed."""
    os.sched_setaffinity(0, {cores()[-1]})
    while True:
        end = time.perf_counter() + BUSY_SECONDS
        while time.perf_counter() < end:
            pass
        time.sleep(BUSY_SECONDS)


def bench(artifact: Path, versus: Path) -> float:
    """The ratio by `burnish bench`."""
    command = [*BURNISH, "bench", str(artifact), "--vs", str(versus), "--json", "-q"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return float(found[str(artifact)]["speedup"])


def naive(artifact: Path, versus: Path, pipe: multiprocessing.connection.Connection) -> None:
    """The ratio of two means, both sessions in this process."""
    means = []
    options = SessionOptions(threads=len(cores()))
    with load(artifact, options=options) as mine, load(versus, options=options) as theirs:
        inputs = synthetic_samples(mine.inputs, mine.dims)[0].inputs
        for session in (mine, theirs):
            for _ in range(NAIVE_WARM_UP):
                session.run(inputs)
            times = []
            for _ in range(NAIVE_RUNS):
                start = time.perf_counter()
                session.run(inputs)
                times.append(time.perf_counter() - start)
            means.append(float(np.mean(times)))
    pipe.send(means[1] / means[0])


def naive_run(artifact: Path, versus: Path) -> float:
    """`naive` in a fresh interpreter, as a script would run it."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=naive, args=(artifact, versus, theirs))
    process.start()
    ratio = float(pipe.recv())
    process.join()
    return ratio


def row(name: str, ratios: list[float]) -> str:
    """One line of the table."""
    spread = max(ratios) / min(ratios) - 1
    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return f"| {name} | {statistics.median(ratios):.2f}x | {spread:.1%} | {shown} |"


def main() -> None:
    """Build the artifacts, disturb the machine, measure both ways in turn, write the page."""
    option_parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        build = Path(folder, "mobilenet_v2")
        subprocess.run(
            [*BURNISH, "convert", "mobilenet_v2", "-q", "--no-speed", "-o", str(build)], check=True
        )
        artifact, versus = build / "onnx", build / "torchscript"
        load_process = multiprocessing.get_context("spawn").Process(target=disturb, daemon=True)
        load_process.start()
        try:
            pairs = [(bench(artifact, versus), naive_run(artifact, versus)) for _ in range(RUNS)]
        finally:
            load_process.kill()
    here = machine.describe()
    lines = [
        "# Repeatability of a speed ratio",
        "",
        f"Made by `python benchmarks/repeatability.py` on {here['cpu']}, {here['cores']} cores, while another "
        "process kept one core busy half of the time. MobileNetV2, ONNX against TorchScript, float32, batch 1.",
        "",
        "| way | median ratio | spread (max/min - 1) | the ten ratios |",
        "| --- | --- | --- | --- |",
        row("`burnish bench`", [mine for mine, _ in pairs]),
        row("naive: one process, fixed warm-up, means", [other for _, other in pairs]),
    ]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
