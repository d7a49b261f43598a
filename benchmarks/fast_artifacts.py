"""Burnish's fastest artifacts beside what an expert builds by hand, measured in one run.

Needs labelled pictures (FOLDER: 500 files whose names begin with the number of their class) and a script that
builds the rows by hand (FILE: `build(folder, pictures)` returns the kind and the file of each row by name,
`session(kind, file)` opens one); neither is part of this repository. Each session lives in a process of its own;
one runs a burst while the others sleep; every session is started three times. Calibrated on 100 pictures, judged on
the other 400. Writes fast_artifacts.md.

    python benchmarks/fast_artifacts.py --data FOLDER --by-hand FILE [MODEL ...]     # about ten minutes a model
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import profiles
import psutil
from by_hand_sessions import HandOpener, build_by_hand
from convert_cost import tree_pss
from fast_artifacts_page import Line, Quality, bounds, comparisons, kept, page, section
from options import add_data, option_parser, required
from pass_marks import BUDGET_ARTIFACTS

from converters.build.build import build
from converters.data.uses import evaluation_samples
from converters.plan.load import load_recipe
from converters.plan.plan import Plan, source_of
from converters.sources.restore import EagerFromSource
from converters.sources.weights import find_weights
from runtimes.artifact.artifact import Artifact
from runtimes.machine import machine
from runtimes.process.process import Child
from runtimes.session import SessionOptions
from runtimes.spec import Arrays
from runtimes.validator.defaults import BENCH_HALF_WIDTH, BENCH_LAUNCHES
from runtimes.validator.host import ArtifactOpener, SessionHost
from runtimes.validator.speed import speed
from runtimes.validator.speed.ratio import summarize
from runtimes.validator.speed.roofline import beaten

HERE = Path(__file__).parent
PAGE, ROWS = HERE / "fast_artifacts.md", HERE / "fast_artifacts.json"
SECONDS = 4.0  # of timing, for each session in each launch
MODELS = ("mobilenet_v2", "resnet18", "vit_b_16")

RECIPE = """\
extends: {base}
dims: {{batch: {{min: 1, opt: 1, max: 4}}}}
data:
  calibration: {{images: {data}, samples: 100}}
  evaluation: {{images: {data}, samples: 400, labels: prefix}}
artifacts:
  onnx: {{}}
  openvino: {{}}
  openvino-bf16: {{format: openvino, precision: bf16}}
  onnx-int8: {{format: onnx, passes: [{{quantize: {{to: int8{onnx}}}}}]}}
  openvino-int8: {{format: openvino, precision: bf16, passes: [{{quantize: {{to: int8{openvino}}}}}]}}
  openvino-budget: {{format: openvino, precision: bf16, passes: [{{quantize: {{to: int8{budget}}}}}]}}
"""
# Budgets of the three int8 rows. Random weights tell no classes apart, and agreement is a toss: SQNR is held.
REAL = {"onnx": ", max_drop: 2.5", "openvino": ", max_drop: 2.5", "budget": ", max_drop: 1.5"}
RANDOM = {"onnx": "", "openvino": "", "budget": ", max_drop: 10, metric: sqnr"}


def sessions(
    plan: Plan, build_folder: Path, hand: Path, script: Path, options: SessionOptions
) -> dict[str, Any]:
    """Row name to (opener, whether it needs torch). Eager comes first."""
    made = {
        path.name: Artifact.open(path)
        for path in sorted(build_folder.iterdir())
        if (path / "manifest.json").exists()
    }
    first = next(iter(made.values())).manifest
    eager = EagerFromSource(source_of(plan), first.inputs, first.outputs, "cpu", options)
    found: dict[str, Any] = {"eager": (eager, True)}
    for name, (kind, file) in json.loads((hand / "rows.json").read_text(encoding="utf-8")).items():
        if kind != "eager":
            found[name] = (HandOpener(script, kind, hand / file), kind == "torchscript")
    for name, artifact in made.items():
        if "cpu" in artifact.manifest.devices:
            found[f"Burnish {name}"] = (
                ArtifactOpener(artifact.path, "cpu", options),
                artifact.manifest.format == "torchscript",
            )
    return found


def measure(
    openers: Mapping[str, Any], pictures: Sequence[Arrays]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Each row's answers to the pictures, and its times in each launch."""
    answers: dict[str, Any] = {}
    launches = []
    for launch in range(BENCH_LAUNCHES):
        with contextlib.ExitStack() as stack:
            children = {}
            for name, (opener, torch) in openers.items():
                child = Child(partial(SessionHost, opener), what=name, torch=torch)
                stack.callback(child.kill)
                children[name] = child
                if not launch:
                    found = child.call("answer", [(str(k), one) for k, one in enumerate(pictures)])
                    answers[name] = np.concatenate([one["logits"] for one in found])
            collected = speed.collect(children, SECONDS, "eager", width=BENCH_HALF_WIDTH)
            for name, error in collected.failed.items():
                raise SystemExit(f"{name}: {error}")
            launches.append(collected.times)
    return answers, launches


