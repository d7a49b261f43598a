"""Pruning, recovery and int8 on Fashion-MNIST: what each buys, and what it costs.

Needs the four files of Fashion-MNIST (FOLDER), which are not part of this repository. The recipe fashion_cnn is
pruned by 50 and 70 % of its multiply-adds, with and without recovery (of at most five minutes), and quantized;
accuracy is that of all 10,000 test pictures. Latencies are of sessions measured side by side, each started three
times. Writes pruning.md.

    python benchmarks/pruning.py --data FOLDER [--minutes 5]       # about twenty minutes
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from options import add_data, option_parser, required
from pass_marks import PRUNED, PRUNED_INT8_SPEEDUP

import burnish
from converters.build.build import build
from converters.plan.load import load_recipe
from converters.user_code import call_factory
from runtimes.artifact.artifact import Artifact
from runtimes.machine import machine
from runtimes.results import Accuracy, Build, Row
from runtimes.validator.accuracy import paired
from runtimes.validator.defaults import BENCH_HALF_WIDTH, BENCH_LAUNCHES
from runtimes.validator.host import default_options, start
from runtimes.validator.speed import speed
from runtimes.validator.speed.ratio import Times, summarize

HERE = Path(__file__).parent
PAGE = HERE / "pruning.md"
SECONDS = 3.0  # of timing, for each session in each launch

RECIPE = """\
extends: {base}
model: python:fashion_cnn.net:build
data:
  training: {{factory: "python:fashion_cnn.data:samples", args: {{folder: {data}, split: train}}}}
  calibration: {{arrays: null, factory: "python:fashion_cnn.data:samples", args: {{folder: {data}}}, samples: 300}}
