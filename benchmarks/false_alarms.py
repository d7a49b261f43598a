"""No false alarm: every shipped recipe, built with three seeds of probes (and of random weights), must pass.

Writes false_alarms.md beside this file.

    python benchmarks/false_alarms.py       # about five minutes
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from options import option_parser

from converters.build.build import build
from converters.plan.load import CONFIGS, load_recipe
from runtimes.machine import machine
from runtimes.results import Status

PAGE = Path(__file__).with_suffix(".md")
SEEDS = (0, 1, 2)


def rows(recipe: str, seed: int, folder: Path) -> list[str]:
    """One build, numbers only: a line of the table per artifact that this machine can run."""
    settings = [f"seed={seed}"]
    if "random:0" in load_recipe(recipe).recipe.weights:
        settings.append(f"weights=random:{seed}")
    found = build(load_recipe(recipe, settings), folder / f"{recipe}-{seed}", budget=0)
    return [
        f"| {recipe} | {seed} | {row.name} | {row.status} | {row.parity.noise or 0:.2f} | {row.parity.where} |"
        for row in found.artifacts
        if row.status is not Status.BUILT
    ]


def main() -> None:
    """Build everything, write the page, fail where anything did not pass."""
    option_parser(__doc__).parse_args()
    here = machine.describe()
    lines = [
        "# False alarms",
        "",
        f"Made by `python benchmarks/false_alarms.py` on {here['cpu']}, {here['cores']} cores.",
        "",
        "| recipe | seed | artifact | status | noise | at |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for recipe in sorted(path.stem for path in CONFIGS.glob("*.yaml")):
            for seed in SEEDS:
                lines += rows(recipe, seed, Path(folder))
                print(lines[-1], flush=True)
    wrong = [line for line in lines[6:] if f"| {Status.PASSED} |" not in line]
    lines += ["", f"{len(lines) - 6} artifacts judged, {len(wrong)} false alarms."]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(lines[-1])
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
