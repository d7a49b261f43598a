"""Texts and numbers for people."""

from __future__ import annotations

import io
import json
import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from burnish.predict import Prediction
from burnish.report.predictions import as_data, show_predictions
from burnish.report.terminal import show_builds
from burnish.report.text import clean, headline, latency, parity, remarks, size, sizes, speedup
from runtimes.results import Build, DimSizes, Parent, Parity, Row, SizesTried, Speed, Status


def row(**values: Any) -> Row:
    return Row(
        **{"name": "onnx", "format": "onnx", "device": "cpu", "status": Status.PASSED, **values}
    )


def build(*rows: Row, **values: Any) -> Build:
    facts: dict[str, Any] = {
        "recipe": {},
        "model": "m",
        "weights": {"source": "net.pth"},
        "machine": {},
    }
    return Build(**{**facts, "artifacts": list(rows), **values})


@given(st.text())
def test_clean_text_holds_no_control_characters(text: str) -> None:
    assert not [
        c for c in clean(text) if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t"
    ]


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=30))
def test_printable_text_is_left_alone(text: str) -> None:
    assert clean(text) == text


def test_escapes_are_made_visible() -> None:
    assert clean("a\x1b[31mb\r\x9b\u202e") == r"a\x1b[31mb\x0d\x9b\x202e"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, ""),
        (0, "0 B"),
        (999, "999 B"),
        (46_800_000, "46.8 MB"),
        (1000, "1.0 kB"),
        (2_500_000_000, "2.50 GB"),
    ],
)
def test_sizes(count: int | None, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, ""),
        (1.2345, "1.23 ms"),
        (0.05, "50.0 us"),
        (123.4, "123 ms"),
        (14.5, "14.5 ms"),
        (0.1, "0.100 ms"),
    ],
)
def test_latencies_have_three_digits(milliseconds: float | None, text: str) -> None:
    assert latency(milliseconds) == text


def test_float32_shows_noise_and_lossy_precisions_decibels() -> None:
    measured = Parity(noise=1.234, sqnr_db=61.26)
    assert parity(row(precision="fp32", parity=measured)) == "1.23x noise"
    assert parity(row(precision="fp16", parity=measured)) == "61.3 dB"
    assert parity(row(precision="fp16")) == ""


def test_a_speed_up_has_its_interval_and_says_when_it_is_unstable() -> None:
    speed = Speed(speedup=3.456, ci95=(3.1, 3.9), stable=True)
    assert speedup(row(speed=speed)) == "3.46x (3.10-3.90)"
    assert (
        speedup(row(speed=speed.model_copy(update={"stable": False})))
        == "3.46x (3.10-3.90) unstable"
    )
    assert speedup(row()) == ""


def test_random_weights_are_announced_first_and_loudly() -> None:
    assert headline(build(weights={"source": "random:0", "random": True})).startswith(
        "RANDOM WEIGHTS (random:0): m "
    )
    assert headline(build()) == "m, weights: net.pth"


def test_remarks_give_reasons_notes_and_why_better_weights_were_not_used() -> None:
    weights = {"source": "random:0", "tried": [{"source": "DEFAULT", "why": "no network"}]}
    failed = row(status=Status.FAILED, reason="parity: noise")
    result = build(failed, row(name="b", notes=["note"]), weights=weights, notes=["general"])
    assert remarks(result) == [
        "weights: DEFAULT not used: no network",
        "onnx: parity: noise",
        "b: note",
        "general",
    ]


def test_remarks_compare_an_artifact_with_its_parent() -> None:
    parent = Parent(name="onnx", size_bytes=400, speedup=1.5, ci95=(1.4, 1.6))
    [line] = remarks(build(row(name="onnx-int8", size_bytes=100, speed=Speed(parent=parent))))
    assert line == "onnx-int8: 1.50x (1.40-1.60) as fast as and 25% of the size of onnx"
    silent = parent.model_copy(update={"speedup": None, "ci95": None})
    [line] = remarks(build(row(name="onnx-int8", size_bytes=100, speed=Speed(parent=silent))))
    assert line == "onnx-int8: 25% of the size of onnx, which could not be timed beside it"


def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    out = io.StringIO()
    show_builds(
        [build(row(name="[red]x[/red]", reason="[bold]y"), model="[link]m")],
        Console(file=out, width=200),
    )
    assert "[red]x[/red]" in out.getvalue()
    assert "[bold]y" in out.getvalue()
    assert "[link]m" in out.getvalue()


def test_the_model_is_a_column_only_where_there_are_several() -> None:
    def table(*builds: Build) -> str:
        out = io.StringIO()
        show_builds(builds, Console(file=out, width=200))
        return out.getvalue()

    assert "model" not in table(build(row()), build(row()))
    assert "model" in table(build(row()), build(row(), model="other"))


def test_predictions_as_json_have_null_for_what_json_lacks() -> None:
    outputs = {
        "y": np.array([[np.nan, np.inf, 1.5]], np.float32),
        "big": np.zeros((200, 100), np.float32),
    }
    (data,) = as_data([Prediction("x.npy", outputs, [("cat", 0.75)])])
    assert data["outputs"]["y"] == {
        "shape": [1, 3],
        "dtype": "float32",
        "values": [[None, None, 1.5]],
    }
    assert data["outputs"]["big"] == {"shape": [200, 100], "dtype": "float32"}, (
        "too many values to print"
    )
    assert data["top"] == [{"class": "cat", "probability": 0.75}]
    json.dumps(data, allow_nan=False)


def test_predictions_without_classes_show_shapes_and_ranges(
    capsys: pytest.CaptureFixture[str],
) -> None:
    outputs = {"y": np.array([1.0, 3.0], np.float32), "none": np.zeros((0, 4), np.float32)}
    show_predictions([Prediction("x.npy", outputs, [])])
    text = capsys.readouterr().out
    assert "float32[2]" in text
    assert "1 to 3, mean 2" in text
    assert "empty" in text


def test_the_table_says_once_which_share_of_the_sizes_was_tried() -> None:
    dims = {
        "batch": DimSizes(tried=[1, 2, 8], legal=8),
        "length": DimSizes(tried=[1, 64], legal=512),
    }
    parity = Parity(sizes=SizesTried(tried=5, legal=4096, dims=dims))
    lines = remarks(build(row(parity=parity), row(name="other", parity=parity)))
    assert lines == ["sizes tried: 5 of 4,096 combinations (batch 3 of 8, length 2 of 512)"]
    assert sizes(SizesTried(tried=3, legal=8, dims={"batch": dims["batch"]})) == "batch 3 of 8"
