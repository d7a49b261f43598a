"""Orders, ties, indices, and whole numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from runtimes.spec import Arrays
from tests.adversary.cases.finite import right
from tests.adversary.harness import Artifact, Case, Run, changed, seeded
from tests.adversary.subjects.detectors import BEST, FOREGROUND, MASK, SEGMENTS, TIED
from tests.adversary.subjects.sequences import CODES, HUGE, SECONDS
from tests.adversary.subjects.vectors import COUNTED, DECISIONS, MANY_DECISIONS

Values = np.ndarray[Any, Any]


def _output(name: str, change: Callable[[Values], Values]) -> Artifact:
    """Change one output."""

    def apply(inputs: Arrays, outputs: Arrays) -> Arrays:
        value = change(outputs[name])
        return {**outputs, name: np.ascontiguousarray(value, outputs[name].dtype)}

    return changed(apply)


def _ties(reverse: Callable[[Arrays, int, slice], None]) -> Artifact:
    """Apply a change to each run of equal scores in each row."""

    def apply(inputs: Arrays, outputs: Arrays) -> Arrays:
        for row, scores in enumerate(outputs["scores"]):
            edges = [0, *(np.flatnonzero(np.diff(scores)) + 1).tolist(), len(scores)]
            for first, last in itertools.pairwise(edges):
                if last - first > 1:
                    reverse(outputs, row, slice(first, last))
        return outputs

    return changed(apply)


def _reverse_all(outputs: Arrays, row: int, tie: slice) -> None:
    for array in outputs.values():
        array[row, tie] = array[row, tie][::-1].copy()


def _reverse_boxes(outputs: Arrays, row: int, tie: slice) -> None:
    outputs["boxes"][row, tie] = outputs["boxes"][row, tie][::-1].copy()


def _repeat_first(outputs: Arrays, row: int, tie: slice) -> None:
    """The first of a tie that is not the last one takes the place of its others."""
    if tie.stop < outputs["scores"].shape[1]:
        for array in outputs.values():
            array[row, tie] = array[row, tie][:1]


def _rows_exchanged(outputs: Arrays) -> Arrays:
    order = [1, 0, *range(2, outputs["scores"].shape[1])]
    return {name: array[:, order] for name, array in outputs.items()}


def _jittered(scale: float) -> Artifact:
    """Scores with errors, and all rows in the order of these scores: as another engine sorts them."""

    def apply(inputs: Arrays, outputs: Arrays) -> Arrays:
        scores = outputs["scores"]
        noise = seeded(inputs).standard_normal(scores.shape)
        moved = scores + np.float32(scale) * noise.astype(np.float32)
        order = np.argsort(-moved, axis=1, kind="stable")
        sorted_outputs = {"scores": np.take_along_axis(moved, order, 1)}
        sorted_outputs["classes"] = np.take_along_axis(outputs["classes"], order, 1)
        sorted_outputs["boxes"] = np.take_along_axis(outputs["boxes"], order[..., None], 1)
        return sorted_outputs

    return changed(apply)


def _other_member(inputs: Arrays, outputs: Arrays) -> Arrays:
    """Another box in the last tie, as one that was cut off."""
    scores = outputs["scores"]
    for row in range(len(scores)):
        if scores[row, -1] == scores[row, -2]:
            outputs["boxes"][row, -1] = 640 - outputs["boxes"][row, -1]
    return outputs


def _centres(boxes: Values) -> Values:
    """Corners as centres and sizes."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], -1)


def _flipped(share: float) -> Callable[[Values], Values]:
    """Some of the whole numbers are off by one (or inverted)."""

    def change(values: Values) -> Values:
        places = np.arange(values.size).reshape(values.shape)
        wrong = (places * 7919) % 1000 < share * 1000
        return np.where(wrong, ~values if values.dtype == bool else values + 1, values)

    return change


def _one_place(value: Any) -> Callable[[Values], Values]:
    def change(values: Values) -> Values:
        values = values.copy()
        values[..., 5] = value
        return values

    return change


def _subtly(right_run: Run) -> Run:
    """The class of a tenth of the samples is the second likeliest."""

    def run(inputs: Arrays) -> Arrays:
        outputs = right_run(inputs)
        wrong = np.abs(inputs["features"]).sum(1) * 1e3 % 10 < 1
        outputs["best"] = np.where(wrong, (outputs["best"] + 1) % 10, outputs["best"])
        return outputs

    return run


