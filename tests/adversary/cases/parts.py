"""Lossy artifacts: honest rounding, and defects of one part beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from runtimes.spec import Arrays
from tests.adversary.cases.finite import right
from tests.adversary.harness import (
    Artifact,
    Case,
    Run,
    changed,
    right_run,
    seeded,
    studied,
    the_only,
)
from tests.adversary.subjects.detectors import DAMAGED, DENOISER, LIGHTLY_PRUNED, PRUNED, YOLO
from tests.adversary.subjects.pictures import DENSE
from tests.adversary.subjects.vectors import (
    BINARY,
    CLASSIFIER,
    KELVIN,
    MASKED,
    OFFSET,
    ONE_LARGE,
    PROBABILITIES,
    RELABELLED,
    REPEATED,
    TASKS,
    UNLABELLED,
)

Values = np.ndarray[Any, Any]


def _output(change: Callable[[Values], Values]) -> Artifact:
    """Change each output of floats."""

    def apply(inputs: Arrays, outputs: Arrays) -> Arrays:
        return {name: np.asarray(change(a.copy()), a.dtype) for name, a in outputs.items()}

    return changed(apply)


def _of(name: str, change: Callable[[Values], Values]) -> Artifact:
    """Change one output."""

    def apply(inputs: Arrays, outputs: Arrays) -> Arrays:
        value = change(outputs[name].copy())
        return {**outputs, name: np.asarray(value, outputs[name].dtype)}

    return changed(apply)


def _set(index: Any, value: Any) -> Callable[[Values], Values]:
    """Set a part to a value."""

    def change(array: Values) -> Values:
        array[index] = value
        return array

    return change


def _finite_set(index: int, value: float) -> Callable[[Values], Values]:
    """Set a class where it is not masked."""

    def change(array: Values) -> Values:
        array[:, index] = np.where(np.isfinite(array[:, index]), value, array[:, index])
        return array

    return change


def _finite_swap(array: Values) -> Values:
    """Exchange two classes where neither is masked."""
    both = np.isfinite(array[:, 8]) & np.isfinite(array[:, 9])
    array[both, 8], array[both, 9] = array[both, 9], array[both, 8]
    return array


def _noisy(index: Any, scale: float) -> Artifact:
    """Seeded noise on a part: the same for the same input."""

    def apply(inputs: Arrays, outputs: Arrays) -> Arrays:
        array = the_only(outputs)
        part = array[index]
        array[index] = part + scale * seeded(inputs).standard_normal(part.shape)
        return outputs

    return changed(apply)


def _rounded_to(step: float, middle: float = 0.0) -> Callable[[Values], Values]:
    return lambda array: np.round((array - middle) / step) * step + middle


def _scores_less(share: float) -> Callable[[Values], Values]:
    def change(array: Values) -> Values:
        array[:, 4:] *= 1 - share
        return array

    return change


def _second(array: Values) -> Values:
    """The best and the second best exchange their values."""
    order = np.argsort(array, axis=1)
    rows = np.arange(len(array))
    first, second = order[:, -1], order[:, -2]
    array[rows, first], array[rows, second] = array[rows, second], array[rows, first]
    return array


def _never(index: int) -> Callable[[Values], Values]:
    """A class that is never the first: it is at most as likely as the mean."""

    def change(array: Values) -> Values:
        array[:, index] = np.minimum(array[:, index], array.mean(1))
        return array

    return change


def _swapped(first: int, second: int, axis: int = 1) -> Callable[[Values], Values]:
    def change(array: Values) -> Values:
        order = list(range(array.shape[axis]))
        order[first], order[second] = second, first
        return np.take(array, order, axis)

    return change


def _constant_of(subject: Any) -> Artifact:
    """An artifact that never reads its input: it returns the first answer, always."""

    def artifact(run: Run) -> Run:
        reference = studied(subject).reference
        first = {name: array[:1] for name, array in reference.eager[0].items()}

        def answer(inputs: Arrays) -> Arrays:
            batch = len(the_only(inputs))
            return {name: np.concatenate([array] * batch) for name, array in first.items()}

        return answer

    return artifact


def _mean_of(subject: Any) -> Artifact:
    """An artifact that returns the mean answer, always."""

    def artifact(run: Run) -> Run:
        reference = studied(subject).reference
        samples = [o for p, o in zip(reference.probes, reference.eager, strict=True) if p.sample]
        means = {name: np.mean([o[name] for o in samples], axis=0) for name in samples[0]}

        def answer(inputs: Arrays) -> Arrays:
            batch = len(the_only(inputs))
            return {name: np.concatenate([array] * batch) for name, array in means.items()}

        return answer

    return artifact


LOSSY = ("fp16", "bf16", "int8")


def _each(
    id: str, subject: Any, artifact: Artifact, precisions: tuple[str, ...] = LOSSY
) -> list[Case]:
    """The same defect in several precisions."""
    return [Case(id, subject, artifact, "parity", precision) for precision in precisions]


_RIGHT = [
    Case("honest rounding (right)", subject, right, None, precision)
    for subject in (
        CLASSIFIER,
        UNLABELLED,
        PROBABILITIES,
        KELVIN,
        MASKED,
        OFFSET,
        TASKS,
        YOLO,
        DENOISER,
        DENSE,
    )
    for precision in ("fp32", *LOSSY)
]
_DETECTIONS = [
    *_each("every score is zero", YOLO, _output(_set(np.s_[:, 4:], 0)), ("fp32", *LOSSY)),
    *_each("every score is a half", YOLO, _output(_set(np.s_[:, 4:], 0.5))),
    *_each("one class is never found", YOLO, _output(_set(np.s_[:, 5], 0)), ("fp32", *LOSSY)),
    *_each("two classes exchanged", YOLO, _output(_swapped(4, 6))),
    *_each("scores of steps of the boxes", YOLO, _output(_rounded_to(640 / 127)), ("fp16", "int8")),
    *_each("heights are constant", YOLO, _output(_set(np.s_[:, 3], 320.0))),
    *_each("x and y exchanged", YOLO, _output(_swapped(0, 1))),
    Case("1e-4 rms on scores", YOLO, _noisy(np.s_[:, 4:], 1e-4), "parity"),
    Case("1e-4 rms on one score", YOLO, _noisy(np.s_[:, 6], 1e-4), "parity"),
    Case("scores a five-thousandth less", YOLO, _of("boxes", _scores_less(2e-4)), "parity"),
    Case("scores through four bits", YOLO, _output(_rounded_to(1 / 8)), "parity", "fp16"),
]
_LOGITS = [
    *_each(
        "the other logits are zero",
        ONE_LARGE,
        _output(_set(np.s_[:, [0, 1, 2, 4, 5, 6, 7, 8, 9]], 0)),
    ),
    *_each("steps of the large logit", ONE_LARGE, _output(_rounded_to(8.0)), ("fp16", "int8")),
    *_each("the large logit is zero", ONE_LARGE, _output(_set(np.s_[:, 3], 0))),
    *_each(
        "the large logit is a constant",
        ONE_LARGE,
        _output(_set(np.s_[:, 3], 1000.0)),
        ("fp32", "fp16"),
    ),
    *_each("a logit of 1,000", CLASSIFIER, _output(_set(np.s_[:, 3], 1000.0)), ("fp32", *LOSSY)),
    *_each("a logit is always zero", CLASSIFIER, _output(_set(np.s_[:, 3], 0.0)), ("fp32", *LOSSY)),
    *_each("a masked class is else zero", MASKED, _output(_finite_set(4, 0.0)), ("fp32", *LOSSY)),
    *_each("two classes exchanged beside masks", MASKED, _output(_finite_swap)),
    *_each("a logit of 1,000", UNLABELLED, _output(_set(np.s_[:, 3], 1000.0))),
    *_each("the second likeliest is first", CLASSIFIER, _output(_second)),
    *_each("the second likeliest is first", UNLABELLED, _output(_second)),
    *_each("the second likeliest is first", PROBABILITIES, _output(_second)),
    *_each("0.3 rms on one logit", CLASSIFIER, _noisy(np.s_[:, 4], 0.3), ("fp32", *LOSSY)),
    *_each("0.3 rms on two logits", CLASSIFIER, _noisy(np.s_[:, 4:6], 0.3)),
    *_each("1 rms on all logits", CLASSIFIER, _noisy(np.s_[:], 1.0)),
    *_each(
        "half a unit more on one logit",
        CLASSIFIER,
        _output(lambda a: a + 0.5 * (np.arange(10) == 7)),
    ),
    *_each("one class is never first", CLASSIFIER, _output(_never(2))),
    *_each("two classes exchanged", CLASSIFIER, _output(_swapped(8, 9)), ("fp32", *LOSSY)),
    *_each("two classes exchanged", UNLABELLED, _output(_swapped(8, 9))),
    *_each("all probabilities are equal", PROBABILITIES, _output(lambda a: np.full_like(a, 0.1))),
    *_each("negated", CLASSIFIER, _output(np.negative)),
    *_each("one answer for all", CLASSIFIER, _constant_of(CLASSIFIER)),
]
_LABELS = [
    Case("two classes by one score (right)", BINARY, right, None, "int8"),
    Case(
        "two classes, the second seldom",
        BINARY,
        _output(lambda a: a - np.float32(0.5)),
        "parity",
        "int8",
        {"sqnr_db": -20.0},
    ),
    Case(
        "twenty samples prove half a point, a hundred times",
        REPEATED,
        right,
        "parity",
        "int8",
        {"accuracy_drop": 0.005},
    ),
    Case(
        "labels of another model prove a point",
        RELABELLED,
        right,
        "parity",
        "int8",
        {"accuracy_drop": 0.01},
    ),
    Case("labels of another model (right)", RELABELLED, right, None, "int8"),
]
_NUMBERS = [
    *_each("three answers", KELVIN, _output(_rounded_to(1.1, 294.0))),
    *_each("whole numbers", KELVIN, _output(np.round)),
    *_each("the mean, always", KELVIN, _mean_of(KELVIN), ("fp32", *LOSSY)),
    *_each("mirrored at the mean", KELVIN, _output(lambda a: 588 - a)),
    *_each("half a kelvin more", KELVIN, _output(lambda a: a + 0.5)),
    *_each("clipped from below", KELVIN, _output(lambda a: np.maximum(a, 294.0))),
    Case(
        "off by one per cent of the spread",
        KELVIN,
        _output(lambda a: 294 + 1.01 * (a - 294)),
        "parity",
    ),
    *_each("never reads its input", OFFSET, _mean_of(OFFSET), ("fp32", *LOSSY)),
    *_each("always 300", OFFSET, _output(lambda a: np.full_like(a, 300.0)), ("fp32", *LOSSY)),
    *_each("the answer to the first sample, always", OFFSET, _constant_of(OFFSET)),
    *_each("one of six numbers is constant", OFFSET, _output(_set(np.s_[:, 2], 300.0))),
    *_each("two numbers exchanged", OFFSET, _output(_swapped(0, 1))),
    *_each("the small output is zero", TASKS, _of("small", np.zeros_like), ("fp32", *LOSSY)),
    *_each("the tiny output is zero", TASKS, _of("tiny", np.zeros_like), ("fp32", *LOSSY)),
    *_each("the tiny output in steps of a thousandth", TASKS, _of("tiny", _rounded_to(1e-3))),
    *_each("one number of the small output is zero", TASKS, _of("small", _set(np.s_[:, 1], 0))),
]
_PICTURES = [
    *_each("one channel is zero", DENOISER, _output(_set(np.s_[:, 1], 0))),
    *_each("one row is zero", DENOISER, _output(_set(np.s_[:, :, 7], 0))),
    *_each("the border is zero", DENOISER, _output(_set(np.s_[:, :, :, -1], 0))),
    *_each("channels exchanged", DENOISER, _output(_swapped(0, 2))),
    *_each("shifted by a pixel", DENOISER, _output(lambda a: np.roll(a, 1, 3)), ("fp32", "fp16")),
    *_each("mirrored", DENOISER, _output(lambda a: a[..., ::-1])),
    *_each("every picture is the mean", DENOISER, _mean_of(DENOISER)),
    Case("a channel pruned away", PRUNED, right, "parity"),
    Case("a channel pruned away", PRUNED, right, "parity", "int8"),
    Case("worse than its noisy input", DAMAGED, right, "parity"),
    Case("a channel a little weaker (right)", LIGHTLY_PRUNED, right, None),
    Case("a channel a little weaker (right)", LIGHTLY_PRUNED, right, None, "int8"),
]
_PRECISION = [
    Case(
        "int8 that computes in float32", CLASSIFIER, right, "precision", "int8", layers={"fp32": 2}
    ),
    Case(
        "half of int8 computes in float32",
        CLASSIFIER,
        right,
        "precision",
        "int8",
        layers={"int8": 1, "fp32": 1},
    ),
    Case("int8 (right)", CLASSIFIER, right, None, "int8", layers={"int8": 2}),
    Case(
        "fp16 that computes in float32", CLASSIFIER, right, "precision", "fp16", layers={"fp32": 2}
    ),
    Case("int8 called float32", CLASSIFIER, lambda run: right_run(CLASSIFIER, "int8"), "parity"),
    Case("fp16 called float32", CLASSIFIER, lambda run: right_run(CLASSIFIER, "fp16"), "parity"),
    Case("int8 called fp16", DENOISER, lambda run: right_run(DENOISER, "int8"), "parity", "fp16"),
]
CASES = [*_RIGHT, *_DETECTIONS, *_LOGITS, *_LABELS, *_NUMBERS, *_PICTURES, *_PRECISION]
