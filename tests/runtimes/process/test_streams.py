"""A process without standard streams writes into no file of its own by mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
from runtimes.process.streams import open_streams
open_streams()
import os, sys
with open({path!r}, "w") as file:
    os.write(1, b"from a library")
    print("from Python", file=sys.stderr)
    assert file.fileno() > 2 and sys.stdin.read() == ""
"""


def test_what_goes_to_a_closed_stream_lands_in_no_file(tmp_path: Path) -> None:
    path = tmp_path / "artifact"
    code = CODE.format(path=str(path))
    closed = f'exec {sys.executable} -c "$CODE" <&- >&- 2>&-'
    result = subprocess.run(
        ["sh", "-c", closed], env={"CODE": code, "PYTHONPATH": str(Path.cwd())}, check=False
    )
    assert (result.returncode, path.read_text(encoding="utf-8")) == (0, "")


def test_open_streams_stay() -> None:
    code = "from runtimes.process.streams import open_streams; open_streams(); print('here')"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "here\n"
