"""Seconds that the validation of MobileNetV2's artifacts takes, here and in an older checkout.

Both checkouts build the shipped recipe once, without timing; then both validate their builds in turns, at
the default settings. Writes validation_cost.md beside this file.

    git worktree add ../before COMMIT
    python benchmarks/validation_cost.py --before ../before      # about ten minutes
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from options import option_parser

from runtimes.machine import machine

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_suffix(".md")
RECIPE = "mobilenet_v2"
ROUNDS = 3


def run(checkout: Path, *arguments: str) -> float:
    """Run burnish in a checkout; return the seconds. A gate that fails is no matter here."""
    command = [sys.executable, "-c", "from burnish.cli import main; main()", *arguments, "--quiet"]
    started = time.perf_counter()
    result = subprocess.run(
        command, cwd=checkout, env={**os.environ, "PYTHONPATH": str(checkout)}, check=False
    )
    if result.returncode not in (0, 1):
        sys.exit(f"{' '.join(arguments)} in {checkout.name} ended with status {result.returncode}")
    return time.perf_counter() - started


def main() -> None:
    """Measure both, write the page."""
    parser = option_parser(__doc__)
    parser.add_argument("--before", type=Path, required=True, help="folder of the older checkout")
    before = parser.parse_args().before.resolve()
    checkouts = {"before": before, "now": ROOT}
    seconds: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, checkout in checkouts.items():
            recipe = checkout / "configs" / f"{RECIPE}.yaml"
            run(checkout, "convert", str(recipe), "--output", f"{folder}/{name}", "--no-speed")
        for _ in range(ROUNDS):
            for name, checkout in checkouts.items():
                for what, flags in (("numbers", ["--no-speed"]), ("all", [])):
                    spent = run(checkout, "validate", f"{folder}/{name}", *flags)
                    seconds.setdefault((name, what), []).append(spent)
                    print(f"{name} {what}: {spent:.1f} s", flush=True)
    write(seconds)


def write(seconds: dict[tuple[str, str], list[float]]) -> None:
    """Write the page: medians and their ratios."""
    here = machine.describe()
    lines = [
        "# Validation cost",
        "",
        f"Made by `python benchmarks/validation_cost.py --before FOLDER` on {here['cpu']}, {here['cores']} cores:",
        f"`burnish validate` of {RECIPE}, median of {ROUNDS} runs in turns, with the start of Python.",
        "",
        "| validated | before, s | now, s | ratio |",
        "| --- | --- | --- | --- |",
    ]
    for what, words in (("numbers", "numbers only (`--no-speed`)"), ("all", "at default settings")):
        old, new = (statistics.median(seconds[name, what]) for name in ("before", "now"))
        lines.append(f"| {words} | {old:.1f} | {new:.1f} | {new / old:.2f} |")
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines[5:]))


if __name__ == "__main__":
    main()
