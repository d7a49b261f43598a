"""Values of inputs: seeded, legal, and as their kind says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runtimes.spec import TensorSpec
from runtimes.validator.inputs.draws import draw, kind_of


@given(
    st.integers(-100, 100),
    st.integers(0, 27),
    st.sampled_from(["float32", "float64", "int64", "int32", "int16", "int8"]),
)
def test_values_stay_in_the_range(low: int, width: int, dtype: str) -> None:
    spec = TensorSpec(shape=(50,), dtype=dtype, range=(low, low + width))
    values = draw("x", spec, {}, np.random.default_rng(0))
    assert values.dtype == dtype
    assert values.min() >= low
    assert values.max() <= low + width


def test_integers_reach_both_ends_of_the_range() -> None:
    spec = TensorSpec(shape=(500,), dtype="uint8", range=(3, 6))
    assert sorted(set(draw("x", spec, {}, np.random.default_rng(0)).tolist())) == [3, 4, 5, 6]


def test_floats_without_a_range_are_standard_normal() -> None:
    values = draw("x", TensorSpec(shape=(100_000,)), {}, np.random.default_rng(0))
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02


@pytest.mark.parametrize(
    ("name", "spec", "kind"),
    [
        ("attention_mask", {"dtype": "int64"}, "mask"),
        ("attention_mask", {"dtype": "float32"}, None),
        ("attention_mask", {"dtype": "bool"}, None),
        ("attention_mask", {"dtype": "int64", "kind": "ids", "range": (0, 9)}, "ids"),
        ("tokens", {"dtype": "int32", "range": (0, 9)}, "ids"),
        ("flags", {"dtype": "int32", "range": (0, 1)}, None),
        ("flags", {"dtype": "int32"}, None),
        ("seen", {"dtype": "bool", "kind": "mask"}, "mask"),
    ],
)
def test_the_kind_is_what_is_declared_or_what_name_and_range_suggest(
    name: str, spec: dict[str, object], kind: str | None
) -> None:
    assert kind_of(name, TensorSpec.model_validate({"shape": (2, 4), **spec})) == kind


@given(st.integers(0, 1000), st.integers(1, 9))
def test_each_row_of_a_mask_has_a_one(seed: int, width: int) -> None:
    spec = TensorSpec(shape=(40, width), dtype="int64", kind="mask")
    mask = draw("m", spec, {}, np.random.default_rng(seed))
    assert set(np.unique(mask)) <= {0, 1}
    assert mask.any(-1).all()


def test_masks_are_padded_and_mixed() -> None:
    mask = draw(
        "m", TensorSpec(shape=(200, 8), dtype="int64", kind="mask"), {}, np.random.default_rng(0)
    )
    padded = (np.diff(mask, axis=-1) <= 0).all(-1).mean()
    assert 0.5 < padded < 0.8


@given(st.integers(1, 50))
def test_a_length_is_at_most_the_dimension_that_it_counts(tokens: int) -> None:
    spec = TensorSpec(shape=("batch",), dtype="int64", kind="length")
    lengths = draw("n", spec, {"batch": 99, "tokens": tokens}, np.random.default_rng(0))
    assert lengths.min() >= 1
    assert lengths.max() <= tokens


def test_floats_have_no_kind() -> None:
    with pytest.raises(ValidationError, match="kind: mask is for integers, not for float32"):
        TensorSpec(shape=(2,), kind="mask")