def _fifth_dropped(inputs: Arrays, outputs: Arrays) -> Arrays:
    """The sixth stands for the fifth, too."""
    for array in outputs.values():
        array[:, 4] = array[:, 5]
    return outputs


def _row(place: int, value: Any) -> Callable[[Values], Values]:
    """A row of pixels is of one class."""

    def change(values: Values) -> Values:
        values = values.copy()
        values[:, place] = value
        return values

    return change


def _fourth_more(inputs: Arrays, outputs: Arrays) -> Arrays:
    """One of the numbers of each row is one more."""
    for array in outputs.values():
        array[:, 3] += 1
    return outputs


_BOXES = [
    Case("equal scores in another order (right)", TIED, _ties(_reverse_all), None),
    Case("another member of the last tie (right)", TIED, changed(_other_member), None),
    Case("equal scores in eager's order (right)", TIED, right, None),
    Case(
        "boxes of a tie exchanged, classes not",
        BEST,
        _output("boxes", lambda b: b[:, ::-1]),
        "parity",
    ),
    Case("one of a tie repeated", TIED, _ties(_repeat_first), "parity"),
    Case("scores a little off, in their order (right)", BEST, _jittered(1e-7), None),
    Case("scores off, in their order (right)", BEST, _jittered(1e-3), None, "int8"),
    Case("the first two exchanged", BEST, changed(lambda i, o: _rows_exchanged(o)), "parity"),
    Case(
        "the worst first",
        BEST,
        changed(lambda i, o: {n: a[:, ::-1] for n, a in o.items()}),
        "parity",
    ),
    Case(
        "the class of the first is another",
        BEST,
        _output("classes", lambda c: (c + (np.arange(8) == 0)) % 3),
        "parity",
    ),
    Case(
        "the class of the last is another",
        BEST,
        _output("classes", lambda c: (c + (np.arange(8) == 7)) % 3),
        "parity",
    ),
    Case("classes counted from one", BEST, _output("classes", lambda c: c + 1), "parity"),
    Case("classes counted from one", BEST, _output("classes", lambda c: c + 1), "parity", "int8"),
    Case("boxes as centres and sizes", BEST, _output("boxes", _centres), "parity"),
    Case("boxes as centres and sizes", BEST, _output("boxes", _centres), "parity", "fp16"),
    Case("x and y exchanged", BEST, _output("boxes", lambda b: b[..., [1, 0, 3, 2]]), "parity"),
    Case(
        "boxes in other places than scores",
        BEST,
        _output("boxes", lambda b: np.roll(b, 1, 1)),
        "parity",
    ),
    Case(
        "boxes in other places than scores",
        BEST,
        _output("boxes", lambda b: np.roll(b, 1, 1)),
        "parity",
        "int8",
    ),
    Case(
        "the last box repeats the one before",
        BEST,
        _output("boxes", lambda b: b[:, [*range(7), 6]]),
        "parity",
    ),
    *(
        Case(
            "the last box repeats the one before",
            BEST,
            _output("boxes", lambda b: b[:, [*range(7), 6]]),
            "parity",
            precision,
        )
        for precision in ("fp16", "bf16", "int8")
    ),
    Case("boxes cut to 320", BEST, _output("boxes", lambda b: b.clip(0, 320)), "parity"),
    Case("whole boxes", BEST, _output("boxes", np.round), "parity"),
    *[
        Case("the fifth is dropped", BEST, changed(_fifth_dropped), "parity", precision)
        for precision in ("fp32", "fp16")
    ],
    Case("the best cells (right)", BEST, right, None),
    Case("the best cells (right)", BEST, right, None, "fp16"),
    Case("the best cells (right)", BEST, right, None, "int8"),
]
_NUMBERS = [
    Case("the class of each pixel (right)", SEGMENTS, right, None),
    Case("the class of each pixel (right)", SEGMENTS, right, None, "fp16"),
    Case("the class of each pixel (right)", SEGMENTS, right, None, "int8"),
    Case("one pixel is always class 0", SEGMENTS, _output("classes", _one_place(0)), "parity"),
    Case(
        "one pixel is never foreground",
        SEGMENTS,
        _output("foreground", _one_place(False)),
        "parity",
    ),
    Case("foreground inverted", SEGMENTS, _output("foreground", np.logical_not), "parity"),
    Case("foreground inverted", SEGMENTS, _output("foreground", np.logical_not), "parity", "fp16"),
    Case(
        "classes off by one", SEGMENTS, _output("classes", lambda c: (c + 1) % 4), "parity", "int8"
    ),
    Case(
        "a third of the pixels wrong",
        SEGMENTS,
        _output("classes", _flipped(0.34)),
        "parity",
        "int8",
    ),
    Case("a pixel of a hundred wrong", SEGMENTS, _output("classes", _flipped(0.01)), "parity"),
    Case(
        "a pixel of twenty wrong (honest)",
        SEGMENTS,
        _output("classes", _flipped(0.05)),
        None,
        "int8",
    ),
    Case("always background", SEGMENTS, _output("foreground", np.zeros_like), "parity", "int8"),
    Case("decisions (right)", DECISIONS, right, None),
    Case("decisions (right)", DECISIONS, right, None, "int8"),
    Case("the class is the next one", DECISIONS, _output("best", lambda b: (b + 1) % 10), "parity"),
    Case(
        "the class is always 3", DECISIONS, _output("best", lambda b: b * 0 + 3), "parity", "int8"
    ),
    Case("a tenth of the classes wrong", DECISIONS, _subtly, "parity"),
    Case("nothing is positive", DECISIONS, _output("positive", np.zeros_like), "parity"),
    Case("all is positive", DECISIONS, _output("positive", np.ones_like), "parity", "int8"),
    Case(
        "one class is never positive", DECISIONS, _output("positive", _one_place(False)), "parity"
    ),
    Case(
        "an ignored output is wrong (right)",
        DECISIONS,
        _output("best", lambda b: b + 1),
        None,
        gates={"outputs": {"best": {"ignore": True}}},
    ),
    Case(
        "another output than the ignored one is wrong",
        DECISIONS,
        _output("positive", np.logical_not),
        "parity",
        gates={"outputs": {"best": {"ignore": True}}},
    ),
]
_MASKS = [
    case
    for subject in (FOREGROUND, MASK)
    for precision in ("fp16", "bf16", "int8")
    for case in (
        Case("a rare foreground (right)", subject, right, None, precision),
        Case("nothing is foreground", subject, _output("mask", np.zeros_like), "parity", precision),
        Case("the last row is empty", subject, _output("mask", _row(-1, 0)), "parity", precision),
    )
]
_LARGE = [
    Case("codes (right)", CODES, right, None),
    Case("one of 512 codes is one more", CODES, changed(_fourth_more), "parity"),
    Case("seconds of the epoch (right)", SECONDS, right, None),
    Case("one of 512 is a second more", SECONDS, changed(_fourth_more), "parity"),
    Case("codes that float64 does not hold (right)", HUGE, right, None),
    Case("one of 512 such codes is one more", HUGE, changed(_fourth_more), "parity"),
    Case("a constant count (right)", COUNTED, right, None),
    Case("a constant count (right)", COUNTED, right, None, "int8"),
    Case("a constant count is one more", COUNTED, _output("count", lambda c: c + 1), "parity"),
    Case(
        "a constant count is one more",
        COUNTED,
        _output("count", lambda c: c + 1),
        "parity",
        "int8",
    ),
    *[
        Case(
            f"class {lost} is never found",
            SEGMENTS,
            _output("classes", lambda c, lost=lost: np.where(c == lost, (lost + 1) % 4, c)),  # type: ignore[misc]
            "parity",
            "int8",
        )
        for lost in range(4)
    ],
    Case("the last row is class 0", SEGMENTS, _output("classes", _row(-1, 0)), "parity", "int8"),
    Case(
        "one class is never the best",
        MANY_DECISIONS,
        _output("best", lambda b: np.where(b == 3, 4, b)),
        "parity",
        "int8",
    ),
    Case(
        "one class is never positive",
        MANY_DECISIONS,
        _output("positive", _one_place(False)),
        "parity",
        "int8",
    ),
    Case("many decisions (right)", MANY_DECISIONS, right, None, "int8"),
]
CASES = [*_BOXES, *_NUMBERS, *_MASKS, *_LARGE]
