"""A process that is killed leaves no temporary folder of multiprocessing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CODE = """
import time
from runtimes.process.process import isolated
print(isolated(int, what="a step"), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["the process", "its group"])
def test_no_folder_stays_after_a_kill(tmp_path: Path, kill: object) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CODE],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout and process.stdout.readline() == b"0\n"
    assert list(tmp_path.glob("pymp-*"))
    kill(process.pid, signal.SIGKILL)  # type: ignore[operator]
    process.wait()
    deadline = time.monotonic() + 60
    while list(tmp_path.glob("pymp-*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not list(tmp_path.glob("pymp-*"))
