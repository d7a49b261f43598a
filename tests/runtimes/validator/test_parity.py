"""Parity: errors in units of eager's own."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runtimes.session import load
from runtimes.validator.agreement import agreement
from runtimes.validator.outputs.distance import (
    Distance,
    error_scale,
    measure_distance,
    measure_distances,
    rms,
)
from runtimes.validator.parity import summarize
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference

MAX_DB = 400.0
values = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)
vectors = hnp.arrays(np.float64, 6, elements=values)


def compare(values: np.ndarray, eager: np.ndarray, truth: np.ndarray) -> Distance:
    return measure_distance("probe", "y", values, eager, truth)


def reference(*outputs: np.ndarray) -> Reference:
    """A reference of one output whose truth is what eager answers."""
    eager = [{"y": array} for array in outputs]
    return Reference([Probe(str(index), {}) for index in range(len(outputs))], eager, eager)


@given(vectors, vectors)
def test_no_error_is_the_highest_sqnr_and_no_noise(truth: np.ndarray, eager: np.ndarray) -> None:
    distance = compare(truth, eager, truth)
    assert (distance.noise, distance.sqnr_db, distance.max_abs) == (0, MAX_DB, 0)


def test_where_eager_is_right_by_luck_its_usual_error_counts() -> None:
    truth = [np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([5.0, 6.0])]
    eager = [truth[0] * (1 + 1e-6), truth[1] * (1 + 1e-6), truth[2]]
    probes = [Probe(name, {}) for name in ("usual", "usual too", "lucky")]
    pair = Reference(probes, [{"y": a} for a in eager], [{"y": a} for a in truth])
    usual, _, lucky = measure_distances([{"y": a * (1 - 1e-6)} for a in truth], pair)
    assert usual.noise == pytest.approx(1)
    assert lucky.noise == pytest.approx(1), "the usual error is the median over the probes"


def test_eager_s_error_on_an_edge_value_hides_no_fault_elsewhere() -> None:
    """Seen on EfficientNet-B6: 13 dB on a picture of zeros, 105 dB on all others."""
    truth = [np.array([1.0, 2.0])] * 3 + [np.array([3.0, 4.0])]
    eager = [a * (1 + 1e-6) for a in truth[:3]] + [truth[3] * 1.2]
    probes = [Probe(str(index), {}) for index in range(3)] + [Probe("edge zeros", {}, "edge")]
    answers = Reference(probes, [{"y": a} for a in eager], [{"y": a} for a in truth])
    wrong = measure_distances([{"y": a * 1.01} for a in truth], answers)
    assert min(distance.noise for distance in wrong[:3]) > 5000


@given(vectors, vectors)
def test_eagers_own_error_is_the_unit_of_noise(truth: np.ndarray, error: np.ndarray) -> None:
    eager = truth + error
    assume(rms(eager - truth) > 1e-7 * rms(truth) and rms(eager - truth) > 1e-7)
    assert compare(eager, eager, truth).noise == pytest.approx(1)


@given(vectors, vectors, vectors, st.integers(-40, 40))
def test_scaling_everything_changes_neither_noise_nor_sqnr(
    output: np.ndarray, eager: np.ndarray, truth: np.ndarray, power: int
) -> None:
    assume(truth.any())  # the floor of an all-zero truth is absolute
    scale = 2.0**power
    plain, scaled = (
        compare(output, eager, truth),
        compare(output * scale, eager * scale, truth * scale),
    )
    assert scaled.noise == pytest.approx(plain.noise)
    assert scaled.sqnr_db == pytest.approx(plain.sqnr_db)
    assert scaled.max_abs == pytest.approx(plain.max_abs * scale)


@given(vectors, vectors, st.permutations(range(6)))
def test_the_order_of_the_values_does_not_matter(
    output: np.ndarray, truth: np.ndarray, order: list[int]
) -> None:
    plain, shuffled = (
        compare(output, truth, truth),
        compare(output[order], truth[order], truth[order]),
    )
    assert shuffled.noise == pytest.approx(plain.noise)
    assert shuffled.sqnr_db == pytest.approx(plain.sqnr_db)


@given(vectors, vectors)
def test_a_tenth_of_the_error_is_twenty_decibel_more(truth: np.ndarray, error: np.ndarray) -> None:
    assume(rms(truth) > 1e-3 and rms(error) > 1e-3)
    coarse, fine = compare(truth + error, truth, truth), compare(truth + error / 10, truth, truth)
    assert fine.sqnr_db - coarse.sqnr_db == pytest.approx(20, abs=1e-3)
    assert fine.noise == pytest.approx(coarse.noise / 10, rel=1e-3)


def test_a_known_error() -> None:
    truth = np.array([3.0, 4.0])
    distance = compare(np.array([3.3, 4.4]), np.array([3.03, 3.96]), truth)
    assert distance.noise == pytest.approx(10)
    assert distance.sqnr_db == pytest.approx(20)
    assert distance.max_abs == pytest.approx(0.4)


def test_where_eager_is_exact_its_error_counts_as_float32_rounding() -> None:
    truth = np.array([1.0, 1.0])
    assert compare(truth * (1 + 2.0**-24), truth, truth).noise == pytest.approx(1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_the_worst_there_is(bad: float) -> None:
    truth = np.array([1.0, 2.0])
    distance = compare(np.array([1.0, bad]), truth, truth)
    assert distance.sqnr_db == -MAX_DB
    assert not math.isfinite(distance.noise)


def test_an_error_where_the_truth_is_zero_has_no_signal() -> None:
    assert compare(np.array([1e-9]), np.array([0.0]), np.array([0.0])).sqnr_db == -MAX_DB


def test_empty_outputs_agree() -> None:
    empty = np.zeros((0, 4))
    assert compare(empty, empty, empty) == Distance(
        "probe", "noise", "y", noise=0, sqnr_db=MAX_DB, cosine=1, max_abs=0, index=(), not_finite=0
    )


@given(hnp.arrays(np.float64, st.integers(1, 8), elements=st.floats(-1e150, 1e150)))
def test_rms_lies_between_the_smallest_and_the_largest_magnitude(values: np.ndarray) -> None:
    assert np.abs(values).min() * (1 - 1e-9) <= rms(values) <= np.abs(values).max() * (1 + 1e-9)


def test_rms_does_not_overflow() -> None:
    assert rms(np.array([3e300, 4e300])) == pytest.approx(math.sqrt(12.5) * 1e300)


@given(vectors, vectors)
def test_the_cosine_knows_direction_and_not_length(output: np.ndarray, truth: np.ndarray) -> None:
    cosine = compare(output, truth, truth).cosine
    assert abs(cosine) <= 1 + 1e-9
    assert compare(output * 4, truth, truth).cosine == pytest.approx(cosine)
    if truth.any():
        assert compare(truth * 3, truth, truth).cosine == pytest.approx(1)
        assert compare(-truth, truth, truth).cosine == pytest.approx(-1)


@pytest.mark.parametrize(
    ("output", "truth"), [([0.0, 0.0], [1.0, 0.0]), ([math.nan, 1.0], [1.0, 1.0])]
)
def test_without_a_direction_nothing_agrees(output: list[float], truth: list[float]) -> None:
    assert compare(np.array(output), np.array(truth), np.array(truth)).cosine == 0


@given(vectors, st.integers(0, 5), st.sampled_from([1e7, math.nan, -math.inf]))
def test_the_largest_error_is_found_where_it_is(
    truth: np.ndarray, place: int, error: float
) -> None:
    output = truth + 1e-3
    output[place] += error
    distance = compare(output.reshape(2, 3), truth.reshape(2, 3), truth.reshape(2, 3))
    assert distance.index == divmod(place, 3)
    assert distance.not_finite == (not math.isfinite(error))


def test_where_eager_is_not_finite_nothing_is_compared() -> None:
    eager = np.array([1.0, math.nan, -math.inf])
    distance = compare(np.array([1.0, 5.0, math.nan]), eager, eager)
    assert (distance.noise, distance.sqnr_db, distance.not_finite) == (0, MAX_DB, 0)
    assert error_scale(eager, eager) == error_scale(np.array([1.0, 0, 0]), np.array([1.0, 0, 0]))


def edges_wrong() -> tuple[Reference, list[dict[str, np.ndarray]]]:
    """Right on noise, and twice the truth at an edge value."""
    outputs = [{"y": np.array([[1.0, 2.0]])}, {"y": np.array([[1e6, 2e6]])}]
    reference = Reference([Probe("noise 0", {}), Probe("edge large", {}, "edge")], outputs, outputs)
    return reference, [outputs[0], {"y": outputs[1]["y"] * 2}]


def test_a_lossless_artifact_is_judged_on_edge_values() -> None:
    reference, answers = edges_wrong()
    summary = summarize(answers, reference, classification=False, lossless=True)
    assert (summary.edge_where, summary.where) == ("y at edge large", "y at noise 0")
    assert summary.edge_noise is not None
    assert summary.edge_noise > 1e6
    assert summary.noise == 0


def test_a_lossy_artifact_is_not_judged_on_edge_values() -> None:
    reference, answers = edges_wrong()
    summary = summarize(answers, reference, classification=False, lossless=False)
    assert (summary.noise, summary.max_abs, summary.sqnr_db) == (0, 0, MAX_DB)
    assert [output.max_abs for output in summary.outputs] == [0]


def test_integers_and_booleans_count_as_numbers() -> None:
    ones, flags = np.ones(4, np.int64), np.array([True, False])
    assert compare(ones, ones, ones).sqnr_db == MAX_DB
    assert compare(~flags, flags, flags).max_abs == 1


def test_the_summary_is_the_worst_output_of_the_worst_probe() -> None:
    eager = [{"y": np.ones((1, 2)), "z": np.ones((1, 2))} for _ in range(2)]
    reference_of_two = Reference([Probe("first", {}), Probe("second", {})], eager, eager)
    answers = [
        {"y": np.ones((1, 2)), "z": np.ones((1, 2))},
        {"y": np.ones((1, 2)), "z": np.array([[1.0, 1.5]])},
    ]
    summary = summarize(answers, reference_of_two, classification=False)
    assert summary.where == "z at second"
    assert summary.max_abs == 0.5
    assert summary.sqnr_db == min(
        distance.sqnr_db for distance in measure_distances(answers, reference_of_two)
    )
    assert (summary.top1_agreement, summary.samples) == (None, 2)
    first, second = summary.outputs
    assert (first.name, first.max_abs, first.sqnr_db, first.noise) == ("y", 0, MAX_DB, 0)
    assert (second.name, second.max_abs, second.max_abs_at) == ("z", 0.5, "second, index [0, 1]")
    assert (second.sqnr_db, second.noise) == (summary.sqnr_db, summary.noise)


def test_a_nan_is_the_worst_and_becomes_null() -> None:
    truth = reference(np.ones((1, 2)), np.ones((1, 2)))
    summary = summarize(
        [{"y": np.array([[1.0, 99.0]])}, {"y": np.array([[1.0, np.nan]])}], truth, False
    )
    assert (summary.noise, summary.max_abs, summary.sqnr_db, summary.where) == (
        None,
        None,
        -MAX_DB,
        "y at 1",
    )
    [output] = summary.outputs
    assert (output.noise, output.max_abs, output.max_abs_at, output.not_finite) == (
        None,
        None,
        "1, index [0, 1]",
        1,
    )


def test_top1_counts_the_samples_of_every_probe() -> None:
    truth = reference(np.eye(3), np.eye(3)[:1])
    answers = [{"y": np.eye(3)[[0, 1, 0]]}, {"y": np.eye(3)[:1]}]
    assert (agreement(answers, truth).top1, agreement(answers, truth).samples) == (0.75, 4)


@given(
    st.lists(
        hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.just(5)), elements=values),
        min_size=1,
        max_size=3,
    )
)
def test_top1_of_the_same_answers_is_full_whatever_their_scale(outputs: list[np.ndarray]) -> None:
    answers = [{"y": array * 4} for array in outputs]
    decisions = agreement(answers, reference(*outputs))
    assert (decisions.top1, decisions.top5, decisions.samples) == (1.0, 1.0, sum(map(len, outputs)))


@pytest.mark.parametrize("name", ["torchscript", "onnx"])
def test_a_correct_artifact_is_as_noisy_as_eager(
    small_build: Path, small_reference: Reference, name: str
) -> None:
    with load(small_build / name) as session:
        answers = [session.run(probe.inputs) for probe in small_reference.probes]
    summary = summarize(answers, small_reference, classification=True)
    assert summary.noise is not None
    assert 0.2 < summary.noise < 5
    assert summary.sqnr_db is not None
    assert summary.sqnr_db > 120
    assert summary.top1_agreement == 1


def test_eager_itself_has_a_noise_of_one(small_reference: Reference) -> None:
    assert summarize(small_reference.eager, small_reference, True).noise == pytest.approx(1)


def test_at_a_size_of_four_times_the_numbers_errors_may_be_four_times_as_large() -> None:
    rng = np.random.default_rng(0)
    truth = [{"y": rng.standard_normal((1, 6))} for _ in range(3)]
    eager = [{"y": outputs["y"].astype(np.float32)} for outputs in truth]
    shapes = [(1, 3, 8, 8), (5, 3, 8, 8), (1, 3, 16, 16)]
    probes = [Probe(str(shape), {"x": np.zeros(shape)}) for shape in shapes]
    answers = [{"y": outputs["y"] * (1 + 1e-5)} for outputs in eager]
    noise = [
        distance.noise for distance in measure_distances(answers, Reference(probes, eager, truth))
    ]
    assert noise[1] == pytest.approx(noise[0], rel=0.2)
    assert noise[2] == pytest.approx(noise[0] / 4, rel=0.2)
