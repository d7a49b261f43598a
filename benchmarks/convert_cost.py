"""What Burnish itself costs: seconds to answer, and the time and peak memory of a whole conversion.

Memory is the sum of the proportional set sizes (PSS: shared pages counted once) of the whole process tree,
sampled ten times a second. Writes convert_cost.md beside this file.

    python benchmarks/convert_cost.py [RECIPE ...]      # default: resnet18; two minutes on an idle machine
"""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from runtimes import machine

PAGE = Path(__file__).with_suffix(".md")
REPEATS = 7
BURNISH = [sys.executable, "-c", "from burnish.cli import main; main()"]


def seconds(command: list[str], code: int) -> float:
    """Median wall time of a short command that must end with `code`."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, check=False)
        times.append(time.perf_counter() - start)
        if done.returncode != code:
            raise SystemExit(f"{command} ended with {done.returncode}, not {code}: {done.stderr.decode()}")
    return statistics.median(times)


def tree_pss(process: psutil.Process) -> int:
    """Bytes that a process and its descendants hold, shared pages counted once."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            total += one.memory_full_info().pss
    return total


def convert(recipe: str) -> tuple[float, float, float, int]:
    """A conversion into an empty folder: wall seconds, the validator's seconds, peak bytes, exit code."""
    folder = tempfile.mkdtemp()
    start, peak = time.perf_counter(), 0
    try:
        child = subprocess.Popen([*BURNISH, "convert", recipe, "-q", "-o", f"{folder}/build"])
        process = psutil.Process(child.pid)
        while child.poll() is None:
            with contextlib.suppress(psutil.Error):
                peak = max(peak, tree_pss(process))
            time.sleep(0.1)
        wall = time.perf_counter() - start
        build = json.loads(Path(folder, "build", "build.json").read_text(encoding="utf-8"))
        return wall, build["seconds"]["validate"], peak, child.returncode
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Measure and write the page."""
    with tempfile.TemporaryDirectory() as folder:
        wrong = Path(folder, "wrong.yaml")
        wrong.write_text("model: torchvision:resnet81\nartifact: {onnx: {}}\n", encoding="utf-8")
        rows = [
            ("`burnish --help`", seconds([*BURNISH, "--help"], 0), "0.3 s"),
            ("an error in a recipe", seconds([*BURNISH, "convert", str(wrong)], 2), "0.7 s"),
        ]
    lines = ["| what | measured | asked |", "| --- | --- | --- |"]
    lines += [f"| {name} | {value:.2f} s | {limit} |" for name, value, limit in rows]
    for recipe in sys.argv[1:] or ["resnet18"]:
        wall, validator, peak, code = convert(recipe)
        lines.append(f"| `burnish convert {recipe}` (exit {code}), into an empty folder | {wall:.1f} s | 60 s |")
        lines.append(f"| of which the validator | {validator:.1f} s | 30 s |")
        lines.append(f"| peak memory of all its processes (PSS) | {peak / 1e9:.2f} GB | 3 GB |")
    here = machine.describe()
    head = [
        "# What Burnish itself costs",
        "",
        f"Made by `python benchmarks/convert_cost.py` on {here['cpu']}, {here['cores']} cores.",
        "",
    ]
    PAGE.write_text("\n".join(head + lines) + "\n", encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
