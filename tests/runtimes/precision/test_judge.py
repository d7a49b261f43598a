"""An artifact is held to the table of its mode: by multiply-adds, and by no more than it promises."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.precision.judge import ComputingLayer, Judgement, Work, judge_work
from runtimes.precision.table import CAST, KINDS, Kind, row_of


def layer(
    name: str, precision: str, amount: int | None = 100, kind: Kind = "linear"
) -> ComputingLayer:
    return ComputingLayer(name, f"body.{name}", kind, precision, amount)


def judge(*layers: ComputingLayer, mode: str = "static", kept: Sequence[str] = ()) -> Judgement:
    return judge_work(Work.of(layers, "int8"), row_of("onnx", mode), kept)


def test_the_share_is_of_the_multiply_adds_not_of_the_layers() -> None:
    small = [layer(f"small{index}", "fp32", 1) for index in range(5)]
    judgement = judge(layer("large", "int8", 1000), *small)
    assert judgement.holds
    assert judgement.words.startswith("99.5% of the multiply-adds in int8 (1 of 6 layers)")
    assert not judge(layer("large", "fp32", 1000), layer("small", "int8", 1)).holds


def test_layers_count_if_some_sizes_are_unknown() -> None:
    judgement = judge(layer("a", "int8", None), *[layer(name, "int8") for name in "bcdefghi"])
    assert judgement.holds
    assert judgement.words == "100.0% of the layers in int8 (9 of 9 layers)"


@pytest.mark.parametrize(
    ("mode", "kind", "designed"),
    [
        ("static", "product", True),
        ("static", "linear", False),
        ("static", "convolution", False),
        ("static", "lstm", True),
        ("dynamic", "product", True),
        ("dynamic", "convolution", True),
        ("dynamic", "lstm", False),
        ("dynamic", "recurrent", True),
        ("weight-only", "linear", False),
        ("weight-only", "lstm", True),
    ],
)
def test_a_kind_that_the_mode_leaves_float_is_not_asked(
    mode: str, kind: Kind, designed: bool
) -> None:
    judgement = judge(layer("a", "int8"), layer("b", "fp32", kind=kind), mode=mode)
    assert judgement.holds is designed
    assert judgement.designed == designed
    assert ("float by design: " in judgement.words) is designed
    assert ("not as asked: body.b (fp32)" in judgement.words) is not designed


@pytest.mark.parametrize("name", ["b", "body.b"])
def test_a_layer_that_the_recipe_keeps_float_is_not_asked(name: str) -> None:
    layers = layer("a", "int8"), layer("b", "fp32")
    assert not judge(*layers).holds
    judgement = judge(*layers, kept=[name])
    assert judgement.holds
    assert judgement.words.endswith("kept by `exclude`, a budget or their range (1)")


def test_an_artifact_without_any_layer_in_the_precision_fails() -> None:
    assert not judge(layer("a", "fp32", kind="lstm")).holds
    assert not judge(layer("a", "fp32"), kept=["a"]).holds


def test_a_cast_is_asked_of_all_kinds() -> None:
    assert set(CAST.values()) == {"always"}
    assert row_of("openvino", None) == CAST


def test_a_format_of_a_plug_in_is_held_to_the_same_as_onnx() -> None:
    assert row_of("their-format", "dynamic") == row_of("onnx", "dynamic")


LAYERS = st.lists(
    st.builds(
        ComputingLayer,
        st.text("ab", max_size=3),
        st.text("ab.", max_size=3),
        st.sampled_from(KINDS),
        st.sampled_from(["int8", "fp32"]),
        st.none() | st.integers(0, 1000),
    ),
    max_size=8,
)


@given(LAYERS, st.sampled_from(["static", "dynamic", "weight-only"]))
def test_a_manifest_keeps_the_judgement(layers: list[ComputingLayer], mode: str) -> None:
    work = Work.of(layers, "int8")
    read = Work.from_build({"work": work.for_build()})
    assert read == work
    judgement = judge(*layers, mode=mode)
    assert 0 <= judgement.share <= 1
    assert judgement.designed + len(judgement.missing) == len(work.others)
