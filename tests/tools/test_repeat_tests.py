"""The tool that repeats tests counts what fails, and leaves no busy loop."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = """
import itertools

turns = itertools.count()


def test_of_luck():
    assert next(turns) % 2


def test_of_truth(tmp_path):
    assert tmp_path.exists()
"""


def repeat(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tools/repeat_tests.py", "--times", "4", "--busy", "1", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


def test_failures_are_counted_and_do_not_end_the_run(tmp_path: Path) -> None:
    file = tmp_path / "test_some.py"
    file.write_text(TESTS, encoding="utf-8")
    done = repeat(str(file))
    counts = [
        line.split(": ")[0].strip() for line in done.stdout.splitlines() if " failed: " in line
    ]
    assert counts == ["2 of 4 failed", "0 of 4 failed"], done.stdout
    assert done.returncode == 1
    assert repeat(f"{file}::test_of_truth").returncode == 0


def test_without_a_test_it_fails(tmp_path: Path) -> None:
    assert repeat(str(tmp_path)).returncode == 1
