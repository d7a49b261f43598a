"""A build that is killed or interrupted at any moment: the next one reuses finished steps."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

LONG = os.environ.get("BURNISH_FAULTS") == "long"  # `make faults`: as many as the README says
KILLS = 100 if LONG else 3
SECONDS = 7200 if LONG else 300


def _entries(cache: Path) -> dict[str, int]:
    """The cached results, each with the inode of its folder."""
    folder = cache / "steps" / "entries"
    return {path.name: path.stat().st_ino for path in folder.iterdir()} if folder.is_dir() else {}


def _left(lab: Any, cache: Path, seconds: float) -> list[str]:
    """The processes that still run after so many seconds."""
    end = time.monotonic() + seconds
    while (processes := lab.alive(cache)) and time.monotonic() < end:
        time.sleep(0.02)
    return processes  # type: ignore[no-any-return]


@pytest.mark.timeout(SECONDS)
def test_killed_at_any_moment(lab: Any, tmp_path: Path) -> None:
    written, clock = lab.recipe(), time.monotonic()
    whole = lab.started(written, tmp_path / "whole", tmp_path / "whole-cache" / "burnish")
    assert whole.wait(timeout=120) == 0
    seconds, expected = time.monotonic() - clock, lab.digests(tmp_path / "whole")
    chance, reused = random.Random(0), 0
    for kill in range(KILLS):
        output, cache = tmp_path / f"out{kill}", tmp_path / f"cache{kill}" / "burnish"
        build = lab.started(written, output, cache)
        time.sleep(chance.uniform(0, 1.1 * seconds))
        build.kill()
        build.wait()
        assert not _left(lab, cache, 10), "a process outlived its build"
        finished = _entries(cache)
        second = lab.started(written, output, cache)
        _, stderr = second.communicate(timeout=120)
        assert second.returncode == 0, stderr
        assert lab.digests(output) == expected
        entries = _entries(cache)
        for name, folder in finished.items():
            assert entries.get(name) == folder, "it was made again"
        assert not [path for path in output.iterdir() if path.name.startswith(".")]
        assert not _left(lab, cache, 10)
        reused += len(finished)
    assert reused, "some build was killed after its first step"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_interrupted_it_ends_at_once(lab: Any, tmp_path: Path, number: signal.Signals) -> None:
    """With all that its steps have started, within two seconds."""
    stray = "import subprocess, time; subprocess.Popen(['sleep', '600']); open('{}', 'w').close(); time.sleep(600)"
    output = tmp_path / "out"
    build = lab.started(lab.recipe(stray.format(tmp_path / "there")), output)
    end = time.monotonic() + 120
    while not (tmp_path / "there").exists():
        assert time.monotonic() < end and build.poll() is None
        time.sleep(0.05)
    clock = time.monotonic()
    os.kill(build.pid, number)
    assert build.wait(timeout=30) == 128 + number
    assert not _left(lab, lab.cache, 2 - (time.monotonic() - clock))
    assert not (output / ".work").exists()
    assert not (output / "torchscript").exists()


def test_two_builds_do_not_write_into_one_folder(lab: Any, tmp_path: Path) -> None:
    slow = lab.recipe(
        f"import time; open({str(tmp_path / 'there')!r}, 'w').close(); time.sleep(600)"
    )
    first = lab.started(slow, tmp_path / "out")
    end = time.monotonic() + 120
    while not (tmp_path / "there").exists():
        assert time.monotonic() < end and first.poll() is None
        time.sleep(0.05)
    second = lab.started(slow, tmp_path / "out")
    _, stderr = second.communicate(timeout=60)
    first.terminate()
    first.wait(timeout=30)
    assert second.returncode == 2
    assert "another build is writing into" in stderr


BUILDS = 16 if LONG else 4


@pytest.mark.timeout(SECONDS)
def test_many_builds_share_a_cache_and_each_step_runs_once(lab: Any, tmp_path: Path) -> None:
    recipes = [
        lab.recipe(
            "pass",
            f"  torchscript: {{}}\n  onnx: {{exporter: torchscript, opset: {17 + number % 4}}}",
            f"recipe{number}",
        )
        for number in range(BUILDS)
    ]
    builds = [
        lab.started(recipe, tmp_path / f"out{number}") for number, recipe in enumerate(recipes)
    ]
    logs = [build.communicate(timeout=600)[1] for build in builds]
    assert [build.returncode for build in builds] == [0] * BUILDS, logs
    lines = "\n".join(logs).splitlines()
    for text, times in (
        ("  loading ", 1),
        ("  exporting torchscript", 1),
        ("  exporting onnx", min(4, BUILDS)),
    ):
        made = [line for line in lines if text in line and "waiting" not in line]
        assert len(made) == times, text
    for number in range(BUILDS):
        row = json.loads(
            (tmp_path / f"out{number}" / "onnx" / "manifest.json").read_text(encoding="utf-8")
        )
        assert row["build"]["options"]["opset"] == 17 + number % 4
        assert (
            lab.digests(tmp_path / f"out{number}")["torchscript/model.pt"]
            == lab.digests(tmp_path / "out0")["torchscript/model.pt"]
        )