gates: {{accuracy_drop: 100 points, parent_speedup: 0}}
artifacts:
{artifacts}"""

PASSES = {
    "": [],
    "50 magnitude": ["{prune: {structured: 0.5}}"],
    "70 magnitude": [
        "{prune: {structured: 0.7, round_to: 16}}"
    ],  # int8 kernels take sixteen channels at once
    "50": ["{prune: {structured: 0.5}}", "{recover: RECOVER}"],
    "70": ["{prune: {structured: 0.7, round_to: 16}}", "{recover: RECOVER}"],
}


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    row: Row
    manifest: Any
    accuracy: Accuracy
    median_ms: float
    ratio: float
    ci95: tuple[float, float]


def wanted(recover: str) -> str:
    """The artifacts of the recipe as YAML."""
    lines = [
        "  torchscript: null",
        "  tensorrt: null",
        "  tensorrt-int8: null",
    ]  # of the recipe that is extended
    for engine in ("onnx", "openvino"):
        for name, passes in PASSES.items():
            for quantized in (False, True):
                every = [*passes, *(["{quantize: int8}"] if quantized else [])]
                title = "-".join([engine, *name.split(), *(["int8"] if quantized else [])])
                text = ", ".join(every).replace("RECOVER", recover)
                precision = ", precision: bf16" if engine == "openvino" and quantized else ""
                lines.append(f"  {title}: {{format: {engine}{precision}, passes: [{text}]}}")
    return "\n".join(lines) + "\n"


def measure(folder: Path, rows: Sequence[Row], base: str, data: str) -> dict[str, Line]:
    """The accuracy of each artifact, and its speed in a pair with `base`."""
    test = call_factory(
        "fashion_cnn.data:samples", {"folder": data, "split": "test"}, HERE.parent / "configs", ""
    )
    images, labels = test.images, test.labels
    eager = classes(
        folder / base, images
    )  # float32 ONNX decides as eager does: that is what its parity proves
    launches = [launch(folder, rows) for _ in range(BENCH_LAUNCHES)]
    found = {}
    for row in rows:
        path = folder / row.name
        judged = paired(classes(path, images), eager, labels.astype(np.int64))
        theirs = [one[base] for one in launches] if row.name != base else []
        taken = summarize([one[row.name] for one in launches], theirs)
        ratio, ci95 = taken.speedup or 1.0, taken.ci95 or (1.0, 1.0)
        manifest = Artifact.open(path).manifest
        found[row.name] = Line(
            row, manifest, judged, taken.median_ms or 0.0, ratio, ci95 if theirs else (1.0, 1.0)
        )
        print(
            f"  {row.name}: {found[row.name].ratio:.2f}x {base}, {judged.artifact:.2%}", flush=True
        )
    return found


def launch(folder: Path, rows: Sequence[Row]) -> dict[str, Times]:
    """The times of new sessions, which take turns."""
    with contextlib.ExitStack() as stack:
        children = {}
        for row in rows:
            artifact = Artifact.open(folder / row.name)
            children[row.name] = start(artifact, "cpu", default_options())
            stack.callback(children[row.name].kill)
        print(f"  timing {len(children)} sessions", flush=True)
        return speed.collect(children, SECONDS, width=BENCH_HALF_WIDTH).times


def classes(path: Path, images: Any) -> Any:
    """The class that an artifact gives each picture [N], in batches of its largest size."""
    session = burnish.load(path)
    size = Artifact.open(path).manifest.dims["batch"].max
    parts = [
        images[start : start + size].astype(np.float32) for start in range(0, len(images), size)
    ]
    return np.concatenate([session.run({"image": part})["logits"].argmax(1) for part in parts])


def cells(one: Line, whole: Line) -> str:
    """A row of the table."""
    build, was, accuracy = one.manifest.build, whole.manifest.build, one.accuracy
    low, high = accuracy.ci95
    shares = [build[key] / was[key] for key in ("parameters", "flops")]
    parts = [
        one.row.name,
        *(f"{share:.0%}" for share in shares),
        f"{(one.row.size_bytes or 0) / 1e6:.2f}",
        f"{accuracy.artifact:.2%}",
        f"{accuracy.drop:+.2%} ({low:+.2%} to {high:+.2%})",
        f"{one.median_ms:.3f}",
        f"{one.ratio:.2f}x ({one.ci95[0]:.2f}-{one.ci95[1]:.2f})",
    ]
    return f"| {' | '.join(parts)} |"


def verdicts(found: dict[str, Line]) -> list[str]:
    """Requirements of the artifacts, and whether they hold."""

    def fastest(names: Sequence[str]) -> str:
        return max(names, key=lambda name: found[name].ratio)

    lines = []
    for name, base, gain, most in PRUNED:
        one, drop = found[name], found[name].accuracy.drop
        held = "yes" if one.ci95[1] >= gain and drop <= most else "**no**"
        lines.append(
            f"| {name} over {base} | {one.ratio:.2f}x | {gain}x | {drop:.2%} | {most:.1%} | {held} |"
        )
    pruned = fastest([name for name in found if name.endswith("-70-int8")])
    whole = fastest([name for name in found if name in ("onnx-int8", "openvino-int8")])
    gain = found[pruned].ratio / found[whole].ratio
    held = "yes" if gain >= PRUNED_INT8_SPEEDUP else "**no**"
    compared = f"{gain:.2f}x | {PRUNED_INT8_SPEEDUP:g}x | {found[pruned].accuracy.drop:.2%}"
    return [*lines, f"| {pruned} over {whole} | {compared} | | {held} |"]


def page(found: dict[str, Line], minutes: float) -> str:
    """The report as Markdown."""
    here, whole = machine.describe(), found["onnx"]
    versions = ", ".join(
        f"{one} {here['versions'][one]}" for one in ("torch", "onnxruntime", "openvino", "nncf")
    )
    lines = [
        "# Pruning, recovery, int8: what each buys", "",
        f"Made by `python benchmarks/pruning.py` on {here['cpu']}, {here['cores']} cores; {versions}. The recipe "
        f"fashion_cnn: {whole.manifest.build['parameters']:,} parameters, "
        f"{whole.manifest.build['flops'] / 2e6:.0f} M multiply-adds; batch 1; accuracy on the 10,000 test "
        "pictures of Fashion-MNIST; recovery of at most "
        f"{minutes:g} minutes without labels. `magnitude`: pruned, nothing recovered.", "",
        "| artifact | parameters | multiply-adds | MB | accuracy | lost (95 %) | median ms | over onnx (95 %) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(cells(one, whole) for one in found.values()), "",
        "| | faster | asked | lost | at most | held |",
        "| --- | --- | --- | --- | --- | --- |",
        *verdicts(found), "",
        *(f"- {name}: {note}" for name, one in found.items() for note in one.row.notes if "recovered" in note), "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Build, measure, write the page."""
    files = "a folder of the four files of Fashion-MNIST"
    parser = option_parser(__doc__)
    add_data(parser, files)
    parser.add_argument("--minutes", type=float, default=5.0, help="of recovery; default: 5")
    parser.add_argument(
        "--recover", default="", help="more options of the pass, as in `augment: [flip]`"
    )
    parser.add_argument(
        "--build", type=Path, help="keep the build here; one that is there is only measured"
    )
    asked = parser.parse_args()
    pictures = required(parser, "--data", asked.data, files)
    recover = (
        "{"
        + ", ".join([f"minutes: {asked.minutes}", *([asked.recover] if asked.recover else [])])
        + "}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        base = HERE.parent / "configs"
        recipe = base / "fashion_cnn.yaml"
        text = RECIPE.format(base=recipe, data=json.dumps(str(pictures)), artifacts=wanted(recover))
        path = Path(scratch) / "pruning.yaml"
        (Path(scratch) / "fashion_cnn").symlink_to(base / "fashion_cnn")
        path.write_text(text, encoding="utf-8")
        folder = asked.build or Path(scratch) / "build"
        if (folder / "build.json").exists():
            made = Build.read(folder)
        else:
            made = build(
                load_recipe(path),
                folder,
                budget=0,
                progress=lambda told: print(" ", told, flush=True),
            )
        for row in made.artifacts:
            print(row.name, row.status, row.reason or "", flush=True)
        found = measure(folder, made.artifacts, "onnx", str(pictures))
    PAGE.write_text(page(found, asked.minutes), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
