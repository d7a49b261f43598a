"""Pruning by measured latency beside pruning by multiply-adds: which is faster at the same accuracy.

The same model is pruned by several shares of each; every pruned model learns from the original for the same time.
The latency that `of: macs` has at the accuracy of a point of `of: latency` is interpolated between its own points.
Needs Fashion-MNIST and labelled pictures, which are not part of this repository: says so and ends where they are
missing. Writes pruning_latency.md.

    python benchmarks/pruning_latency.py [MODEL...] [--minutes 1]       # about twenty minutes a model
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from burnish.bench import bench
from converters.build import build
from converters.recipe import load_recipe
from runtimes import machine
from runtimes.results import Row

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared" / "data"
PAGE, ROWS = HERE / "pruning_latency.md", HERE / "pruning_latency.json"
SECONDS = 9.0  # of timing, for each pair of sessions

DATA = {
    "fashion_cnn": """\
  training: {{factory: "python:fashion_cnn.data:samples", args: {{folder: {data}, split: train}}, samples: 20000}}
  calibration: {{arrays: null, random: 0}}
  evaluation:
    {{arrays: null, labels: null, factory: "python:fashion_cnn.data:samples", args: {{folder: {data}, split: test}},
      samples: 4000}}
""",
    "mobilenet_v2": """\
  training: {{images: {data}, samples: 100}}
  evaluation: {{images: {data}, samples: 400, labels: prefix}}
""",
}
FOLDERS = {"fashion_cnn": "FashionMNIST/raw", "mobilenet_v2": "imagenet-500"}
SHARES = {
    "fashion_cnn": {"macs": (0.5, 0.65, 0.8), "latency": (0.35, 0.5, 0.65)},
    "mobilenet_v2": {"macs": (0.05, 0.1, 0.2), "latency": (0.03, 0.06, 0.12)},
}
RECIPE = """\
extends: {base}
data:
{data}
gates: {{accuracy_drop: 1, parent_speedup: 0}}
artifacts:
{unwanted}
  onnx: {{}}
{artifacts}"""


@dataclass(frozen=True)
class Point:
    """A pruned artifact: how accurate it is, and how many times as fast as the whole one."""

    of: str
    share: float
    accuracy: float
    agreement: float
    speedup: float
    ci95: tuple[float, float]
    macs: float


def recipe(model: str, folder: Path, minutes: float, scratch: Path) -> Path:
    """Write the recipe of one model."""
    base = HERE.parent / "configs" / f"{model}.yaml"
    lines = [
        f"  {of}-{share}: {{format: onnx, passes: [{{prune: {{structured: {share}, of: {of}, most: 0.9}}}}, "
        f"{{recover: {{minutes: {minutes}, epochs: 1000, batch: 32, patience: 1000}}}}]}}"
        for of, shares in SHARES[model].items()
        for share in shares
    ]
    own = load_recipe(base).artifacts
    unwanted = "\n".join(f"  {one.name}: null" for one in own if one.name != "onnx")
    data = DATA[model].format(data=json.dumps(str(folder)))
    text = RECIPE.format(base=base, data=data, unwanted=unwanted, artifacts="\n".join(lines) + "\n")
    path = scratch / f"{model}.yaml"
    path.write_text(text, encoding="utf-8")
    for beside in (HERE.parent / "configs").iterdir():
        if beside.is_dir() and not (scratch / beside.name).exists():
            (scratch / beside.name).symlink_to(beside)
    return path


def point(row: Row, folder: Path) -> Point:
    """What one artifact is worth."""
    accuracy = row.parity.accuracy
    assert accuracy is not None  # the evaluation data has labels
    path = folder / row.name
    pair = bench(path, folder / "onnx" if row.name != "onnx" else None, None, SECONDS)[str(path)]
    of, _, share = row.name.partition("-")
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    return Point(of, float(share or 0), accuracy.artifact, row.parity.top1_agreement or 0.0, pair.speedup or 1.0,
                 pair.ci95 or (1.0, 1.0), manifest["build"]["flops"] / 2)  # fmt: skip


def section(model: str, points: Sequence[Point], minutes: float) -> list[str]:
    """The page's part on one model."""
    whole = next(one for one in points if one.of == "onnx")
    macs = sorted((one for one in points if one.of in ("onnx", "macs")), key=lambda one: one.agreement)
    lines = [
        f"## {model}", "", f"Recovery of {minutes:g} minutes for each. ONNX Runtime, batch 1.", "",
        "| pruned of | share | multiply-adds left | accuracy | agreement | over the whole (95 %) | "
        "`of: macs` at this agreement | gain |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for one in points:
        beside = gain = ""
        if one.of == "latency":
            # Times, not speed-ups, are what is linear in the work that is left.
            times = np.interp(one.agreement, [p.agreement for p in macs], [1 / p.speedup for p in macs])
            beside, gain = f"{1 / times:.2f}x", f"{one.speedup * times:.2f}x"
        low, high = one.ci95
        lines.append(
            f"| {one.of} | {one.share:g} | {one.macs / whole.macs:.0%} | {one.accuracy:.2%} | "
            f"{one.agreement:.2%} | {one.speedup:.2f}x ({low:.2f}-{high:.2f}) | {beside} | {gain} |"
        )
    return [*lines, ""]


def main() -> None:
    """Measure the models asked for; sections of the others stay."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("models", nargs="*", default=list(DATA))
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder of FashionMNIST and imagenet-500")
    parser.add_argument("--minutes", type=float, default=1.0)
    asked = parser.parse_args()
    sections = json.loads(ROWS.read_text(encoding="utf-8")) if ROWS.exists() else {}
    for model in asked.models:
        data = (asked.shared / FOLDERS[model]).resolve()
        if not data.is_dir():
            sys.exit(f"skipped: {data.name} is not there")
        with tempfile.TemporaryDirectory() as scratch:
            path = recipe(model, data, asked.minutes, Path(scratch))
            folder = Path(scratch) / "build"
            made = build(load_recipe(path), folder, budget=0, progress=lambda told: print(" ", told, flush=True))
            points = [point(row, folder) for row in made.artifacts]
        sections[model] = section(model, points, asked.minutes)
        ROWS.write_text(json.dumps(sections, indent=1) + "\n", encoding="utf-8")
    here = machine.describe()
    head = [
        "# Pruning by measured latency, beside pruning by multiply-adds", "",
        f"Made by `python benchmarks/pruning_latency.py` on {here['cpu']}, {here['cores']} cores; torch "
        f"{here['versions']['torch']}, onnxruntime {here['versions']['onnxruntime']}. `gain`: how many times as "
        "fast as `of: macs` at the same agreement with the original, interpolated between its points.", "",
    ]  # fmt: skip
    PAGE.write_text("\n".join([*head, *(line for one in DATA for line in sections.get(one, []))]), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
