"""A fault in one step ends its artifact, with a clear reason; the other artifacts are made."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtimes.artifact.artifact import Artifact
from runtimes.results import Row, Status


def _rows(lab: Any, recipe: Path, **options: object) -> dict[str, Row]:
    return {row.name: row for row in lab.converted(recipe, **options).artifacts}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("import ctypes; ctypes.string_at(0)", "the step 'torchscript' was killed by SIGSEGV"),
        ("import os; os.abort()", "the step 'torchscript' was killed by SIGABRT"),
        ("import os; os._exit(0)", "the step 'torchscript' ended with exit status 0 and no answer"),
        (
            "import time; time.sleep(600)",
            "the step 'torchscript' made no progress for 2 s and was stopped",
        ),
        (
            "global kept; kept = b'x' * (10 << 30)",
            "the step 'torchscript' was out of memory at its limit of 2.0 GB",
        ),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
    ],
    ids=["segfault", "abort", "exit", "hang", "memory", "sys.exit"],
)
def test_a_step_that_dies_says_how_and_the_others_go_on(
    lab: Any, tmp_path: Path, fault: str, words: str
) -> None:
    rows = _rows(lab, lab.recipe(fault), idle=2.0, memory=2 * 10**9)
    assert rows["torchscript"].status is Status.ERROR
    assert words in str(rows["torchscript"].reason)
    assert rows["onnx"].status is Status.PASSED
    assert not (tmp_path / "out" / "torchscript").exists()
    Artifact.open(tmp_path / "out" / "onnx").verify()


def test_the_reason_has_the_end_of_the_log_and_a_script_that_runs_the_step_again(
    lab: Any, tmp_path: Path
) -> None:
    broken = lab.recipe("import os; print('about to go', flush=True); os.abort()")
    reason = str(_rows(lab, broken)["torchscript"].reason)
    assert "logs/torchscript.log ends:\n" in reason
    assert "logs/torchscript.reproduce.sh runs it again" in reason
    script = tmp_path / "out" / "logs" / "torchscript.reproduce.sh"
    assert "about to go" in (script.parent / "torchscript.log").read_text(encoding="utf-8")
    # The fault is for the process of that name: here the step works, in a process that a debugger could hold.
    completed = subprocess.run([str(script)], capture_output=True, text=True, timeout=120)
    assert completed.returncode == 0, completed.stderr
    assert "exporting torchscript\nExported(entry='model.pt'" in completed.stdout


def test_failures_are_never_cached(lab: Any, tmp_path: Path) -> None:
    once = f"import os, pathlib; p = pathlib.Path({str(tmp_path / 'once')!r})\n"
    once += "    if not p.exists():\n        p.touch()\n        os.abort()"
    written = lab.recipe(once)
    assert _rows(lab, written)["torchscript"].status is Status.ERROR
    assert _rows(lab, written)["torchscript"].status is Status.PASSED


def test_an_artifact_names_the_failed_step_that_it_needs(lab: Any, tmp_path: Path) -> None:
    fault = lab.recipe("import os; os.abort()", "  torchscript: {}\n  vino: {format: openvino}")
    text = (
        (tmp_path / "survivor.py").read_text(encoding="utf-8").replace("'torchscript'", "'graph-")
    )
    (tmp_path / "survivor.py").write_text(text, encoding="utf-8")
    rows = _rows(lab, fault)
    assert rows["torchscript"].status is Status.PASSED
    assert str(rows["vino"].reason).startswith(
        "needs the step 'graph-auto-opset20', which failed: "
    )


def test_garbage_on_the_output_of_a_library_stays_in_the_log(
    lab: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    noisy = r"import os; os.write(1, b'\xff\x00\x1b[31mgarbage\n'); os.write(2, bytes(range(256)))"
    rows = _rows(lab, lab.recipe(noisy))
    assert {row.status for row in rows.values()} == {Status.PASSED}
    assert capfd.readouterr() == ("", "")
    assert b"garbage" in (tmp_path / "out" / "logs" / "torchscript.log").read_bytes()


def test_a_clock_that_jumps_back_caches_no_doubtful_result(lab: Any, tmp_path: Path) -> None:
    """To a clock that was set back, a file of an hour ago was changed in the future: after the step began."""
    written = lab.recipe()
    ahead = time.time() + 86400
    os.utime(tmp_path / "survivor.py", (ahead, ahead))
    for _ in range(2):
        result = lab.converted(written)
        assert {row.status for row in result.artifacts} == {Status.PASSED}
        assert "load is not cached: survivor.py changed while it ran" in result.notes
    os.utime(tmp_path / "survivor.py")
    time.sleep(0.01)
    assert not any("is not cached" in note for note in lab.converted(written).notes)


def test_a_cache_that_cannot_be_written_costs_only_time(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        result = lab.converted(lab.recipe())
        assert {row.status for row in result.artifacts} == {Status.PASSED}
        assert any(
            note.startswith("no results are cached for the next build: ") for note in result.notes
        )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of three megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if (
        not sys.platform.startswith("linux")
        or subprocess.run(command, capture_output=True).returncode
    ):
        pytest.skip("a small disk can only be mounted by root, on Linux")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_fails_what_does_not_fit_and_says_so(
    lab: Any, tmp_path: Path, small_disk: Path
) -> None:
    written = lab.recipe()
    lab.widen()
    result = lab.converted(written, output=small_disk / "out")
    reasons = {row.name: (row.status, row.reason) for row in result.artifacts}
    assert Status.ERROR in [status for status, _ in reasons.values()]
    for status, reason in reasons.values():
        assert status is Status.PASSED or "No space left on device" in str(reason)
    assert not (small_disk / "out" / ".work").exists()


def test_a_full_disk_of_the_cache_costs_only_time(
    lab: Any, tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = lab.recipe()
    lab.widen()
    monkeypatch.setenv("XDG_CACHE_HOME", str(small_disk))
    result = lab.converted(written)
    assert {row.status for row in result.artifacts} == {Status.PASSED}
    assert any("the disk of" in note and "is full" in note for note in result.notes)


def test_an_unknown_step_lists_the_steps(lab: Any) -> None:
    command = [sys.executable, "-m", "converters.build.again", str(lab.recipe()), "nothing"]
    environment = {**os.environ, "PYTHONPATH": str(lab.root)}
    completed = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert completed.returncode == 1
    assert "no step 'nothing'; the steps are load, onnx, torchscript" in completed.stderr


def test_a_cache_that_is_removed_meanwhile_costs_only_time(lab: Any) -> None:
    removed = lab.recipe(f"import shutil; shutil.rmtree({str(lab.cache)!r}, ignore_errors=True)")
    result = lab.converted(removed)
    assert {row.status for row in result.artifacts} == {Status.PASSED}, [
        row.reason for row in result.artifacts
    ]
    assert any(
        "no results are cached for the next build" in note and "was removed" in note
        for note in result.notes
    )
