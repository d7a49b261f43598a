"""`python -m burnish` is the console script."""

from __future__ import annotations

import subprocess
import sys


def test_the_package_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "burnish", "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert "convert" in ended.stdout
