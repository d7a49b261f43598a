"""Pruning by measured latency beside pruning by multiply-adds: which is faster where both decide as well.

A model is pruned by several shares of each; every pruned model learns from the whole one for the same time, on the
same pictures. Nothing else differs. All artifacts decide on the same test pictures, and all sessions are timed in
turns. The latency of `of: macs` at the agreement of a point of `of: latency` is interpolated between its own
points, the whole model the first of them, in logarithms of time and of disagreement, and never beyond them; the
intervals are those of other test pictures (bootstrap over pictures, the same for all artifacts). Agreement with the
whole model is the measure of accuracy: it needs no label, and falls several times as fast as accuracy does, so that
a difference shows on fewer pictures.

Needs FOLDER with Fashion-MNIST in `FashionMNIST/raw` (fashion_cnn) and labelled pictures in `imagenet-500`
(mobilenet_v2), which are not part of this repository. Writes pruning_latency.md; sections of models that are not
named stay.

    python benchmarks/pruning_latency.py --data FOLDER [MODEL ...] [--minutes M]       # about half an hour a model
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from options import add_data, option_parser, required
from pruning import classes, launch
from pruning_latency_settings import BASE, RECIPE, SETTINGS, WAYS, WHOLE

from converters.build.build import build
from converters.plan.load import load_recipe
from converters.user_code import call_factory
from runtimes.artifact.artifact import MANIFEST, Artifact
from runtimes.files.layout import REFERENCE_FILE
from runtimes.machine import machine
from runtimes.results import Build, Row
from runtimes.validator.defaults import BENCH_LAUNCHES
from runtimes.validator.reference import Reference
from runtimes.validator.speed.ratio import summarize

HERE = Path(__file__).parent
CONFIGS = HERE.parent / "configs"
PAGE, ROWS = HERE / "pruning_latency.md", HERE / "pruning_latency.json"
SECONDS = 3.0  # of timing, for each session in each launch
RESAMPLED = 2000


@dataclass(frozen=True)
class Point:
    """One artifact.

    Attributes:
        way, share: how it was pruned; WHOLE and 0 for the whole model.
        macs: multiply-adds that are left, as a share.
        foretold: the latency that the table of layers foretold to be left, as a share; for `of: latency`.
        right: per test picture, whether it decides as the whole model does [N].
        accuracy: on the pictures' labels.
        speedup, ci95: how many times as fast as the whole model.
    """

    way: str
    share: float
    macs: float
    foretold: float | None
    right: np.ndarray[Any, Any]
    accuracy: float
    speedup: float
    ci95: tuple[float, float]


def recipe(model: str, folder: Path, minutes: float, scratch: Path) -> Path:
    """Write the recipe of one model."""
    setting = SETTINGS[model]
    base = CONFIGS / f"{model}.yaml"
    recover = f"{{recover: {{minutes: {minutes}, {setting.recover}}}}}"
    unwanted = [one.name for one in load_recipe(base).artifacts if one.name != WHOLE]
    lines = [f"  {WHOLE}: {{}}", *(f"  {name}: null" for name in unwanted)]
    for way, shares in setting.shares.items():
        for share in shares:
            prune = f"{{prune: {{structured: {share}, {WAYS[way]}, {setting.prune}}}}}"
            lines.append(f"  {way}-{share}: {{format: onnx, passes: [{prune}, {recover}]}}")
    data = setting.data.format(data=json.dumps(str(folder)))
    path = scratch / f"{model}.yaml"
    path.write_text(
        RECIPE.format(base=base, data=data, artifacts="\n".join(lines) + "\n"), encoding="utf-8"
    )
    for beside in CONFIGS.iterdir():
        if beside.is_dir():
            (scratch / beside.name).symlink_to(beside)
    return path


def test_pictures(model: str, data: Path, folder: Path) -> tuple[Any, Any]:
    """The pictures that decide [N, C, H, W], which no training has seen, and their labels [N]."""
    if model == "fashion_cnn":
        found = call_factory(
            "fashion_cnn.data:samples", {"folder": str(data), "split": "test"}, CONFIGS, ""
        )
        return found.images, found.labels.astype(np.int64)
    probes = [one for one in Reference.load(folder / REFERENCE_FILE).probes if one.kind == "data"]
    images = np.concatenate([next(iter(one.inputs.values())) for one in probes])
    return images, np.array([label for one in probes for label in one.labels])


def run(model: str, data: Path, folder: Path, minutes: float, scratch: Path) -> list[Point]:
    """Build what is not built yet, and measure it."""
    if not (folder / "build.json").exists():
        path = recipe(model, data, minutes, scratch)
        build(
            load_recipe(path), folder, budget=0, progress=lambda told: print(" ", told, flush=True)
        )
    rows = Build.read(folder).artifacts
    for row in rows:
        print(" ", row.name, row.status, row.reason or "", flush=True)
    return measure(
        model, data, folder, [row for row in rows if (folder / row.name / MANIFEST).exists()]
    )


def measure(model: str, data: Path, folder: Path, rows: Sequence[Row]) -> list[Point]:
    """Agreement and speed of each artifact, the whole model first."""
    images, labels = test_pictures(model, data, folder)
    launches = [launch(folder, rows) for _ in range(BENCH_LAUNCHES)]
    whole, points = classes(folder / WHOLE, images), []
    for row in sorted(rows, key=lambda one: one.name != WHOLE):
        decided = whole if row.name == WHOLE else classes(folder / row.name, images)
        theirs = [one[WHOLE] for one in launches] if row.name != WHOLE else []
        taken = summarize([one[row.name] for one in launches], theirs)
        passes = Artifact.open(folder / row.name).manifest.build.get("passes", [])
        pruned = next((one["prune"] for one in passes if "prune" in one), None)
        way, _, share = row.name.rpartition("-") if row.name != WHOLE else (WHOLE, "", "0")
        points.append(
            Point(
                way,
                float(share),
                pruned["after"]["macs"] / pruned["before"]["macs"] if pruned else 1.0,
                pruned.get("latency_left_foretold") if pruned else None,
                decided == whole,
                float(np.mean(decided == labels)),
                taken.speedup or 1.0,
                taken.ci95 or (1.0, 1.0),
            )
        )
        print(
            f"  {row.name}: {points[-1].speedup:.2f}x, agrees on {points[-1].right.mean():.2%}",
            flush=True,
        )
    return points


def gains(points: Sequence[Point], pictures: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """How many times as fast as BASE each point is where both disagree as often [points].

    NaN for BASE's own, and beyond BASE's last one. `pictures`: indices of those that count.
    """
    # Half a picture more than were counted: nought has no logarithm.
    wrong = np.array([len(pictures) - one.right[pictures].sum() + 0.5 for one in points]) / len(
        pictures
    )
    # The whole model is what BASE leaves where it removes nothing.
    base = sorted(
        (share, one.speedup)
        for share, one in zip(wrong, points, strict=True)
        if one.way in (BASE, WHOLE)
    )
    known, times = np.log(np.array(base).T) * [[1], [-1]]
    beside = np.exp(np.interp(np.log(wrong), known, times, left=np.nan, right=np.nan))
    return np.array([
        one.speedup * taken if one.way not in (BASE, WHOLE) else np.nan
        for one, taken in zip(points, beside, strict=True)
    ])  # fmt: skip


def interval(values: np.ndarray[Any, Any]) -> str:
    """A 95 % interval of resampled values, those that could not be compared left out."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return f"{low:.2f}-{high:.2f}"


