"""Every classification model of torchvision without 30 % of its multiply-adds, as ONNX and TensorRT-RTX engine.

Random weights made non-degenerate (`random:0`), a dynamic batch of 1 to 4. Each artifact is held to the pruned
eager model (parity: the exporter's); how far that is from the original stands beside it (the pass's). Writes
torchvision_pruned.md beside this file.

    python benchmarks/torchvision_pruned.py                     # all that have no row yet: hours on two cores
    python benchmarks/torchvision_pruned.py resnet18 vit_b_16   # these again; other rows stay
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from options import option_parser
from torchvision_models import SIDES, cell

from converters.build.build import build
from converters.plan.load import load_recipe
from converters.sources import torchvision_names
from runtimes.artifact.artifact import Artifact
from runtimes.errors import BurnishError
from runtimes.machine import machine

HERE = Path(__file__).parent
ROWS = HERE / "torchvision_pruned.json"
PAGE = HERE / "torchvision_pruned.md"
SHARE = 0.3
GOOD = ("passed", "built")

RECIPE = """\
model: torchvision:{model}
weights: random:0
inputs:
  image: {{shape: [batch, 3, {side}, {side}]}}
dims:
  batch: {{min: 1, opt: 1, max: 4}}
task: classification
artifacts:
  onnx: {{passes: [{{prune: {{structured: {share}}}}}]}}
  tensorrt: {{flavor: rtx, passes: [{{prune: {{structured: {share}}}}}]}}
"""


def convert(model: str, folder: Path) -> dict[str, Any]:
    """Prune one model, build both artifacts, judge their numbers; no timing."""
    recipe, start = folder / f"{model}.yaml", time.perf_counter()
    text = RECIPE.format(model=model, side=SIDES.get(model, 224), share=SHARE)
    recipe.write_text(text, encoding="utf-8")
    try:
        found = build(load_recipe(recipe), folder / model, budget=0)
        rows: dict[str, Any] = {
            row.name: row.model_dump(mode="json", include={"status", "reason", "parity"})
            for row in found.artifacts
        }
        if (folder / model / "onnx").exists():
            rows["prune"] = Artifact.open(folder / model / "onnx").manifest.build["passes"][0][
                "prune"
            ]
    except BurnishError as error:
        rows = {"error": str(error)}
    finally:
        shutil.rmtree(folder / model, ignore_errors=True)
    return {**rows, "seconds": time.perf_counter() - start}


def line(model: str, found: dict[str, Any]) -> str:
    """A row of the table."""
    pruned = found.get("prune")
    left = ["", ""]
    if pruned:
        left = [
            f"{pruned['after'][name] / pruned['before'][name]:.1%}"
            for name in ("macs", "parameters")
        ]
    sqnr = found.get("onnx", {}).get("parity", {}).get("original_sqnr_db")
    bad = [
        one
        for name in ("onnx", "tensorrt")
        if (one := found.get(name, {})).get("status") not in GOOD
    ]
    reasons = [found.get("error"), *(one.get("reason") for one in bad)]
    why = " ".join(" / ".join(one for one in reasons if one).split())[:300].replace("|", "\\|")
    cells = [
        cell(found.get("onnx")),
        cell(found.get("tensorrt")),
        f"{sqnr:.1f}" if sqnr is not None else "",
    ]
    return f"| {model} | {' | '.join([*left, *cells])} | {found['seconds']:.0f} | {why} |"


def page(rows: dict[str, Any]) -> str:
    """The table as Markdown."""
    here = machine.describe()
    versions = ", ".join(f"{name} {here['versions'][name]}" for name in
                         ("torch", "torchvision", "torch-pruning", "onnxruntime", "tensorrt-rtx"))  # fmt: skip
    good = [model for model, found in rows.items() if found.get("onnx", {}).get("status") == "passed"
            and found.get("tensorrt", {}).get("status") in ("passed", "built")]  # fmt: skip
    return "\n".join([
        f"# torchvision's classification models, pruned by {SHARE:.0%} of their multiply-adds", "",
        f"Made by `python benchmarks/torchvision_pruned.py` on {here['cpu']}, {here['cores']} cores; {versions}. "
        "Random weights made non-degenerate; dynamic batch. The number beside a verdict is `noise`, against the "
        "pruned "
        "eager model in float64; `original dB` is how far the pruned model is from the whole one, nothing "
        "recovered: "
        "with random weights every channel counts, so little is left of it. `built` is an engine that only a "
        "GPU can "
        "run. Rows may come from several runs of the script.", "",
        f"{len(rows)} models, {len(good)} of them pruned, passed as ONNX and built as an engine.", "",
        "| model | multiply-adds left | parameters left | ONNX | TensorRT-RTX | original dB | seconds | why |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(line(model, found) for model, found in sorted(rows.items())), "",
    ])  # fmt: skip


def main() -> None:
    """Run the models named on the command line, or all that have no row yet."""
    parser = option_parser(__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names as torchvision has them")
    models = parser.parse_args().models
    rows: dict[str, Any] = json.loads(ROWS.read_text(encoding="utf-8")) if ROWS.exists() else {}
    models = models or [name for name in torchvision_names() if name not in rows]
    with tempfile.TemporaryDirectory() as folder:
        for number, model in enumerate(models, 1):
            rows[model] = convert(model, Path(folder))
            print(f"{number}/{len(models)} {line(model, rows[model])}", flush=True)
            ROWS.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
