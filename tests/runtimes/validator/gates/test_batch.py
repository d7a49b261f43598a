"""The batch gate: row k of a batch equals sample k alone, whatever else the artifact does wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.artifact.gates import Gates
from runtimes.results import GateResult
from runtimes.spec import DimRange, Dims, TensorSpec
from runtimes.validator.defaults import SYNTHETIC_PROBES
from runtimes.validator.evidence import Evidence
from runtimes.validator.gates.batch import batch_invariant
from runtimes.validator.outputs.errors import Errors
from runtimes.validator.parity import summarize
from runtimes.validator.probes import synthetic_probes
from runtimes.validator.reference import Reference
from tests.runtimes.validator.gates.manifests import manifest_of

Array = np.ndarray[Any, Any]
Model = Callable[[Array], Array]

BATCH = {"batch": DimRange(max=8)}
WEIGHT = np.linspace(-1, 1, 12).reshape(4, 3)


def by_row(x: Array) -> Array:
    """Each row on its own, so that not even rounding depends on the batch."""
    return np.stack([row @ WEIGHT.astype(x.dtype) for row in x])


def judged(
    artifact: Model,
    eager: Model = by_row,
    *,
    shape: tuple[int | str, ...] = ("batch", 4),
    output: tuple[int | str, ...] = ("batch", 3),
    dims: Dims = BATCH,
    precision: str = "fp32",
    limits: Gates | None = None,
    rounding: float | None = None,
    quantize: dict[str, object] | None = None,
) -> GateResult:
    """Apply the gate to an artifact's answers to noise, to batches of it and to edge values.

    `rounding`: the rms error of eager rounded to the precision; `quantize`: a report of the manifest.
    """
    inputs = {"x": TensorSpec(shape=shape)}
    manifest = manifest_of(inputs, {"y": TensorSpec(shape=output)}, dims=dims, precision=precision)
    manifest = manifest.model_copy(
        update={"runtime": "onnx", "build": {"passes": [{"quantize": quantize}]}}
    )
    probes = synthetic_probes(inputs, dims)
    truth = [{"y": eager(probe.inputs["x"].astype(np.float64))} for probe in probes]
    reference = Reference(probes, [{"y": eager(probe.inputs["x"])} for probe in probes], truth)
    if rounding is not None:
        errors = {"y": Errors(whole=rounding**2)}
        reference = replace(reference, rounding={precision: errors})
    answers = [{"y": artifact(probe.inputs["x"])} for probe in probes]
    parity = summarize(answers, reference, classification=False)
    return batch_invariant(Evidence(manifest, reference, answers, [], parity, limits or Gates()))


def spoiled(size: int, row: int, factor: float) -> Model:
    """Right, but for one row of the batches of one size."""

    def model(x: Array) -> Array:
        answer = by_row(x)
        if len(x) == size:
            answer[row] *= np.float32(factor)
        return answer

    return model


@given(st.floats(-1e3, 1e3, width=32), st.floats(-1e3, 1e3, width=32))
def test_rows_that_do_not_know_each_other_pass_however_wrong_they_are(
    factor: float, bias: float
) -> None:
    result = judged(lambda x: by_row(x) * np.float32(factor) + np.float32(bias))
    assert (result.gate, result.ok) == ("batch", True)
    assert result.detail.endswith(" batches equal the same samples alone")


def test_an_artifact_that_subtracts_the_batch_mean_fails() -> None:
    result = judged(lambda x: by_row(x) - by_row(x).mean(0))
    assert (result.gate, result.ok) == ("batch", False)
    assert result.detail.startswith(
        "row 0 of y at size batch=3 differs from the same sample alone by "
    )


@given(st.sampled_from([3, 8]), st.data())
def test_the_row_that_differs_is_named(size: int, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, min(size, SYNTHETIC_PROBES) - 1))
    result = judged(spoiled(size, row, 1.001))
    assert result.ok is False
    assert result.detail.startswith(f"row {row} of y at size batch={size} differs")


def test_rows_that_are_not_finite_only_in_a_batch_fail() -> None:
    assert judged(spoiled(8, 2, np.nan)).ok is False


@pytest.mark.parametrize(
    ("precision", "passes", "fails"), [("fp16", 1.003, 1.006), ("bf16", 1.025, 1.05)]
)
def test_rows_of_a_lossy_artifact_may_differ_by_twice_what_it_may_lose(
    precision: str, passes: float, fails: float
) -> None:
    assert judged(spoiled(8, 1, passes), precision=precision).ok
    assert judged(spoiled(8, 1, fails), precision=precision).ok is False


def test_rows_of_a_half_precision_batch_may_differ_by_its_measured_error() -> None:
    assert judged(spoiled(8, 1, 1.003), precision="fp16", rounding=0.1).ok
    assert judged(spoiled(8, 1, 1.003), precision="fp16", rounding=1e-4).ok is False
    loose = Gates(sqnr_db=40)
    assert judged(spoiled(8, 1, 1.003), precision="fp16", rounding=1e-4, limits=loose).ok


def test_rows_of_an_int8_batch_may_differ_by_the_error_of_the_quantized_graph() -> None:
    errors = {"expected_error": {"y": {"whole": 1e-4**2}}}
    assert judged(spoiled(8, 1, 1.01), precision="int8").ok
    assert judged(spoiled(8, 1, 1.01), precision="int8", quantize=errors).ok is False
    assert judged(by_row, precision="int8", quantize=errors).ok
    dynamic = errors | {"options": {"mode": "dynamic"}}
    rows_share_a_scale = judged(spoiled(8, 1, 1.01), precision="int8", quantize=dynamic)
    assert rows_share_a_scale.ok


def test_a_looser_gate_of_the_recipe_lets_rows_differ_as_much() -> None:
    assert judged(spoiled(8, 1, 1.001)).ok is False
    assert judged(spoiled(8, 1, 1.001), limits=Gates(noise=1e9)).ok


def test_what_eager_itself_mixes_is_not_asked_of_an_artifact() -> None:
    def centred(x: Array) -> Array:
        answer = by_row(x)
        answer -= answer.mean(0)
        return answer

    assert judged(centred, centred) == GateResult(
        gate="batch", ok=None, detail="no dynamic batch to compare"
    )


def test_a_fixed_batch_has_nothing_to_compare() -> None:
    assert judged(by_row, shape=(2, 4), output=(2, 3), dims={}).ok is None


def test_an_output_that_grows_with_the_batch_in_every_row_is_not_compared() -> None:
    """As in CLIP: the similarity of every sample with every other."""
    dims = {"batch": DimRange(min=1, opt=2, max=8)}

    def similarity(x: Array) -> Array:
        return np.asarray(x @ x.T)

    assert judged(similarity, similarity, output=("batch", "batch"), dims=dims).ok is None


def test_an_output_whose_first_dimension_is_another_dynamic_one_is_not_compared() -> None:
    dims = {"batch": DimRange(max=8), "tokens": DimRange(max=4)}

    def model(x: Array) -> Array:
        return np.asarray(x.sum(0))

    assert judged(model, model, shape=("batch", "tokens"), output=("tokens",), dims=dims).ok is None


def test_a_mask_of_minus_infinity_is_the_same_in_every_row() -> None:
    def masked(x: Array) -> Array:
        answer = by_row(x)
        answer[:, 1] = -np.inf
        return answer

    assert judged(masked, masked).ok


def test_an_output_of_one_number_for_each_row_is_compared_too() -> None:
    def sums(x: Array) -> Array:
        return by_row(x)[:, 0]

    assert judged(sums, sums, output=("batch",)).ok is True
    wrong = judged(lambda x: sums(x) + (len(x) > 1), sums, output=("batch",))
    assert wrong.ok is False