def section(model: str, points: Sequence[Point], minutes: float) -> list[str]:
    """The page's part on one model."""
    setting, count, rng = SETTINGS[model], len(points[0].right), np.random.default_rng(0)
    found = gains(points, np.arange(count))
    drawn = np.array([gains(points, rng.integers(0, count, count)) for _ in range(RESAMPLED)])
    lines = [
        f"## {model}", "",
        f"Recovery of {minutes:g} minutes for each; {setting.prune}; {count} test pictures. ONNX Runtime, batch 1.",
        "",
        "| pruned of | share | multiply-adds left | latency foretold | agreement | accuracy "
        f"| over the whole (95 %) | over {BASE} at this agreement (95 %) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for index, one in enumerate(points):
        gain = (
            f"{found[index]:.2f}x ({interval(drawn[:, index])})"
            if np.isfinite(found[index])
            else ""
        )
        cells = [
            one.way, f"{one.share:g}", f"{one.macs:.0%}", "" if one.foretold is None else f"{one.foretold:.0%}",
            f"{one.right.mean():.2%}", f"{one.accuracy:.2%}",
            f"{one.speedup:.2f}x ({one.ci95[0]:.2f}-{one.ci95[1]:.2f})", gain,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    for way in WAYS:
        mine = np.array([one.way == way for one in points]) & np.isfinite(found)
        if mine.any():
            mean, means = (
                np.exp(np.nanmean(np.log(values[..., mine]), axis=-1)) for values in (found, drawn)
            )
            lines += [
                "",
                f"{way}, together: {mean:.2f}x as fast as {BASE} at the same agreement ({interval(means)}).",
            ]
    return [*lines, ""]


def page(sections: Mapping[str, Sequence[str]]) -> str:
    """The report as Markdown."""
    here = machine.describe()
    head = [
        "# Pruning by measured latency, beside pruning by multiply-adds", "",
        f"Made by `python benchmarks/pruning_latency.py` on {here['cpu']}, {here['cores']} cores; torch "
        f"{here['versions']['torch']}, onnxruntime {here['versions']['onnxruntime']}. Both ways share everything "
        "but what a removed channel is said to save: importance, limits, data, minutes. Agreement: test pictures "
        "that are decided as by the whole model. The last column compares times at the same agreement, "
        f"interpolated between the whole model and the points of {BASE}, and empty beyond them; its interval is "
        "that of other test pictures, not of other trainings.", "",
    ]  # fmt: skip
    return "\n".join([*head, *(line for one in SETTINGS for line in sections.get(one, []))])


def main() -> None:
    """Measure the models asked for; sections of the others stay."""
    parser = option_parser(__doc__)
    parser.add_argument(
        "models", nargs="*", default=list(SETTINGS), metavar="MODEL", help=", ".join(SETTINGS)
    )
    add_data(
        parser, f"a folder with {' and '.join(setting.folder for setting in SETTINGS.values())}"
    )
    parser.add_argument("--minutes", type=float, help="of recovery, instead of each model's own")
    parser.add_argument(
        "--build", type=Path, help="keep builds here; one that is there is only measured"
    )
    asked = parser.parse_args()
    if unknown := [model for model in asked.models if model not in SETTINGS]:
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(SETTINGS)}")
    folders = {model: SETTINGS[model].folder for model in asked.models}
    root = required(parser, "--data", asked.data, f"a folder with {' and '.join(folders.values())}")
    sources = {}
    for model, name in folders.items():
        sources[model] = required(parser, "--data", root / name, f"the data of {model}")
    sections = json.loads(ROWS.read_text(encoding="utf-8")) if ROWS.exists() else {}
    for model, data in sources.items():
        minutes = asked.minutes or SETTINGS[model].minutes
        with tempfile.TemporaryDirectory() as scratch:
            folder = (asked.build or Path(scratch, "build")) / model
            sections[model] = section(
                model, run(model, data, folder, minutes, Path(scratch)), minutes
            )
        ROWS.write_text(json.dumps(sections, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(page(sections), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
