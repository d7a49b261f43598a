"""Runs the commands of a page as a reader would type them, but `burnish` in this process: no import is paid twice.

- `burnish` and `.venv/bin/burnish` are the command line of this checkout. Speed is not
  measured (`--no-speed` is added): a busy machine must not decide a test.
- `make TARGET` is a dry run: the target and all that it needs must exist. Other tests cover their commands.
- `export NAME=VALUE` holds for the rest of the page.
- Everything else is given to bash, with this environment's programs first in the path.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tools.pages import ROOT

_TIMED = ("convert", "validate")


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code, and what it printed on both streams."""

    code: int
    output: str


class Shell:
    """Runs lines in `folder`, one after the other."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        patch.chdir(folder)
        patch.setenv("PWD", str(folder))
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

    def run(self, line: str) -> Outcome:
        """Run one line."""
        words = [os.path.expandvars(word) for word in shlex.split(line, comments=True)]
        if not words:
            return Outcome(0, "")
        program = words[0].removeprefix(".venv/bin/")
        if program == "burnish":
            return self._burnish(words[1:])
        if program == "make":
            return self._bash(
                shlex.join(["make", "--dry-run", "--directory", str(ROOT), *words[1:]])
            )
        if program == "export":
            name, _, value = words[1].partition("=")
            self.patch.setenv(name, value)
            return Outcome(0, "")
        return self._bash(line)

    def _burnish(self, words: list[str]) -> Outcome:
        from burnish.cli import app

        target = None
        if ">" in words:
            words, target = words[: words.index(">")], words[words.index(">") + 1]
        if words[0] in _TIMED and not {"--no-speed", "--explain"} & set(words):
            words = [*words, "--no-speed"]
        result = CliRunner().invoke(app, words)
        if target:
            (self.folder / target).write_text(result.stdout, encoding="utf-8")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, f"{result.stdout}\n{result.stderr}")

    def _bash(self, line: str) -> Outcome:
        done = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, cwd=self.folder, check=False
        )
        return Outcome(done.returncode, f"{done.stdout}\n{done.stderr}")


def commands(text: str) -> list[tuple[str, list[str]]]:
    """The lines of a block of commands, each with the output that the page shows for it.

    In a session (`$ command`) the other lines are output; elsewhere all lines are commands.
    """
    lines = text.replace("\\\n", " ").splitlines()
    if not any(line.startswith("$ ") for line in lines):
        return [(line, []) for line in lines if line.strip()]
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.strip():
            found[-1][1].append(line)
    return found


def missing_lines(shown: list[str], output: str) -> list[str]:
    """The lines that a page shows and the output lacks, in this order; `...` stands for anything."""
    remaining = [" ".join(line.split()) for line in output.splitlines()]
    for number, line in enumerate(shown):
        pattern = re.escape(" ".join(line.split())).replace(r"\.\.\.", ".*")
        places = [
            place for place, printed in enumerate(remaining) if re.fullmatch(pattern, printed)
        ]
        if not places:
            return shown[number:]
        remaining = remaining[places[0] + 1 :]
    return []