def lines(
    answers: Mapping[str, Any], launches: Sequence[Any], labels: Any, flops: int
) -> dict[str, Line]:
    """The rows, by name."""
    eager, top = answers["eager"], answers["eager"].argmax(1)
    found = {}
    for name, out in answers.items():
        taken = summarize([one[name] for one in launches], [one["eager"] for one in launches])
        precision = (
            "int8" if "int8" in name or "budget" in name else "bf16" if "bf16" in name else "fp32"
        )
        wrong = float(np.square(np.float64(out) - eager).sum()) or 1e-30
        found[name] = Line(
            name=name,
            speed=taken,
            agreement=float((out.argmax(1) == top).mean()),
            accuracy=float((out.argmax(1) == labels).mean()),
            sqnr_db=float(10 * np.log10(np.square(np.float64(eager)).sum() / wrong)),
            share=_share(precision, flops / (taken.median_ms / 1e3)) if taken.median_ms else None,
        )
    return found


def _share(precision: str, reached: float) -> float | None:
    peak = beaten(len(machine.cores()), precision, reached).get(precision)
    return reached / peak if peak else None


def run(model: str, data: Path, script: Path) -> list[str]:
    """Build, measure, and write the section of one model."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        recipe, base = folder / f"{model}.yaml", HERE.parent / "configs" / f"{model}.yaml"
        asked = load_recipe(base)
        random = (
            find_weights(asked.recipe.weights, asked.recipe.model, asked.folder)[0].random_seed
            is not None
        )
        recipe.write_text(
            RECIPE.format(base=base, data=data, **(RANDOM if random else REAL)), encoding="utf-8"
        )
        plan = load_recipe(recipe)
        with _peak_memory() as peak:
            made = build(
                plan, folder / "build", budget=0, progress=lambda text: print(" ", text, flush=True)
            )
        cost = f"{time.perf_counter() - started:.0f} s, at most {max(peak) / 1e9:.1f} GB"
        judged = evaluation_samples(plan.recipe, plan.folder)
        calibrating = np.stack([one["image"][0] for one in _calibration(plan)])
        (folder / "hand").mkdir()
        process = multiprocessing.get_context("spawn").Process(
            target=build_by_hand, args=(script, recipe, calibrating, folder / "hand")
        )
        process.start()
        process.join()
        threads = len(machine.cores())
        options, picture = (
            SessionOptions(threads=threads),
            {"image": judged[0].inputs["image"][None]},
        )
        openers = sessions(plan, folder / "build", folder / "hand", script, options)
        answers, launches = measure(
            openers, [{"image": one.inputs["image"][None]} for one in judged]
        )
        flops = Artifact.open(folder / "build" / "onnx").manifest.build["flops"]
        names = ("openvino-int8", *BUDGET_ARTIFACTS)
        built = {name: Artifact.open(folder / "build" / name) for name in names}
        int8 = {name: one.manifest.build for name, one in built.items()}
        profiled = {name: profiles.shares(one, picture, threads) for name, one in built.items()}
    found = lines(answers, launches, np.array([one.label for one in judged]), flops)
    against = comparisons(found, launches, Quality(random))
    return section(
        model, made, found, against, [*kept(int8), *bounds(against, found, profiled)], cost
    )


@contextlib.contextmanager
def _peak_memory() -> Iterator[list[int]]:
    """Bytes that this process and its descendants hold, sampled twice a second while inside."""
    sizes, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            sizes.append(tree_pss(psutil.Process()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield sizes
    finally:
        over.set()
        thread.join()


def _calibration(plan: Plan) -> list[Arrays]:
    from converters.data.uses import calibration_batches

    return list(calibration_batches(plan.recipe, plan.folder))


def main() -> None:
    """Measure the models asked for; sections of the others stay."""
    pictures, script = "a folder of labelled pictures", "the script that builds the rows by hand"
    parser = option_parser(__doc__)
    parser.add_argument(
        "models", nargs="*", default=MODELS, metavar="MODEL", help=", ".join(MODELS)
    )
    add_data(parser, pictures)
    parser.add_argument("--by-hand", type=Path, metavar="FILE", help=script)
    options = parser.parse_args()
    data = required(parser, "--data", options.data, pictures)
    by_hand = required(parser, "--by-hand", options.by_hand, script)
    sections = json.loads(ROWS.read_text(encoding="utf-8")) if ROWS.exists() else {}
    for model in options.models:
        sections[model] = run(model, data, by_hand)
        ROWS.write_text(json.dumps(sections, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(filter(None, map(sections.get, MODELS))), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
