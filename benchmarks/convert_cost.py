"""Cost of Burnish itself: seconds to answer, time and peak memory of a conversion and of a repetition.

Memory is the sum of the proportional set sizes (PSS: shared pages counted once) of the whole process tree,
sampled ten times a second. Writes convert_cost.md beside this file.

    python benchmarks/convert_cost.py [RECIPE ...]      # default: resnet18; two minutes on an idle machine
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from options import option_parser
from pass_marks import COSTS

from runtimes.machine import machine

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
            raise SystemExit(
                f"{command} ended with {done.returncode}, not {code}: {done.stderr.decode()}"
            )
    return statistics.median(times)


def tree_pss(process: psutil.Process) -> int:
    """Bytes that a process and its descendants hold, shared pages counted once."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            total += one.memory_full_info().pss
    return total


TEN = """\
model: torchvision:resnet18
weights: random:0
inputs: {image: {shape: [batch, 3, 224, 224]}}
dims: {batch: {min: 1, max: 4}}
artifacts:
  torchscript: {}
  openvino: {}
"""


def ten_artifacts(folder: Path) -> list[str]:
    """Rows on a build of ten artifacts: cold, unchanged, with one of them changed. No timing, which has its own."""
    recipe = folder / "ten.yaml"
    onnx = "".join(f"  onnx-{opset}: {{format: onnx, opset: {opset}}}\n" for opset in range(14, 22))
    recipe.write_text(TEN + onnx, encoding="utf-8")
    command = [*BURNISH, "convert", str(recipe), "-q", "--no-speed", "-o", str(folder / "ten")]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}

    def took(*more: str) -> tuple[float, dict[str, float]]:
        start = time.perf_counter()
        subprocess.run([*command, *more], check=True, env=environment)
        wall = time.perf_counter() - start
        build = json.loads((folder / "ten" / "build.json").read_text(encoding="utf-8"))
        return wall, build["seconds"]

    cold, steps = took()
    again = statistics.median(took()[0] for _ in range(REPEATS))
    changed, ran = took("--set", "artifacts.onnx-21.opset=22")
    names = sorted(set(ran) - {"total", "validate", "isolation", "server"})
    return [
        f"| ten artifacts of ResNet-18, cold, numbers judged | {cold:.1f} s | |",
        f"| of which processes of their own cost the steps | {steps['isolation']:.2f} s, "
        f"{steps['isolation'] / cold:.1%} | {COSTS['isolation']} |",
        f"| the same recipe again, unchanged | {again:.2f} s | {COSTS['unchanged']} |",
        f"| one artifact of the ten changed: ran {', '.join(names)} | {changed:.1f} s | |",
    ]


def convert(recipe: str) -> tuple[float, float, float, int]:
    """A conversion into an empty folder: wall seconds, the validator's seconds, peak bytes, exit code."""
    folder = tempfile.mkdtemp()
    start, peak = time.perf_counter(), 0
    try:
        environment = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache"}
        child = subprocess.Popen(
            [*BURNISH, "convert", recipe, "-q", "-o", f"{folder}/build"], env=environment
        )
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
    parser = option_parser(__doc__)
    parser.add_argument(
        "recipes", nargs="*", default=["resnet18"], metavar="RECIPE", help="default: resnet18"
    )
    recipes = parser.parse_args().recipes
    with tempfile.TemporaryDirectory() as folder:
        wrong = Path(folder, "wrong.yaml")
        wrong.write_text("model: torchvision:resnet81\nartifact: {onnx: {}}\n", encoding="utf-8")
        rows = [
            ("`burnish --help`", seconds([*BURNISH, "--help"], 0), COSTS["help"]),
            (
                "an error in a recipe",
                seconds([*BURNISH, "convert", str(wrong)], 2),
                COSTS["recipe error"],
            ),
        ]
    lines = ["| what | measured | asked |", "| --- | --- | --- |"]
    lines += [f"| {name} | {value:.2f} s | {limit} |" for name, value, limit in rows]
    for recipe in recipes:
        wall, validator, peak, code = convert(recipe)
        command = f"`burnish convert {recipe}` (exit {code}), into an empty folder"
        lines.append(f"| {command} | {wall:.1f} s | {COSTS['convert']} |")
        lines.append(f"| of which the validator | {validator:.1f} s | {COSTS['validator']} |")
        lines.append(
            f"| peak memory of all its processes (PSS) | {peak / 1e9:.2f} GB | {COSTS['memory']} |"
        )
    with tempfile.TemporaryDirectory() as folder:
        lines += ten_artifacts(Path(folder))
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
