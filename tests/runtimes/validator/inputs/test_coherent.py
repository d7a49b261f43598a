"""References from elsewhere whose parts do not fit are refused with the file's name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes.errors import ArtifactError
from runtimes.spec import Arrays
from runtimes.validator.inputs.coherent import incoherence
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference


def ones(*shape: int, dtype: str = "float32") -> np.ndarray[Any, Any]:
    return np.ones(shape, dtype)


def reference() -> Reference:
    """A reference in order: two samples and a batch of both."""
    probes = [
        Probe("a", {"x": ones(1, 4)}, "data", {"batch": 1}, labels=(0,)),
        Probe("b", {"x": ones(1, 4)}, "data", {"batch": 1}, labels=(2,)),
        Probe("both", {"x": ones(2, 4)}, "size", {"batch": 2}, rows=(0, 1)),
    ]
    eager: list[Arrays] = [{"y": ones(len(probe.inputs["x"]), 3)} for probe in probes]
    truth = [{"y": answer["y"].astype(np.float64)} for answer in eager]
    return Reference(probes, eager, truth)


def changed(index: int, **facts: Any) -> Reference:
    """The reference with another probe in place of one."""
    whole = reference()
    whole.probes[index] = replace(whole.probes[index], **facts)
    return whole


def answered(name: str, index: int, array: np.ndarray[Any, Any]) -> Reference:
    """The reference with another answer in place of one."""
    whole = reference()
    getattr(whole, name)[index] = {"y": array}
    return whole


def test_a_reference_in_order_is_read(tmp_path: Path) -> None:
    reference().save(tmp_path / "r")
    assert len(Reference.load(tmp_path / "r").probes) == 3
    assert incoherence(reference().probes, reference().eager, reference().truth) is None


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (changed(2, rows=(0, 3)), "both: its rows are those of the probes"),
        (changed(2, rows=(-1,)), "both: its rows"),
        (changed(2, rows=(0, 1, 0)), "both: its rows"),
        (changed(2, rows=(10**30,)), "both: its rows"),
        (changed(0, labels=(-1,)), "a: a label is no class"),
        (changed(0, labels=(10**30,)), "a: a label is no class"),
        (changed(0, labels=(1, 2)), "a: has 2 labels, and y 1 rows"),
        (changed(0, sizes={"batch": -1}), "a: a size is none"),
        (changed(1, inputs={"x": ones(4)}), "b: its inputs have other dtypes or ranks"),
        (changed(1, inputs={"x": ones(1, 4, dtype="int64")}), "b: its inputs have other dtypes"),
        (answered("eager", 1, ones(1, 2)), "b: eager's answer y is [1, 2], its truth [1, 3]"),
        (answered("truth", 1, ones(3)), "b: eager's answer y is [1, 3], its truth [3]"),
        (replace(reference(), original=[{"y": ones(3)}] * 3), "another rank in another"),
        (replace(reference(), loose=[{"y": ones(1, 3, 1)}] * 3), "another rank in another"),
        (replace(reference(), steps=(0, 7)), "its steps are [0, 7], of 3 probes"),
        (replace(reference(), steps=(-1,)), "its steps are"),
        (replace(reference(), feedback={"x": "z"}), "its state goes from 'z' to 'x'"),
        (replace(reference(), feedback={"h": "y"}), "its state goes from 'y' to 'h'"),
        (changed(0, kind="evil"), ""),
        (changed(0, labels=("one",)), ""),
        (changed(0, name=7), ""),
    ],
    ids=range(21),
)
def test_parts_that_do_not_fit_are_named_with_the_file(
    tmp_path: Path, damaged: Reference, words: str
) -> None:
    damaged.save(tmp_path / "reference.safetensors")
    with pytest.raises(ArtifactError) as caught:
        Reference.load(tmp_path / "reference.safetensors")
    assert str(caught.value).startswith(f"cannot read the reference {tmp_path}")
    assert words in str(caught.value)
