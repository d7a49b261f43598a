"""Timing artifacts, each in a process of its own."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from burnish.bench import WrongAnswers, bench
from burnish.report.bench import show_bench
from runtimes.errors import UsageError
from runtimes.results import Speed


def test_two_artifacts_give_a_ratio_with_its_interval_and_leave_no_process(
    small_build: Path,
) -> None:
    before = multiprocessing.active_children()
    speeds = bench(small_build / "onnx", small_build / "torchscript", None, 0.5)
    onnx, script = speeds[str(small_build / "onnx")], speeds[str(small_build / "torchscript")]
    assert onnx.speedup is not None
    assert onnx.ci95 is not None
    assert onnx.ci95[0] <= onnx.speedup <= onnx.ci95[1]
    assert onnx.eager_ms == script.median_ms, "what it is compared with"
    assert script.speedup is None
    assert [process for process in multiprocessing.active_children() if process not in before] == []


def test_an_unknown_artifact(tmp_path: Path, small_build: Path) -> None:
    with pytest.raises(UsageError, match="is not an artifact"):
        bench(small_build / "onnx", tmp_path / "nothing", None, 0.5)


def test_an_unknown_device(small_build: Path) -> None:
    with pytest.raises(UsageError, match="unknown device 'cup'; did you mean 'cpu'"):
        bench(small_build / "onnx", None, "cup", 0.5)


def test_the_speed_of_wrong_answers_is_not_reported(
    small_build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def problem(child: object, manifest: object, before: list[object]) -> str:
        assert before, "it is asked before the timing"
        return "3 of 8 answers while timed differ"

    monkeypatch.setattr("burnish.bench.timed_problem", problem)
    with pytest.raises(WrongAnswers, match="onnx: 3 of 8 answers while timed differ") as caught:
        bench(small_build / "onnx", None, None, 0.5)
    assert caught.value.exit_code == 1


def test_the_table_marks_unstable_speeds(capsys: pytest.CaptureFixture[str]) -> None:
    unstable = Speed(median_ms=1, p90_ms=2, p99_ms=3, speedup=2, ci95=(1.5, 2.5), stable=False)
    show_bench({"a": unstable, "b": Speed(median_ms=2, p90_ms=3, p99_ms=4, stable=True)})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    a, b = (row for row in rows if row[:1] in (["a"], ["b"]) and len(row) > 1)
    assert a == ["a", "1.00", "ms", "2.00", "ms", "3.00", "ms", "2.00x", "(1.50-2.50)", "unstable"]
    assert b == ["b", "2.00", "ms", "3.00", "ms", "4.00", "ms"]
