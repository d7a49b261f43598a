"""Every classification model of torchvision through TorchScript, ONNX and a TensorRT for RTX engine.

Random weights made non-degenerate (`random:0`), a dynamic batch of 1 to 4, all of the validator's probes: among
them batch 3, which no exporter saw, and edge values. Writes torchvision_models.md beside this file.

    python benchmarks/torchvision_models.py                 # all 80: about an hour on two cores
    python benchmarks/torchvision_models.py resnet18 vit_b_16   # some; the others' rows stay
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from options import option_parser

from converters.build.build import build
from converters.plan.load import load_recipe
from converters.sources import torchvision_names
from runtimes.errors import BurnishError
from runtimes.machine import machine

HERE = Path(__file__).parent
ROWS = HERE / "torchvision_models.json"
PAGE = HERE / "torchvision_models.md"
FORMATS = ("torchscript", "onnx", "tensorrt")
SIDES = {"inception_v3": 299}

RECIPE = """\
model: torchvision:{model}
weights: random:0
inputs:
  image: {{shape: [batch, 3, {side}, {side}]}}
dims:
  batch: {{min: 1, opt: 1, max: 4}}
task: classification
artifacts: {{torchscript: , onnx: , tensorrt: {{flavor: rtx}}}}
"""


def convert(model: str, folder: Path) -> dict[str, Any]:
    """Build the three artifacts of one model and judge their numbers; no timing."""
    recipe = folder / f"{model}.yaml"
    recipe.write_text(RECIPE.format(model=model, side=SIDES.get(model, 224)), encoding="utf-8")
    start = time.perf_counter()
    try:
        found = build(load_recipe(recipe), folder / model, budget=0)
    except BurnishError as error:
        return {"error": str(error), "seconds": time.perf_counter() - start}
    finally:
        shutil.rmtree(folder / model, ignore_errors=True)
    rows = {
        row.name: row.model_dump(mode="json", include={"status", "reason", "parity"})
        for row in found.artifacts
    }
    return {**rows, "seconds": time.perf_counter() - start}


def cell(row: dict[str, Any] | None) -> str:
    """One format's verdict, with the noise where it was measured."""
    if row is None:
        return "error"
    noise = row["parity"]["noise"]
    return row["status"] + (f", {noise:.2f}" if noise is not None else "")


def why(found: dict[str, Any]) -> str:
    """The reasons of what did not pass, in one line; `built` is what a machine without a GPU can reach."""
    reasons = [found["error"]] if "error" in found else []
    reasons += [f"{name}: {found[name]['reason']}" for name in FORMATS if found.get(name, {}).get("status") in
                ("failed", "error", "skipped")]  # fmt: skip
    return " ".join(" / ".join(reasons).split())[:300].replace("|", "\\|")


def page(rows: dict[str, Any]) -> str:
    """The table as Markdown."""
    here = machine.describe()
    versions = ", ".join(f"{name} {number}" for name, number in here["versions"].items())
    good = {name: sum(found.get(name, {}).get("status") in ("passed", "built") for found in rows.values())
            for name in FORMATS}  # fmt: skip
    noises = [found[name]["parity"]["noise"] for found in rows.values() for name in ("torchscript", "onnx")
              if name in found and found[name]["parity"]["noise"] is not None]  # fmt: skip
    lines = [
        "# torchvision's classification models",
        "",
        f"Made by `python benchmarks/torchvision_models.py` on {here['cpu']}, {here['cores']} cores; {versions}.",
        "Random weights made non-degenerate; dynamic batch; parity on noise and edge values at batches 1, 3 and 4, "
        "of which no exporter saw 3. Numbers are `noise`: error against the float64 truth over eager's own. "
        "`built` is an engine that only a GPU can run. "
        "Rows may come from several runs of the script.",
        "",
        f"{len(rows)} models: "
        + ", ".join(f"{count} {name}" for name, count in good.items())
        + "; largest noise "
        f"{max(noises, default=0):.2f}.",
        "",
        "| model | TorchScript | ONNX | TensorRT-RTX | seconds | why |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for model, found in sorted(rows.items()):
        cells = " | ".join(cell(found.get(name)) for name in FORMATS)
        lines.append(f"| {model} | {cells} | {found['seconds']:.0f} | {why(found)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the models named on the command line, or all."""
    parser = option_parser(__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names as torchvision has them")
    models = parser.parse_args().models
    rows: dict[str, Any] = json.loads(ROWS.read_text(encoding="utf-8")) if ROWS.exists() else {}
    models = models or list(torchvision_names())
    with tempfile.TemporaryDirectory() as folder:
        for number, model in enumerate(models, 1):
            rows[model] = convert(model, Path(folder))
            print(f"{number}/{len(models)} {model}: {[cell(rows[model].get(name)) for name in FORMATS]} "
                  f"{rows[model]['seconds']:.0f} s {why(rows[model])}", flush=True)  # fmt: skip
            ROWS.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
