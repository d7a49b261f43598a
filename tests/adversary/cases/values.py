"""Right, but in some region of values: numbers, ids, masks and lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from runtimes.spec import Arrays
from tests.adversary.harness import Artifact, Case, Condition, Run, the_only, wrong_where
from tests.adversary.subjects.pictures import BYTES, CLAMPED, CLEANED, PICTURES, PIXELS, SIGNED
from tests.adversary.subjects.sequences import ENCODER, POINTER, RECURRENT, VOCABULARY, WORDS

Values = np.ndarray[Any, Any]


def _of(condition: Callable[[Values], Any]) -> Condition:
    return lambda inputs: bool(condition(the_only(inputs)))


FLOATS: dict[str, Condition] = {
    "negative inputs": _of(lambda x: x.max() < 0),
    "inputs that are nowhere positive": _of(lambda x: x.max() <= 0 and x.min() < 0),
    "a constant input": _of(lambda x: x.min() == x.max() != 0),
    "an input of zeros": _of(lambda x: not x.any()),
    "large inputs": _of(lambda x: np.abs(x).max() > 1000),
    "inputs over 20": _of(lambda x: 20 < np.abs(x).max() < 300),
    "inputs over 100": _of(lambda x: np.abs(x).max() > 100),
    "small inputs": _of(lambda x: 0 < np.abs(x).max() < 0.05),
    "a mean over 0.4": _of(lambda x: x.mean() > 0.4),
    "ordinary inputs": _of(lambda x: 1 < np.abs(x).max() < 10),
}
RANGED: dict[str, Condition] = {
    "a black picture": _of(lambda x: x.max() == 0),
    "a white picture": _of(lambda x: x.min() == 255),
    "a grey picture": _of(lambda x: x.min() == x.max() and 0 < x.max() < 255),
    "dark pictures": _of(lambda x: x.mean() < 60),
    "bright pictures": _of(lambda x: x.mean() > 200),
}
BYTE_VALUES: dict[str, Condition] = {
    "a pixel of 255": _of(lambda x: (x == 255).any()),
    "a pixel of 128 and more": _of(lambda x: (x >= 128).any()),
    "a pixel of 77": _of(lambda x: (x == 77).any()),
    "black bytes": _of(lambda x: not x.any()),
}
SIGNS: dict[str, Condition] = {
    "the lowest of a range": _of(lambda x: x.max() == -1),
    "the highest of a range": _of(lambda x: x.min() == 1),
    "negative values of a range": _of(lambda x: x.max() <= 0 and x.min() < 0),
    "zeros inside a range": _of(lambda x: not x.any()),
}
IDS: dict[str, Condition] = {
    "one id": _of(lambda ids: (ids == 321).any()),
    "another id": _of(lambda ids: (ids == 17).any()),
    "the padding id": _of(lambda ids: (ids == 0).any()),
    "the last id": _of(lambda ids: (ids == 499).any()),
    "a sequence of one id": _of(lambda ids: ids.shape[1] > 1 and ids.min() == ids.max()),
}
MASKS: dict[str, Condition] = {
    "masks of all ones": lambda inputs: bool(inputs["mask"].all()),
    "masks with a single one": lambda inputs: bool((inputs["mask"].sum(1) == 1).any()),
    "masks with a gap": lambda inputs: bool((np.diff(inputs["mask"], axis=1) == 1).any()),
    "padded masks": lambda inputs: bool((inputs["mask"][:, -1] == 0).any()),
    "masks that begin with a zero": lambda inputs: bool((inputs["mask"][:, 0] == 0).any()),
}
LENGTHS: dict[str, Condition] = {
    "a length of one": lambda inputs: bool((inputs["lengths"] == 1).all()),
    "full lengths": lambda inputs: bool((inputs["lengths"] == inputs["frames"].shape[1]).all()),
    "a length below the frames": lambda inputs: bool(
        (inputs["lengths"] < inputs["frames"].shape[1]).any()
    ),
}


def _replaced(name: str, change: Callable[[Values], Values]) -> Artifact:
    """Answer for another input than the given one."""

    def artifact(right: Run) -> Run:
        return lambda inputs: right({**inputs, name: change(inputs[name])})

    return artifact


def _clipped(limit: float) -> Artifact:
    return _replaced("image", lambda x: np.clip(x, -limit, limit).astype(x.dtype))


def _ids(first: int, second: int) -> Artifact:
    """Exchange two ids."""

    def exchange(ids: Values) -> Values:
        return np.where(ids == first, second, np.where(ids == second, first, ids))

    return _replaced("ids", exchange)


INPUTS = [
    Case("inputs clipped at 10", PICTURES, _clipped(10), "parity"),
    Case("inputs clipped at 3", PICTURES, _clipped(3), "parity"),
    Case("inputs clipped at 200", PICTURES, _clipped(200), "parity"),
    Case("negative inputs are zero", PICTURES, _replaced("image", lambda x: x.clip(0)), "parity"),
    Case(
        "inputs through float16",
        PICTURES,
        _replaced("image", lambda x: x.astype(np.float16).astype(np.float32)),
        "parity",
    ),
    Case("pixels through int8", BYTES, _replaced("image", lambda x: x & 127), "parity"),
    Case("pixels are rounded", PIXELS, _replaced("image", lambda x: x.round()), "parity"),
    Case("two ids exchanged", WORDS, _ids(123, 321), "parity"),
    Case("the last two ids exchanged", WORDS, _ids(498, 499), "parity"),
    Case("ids modulo 256", WORDS, _replaced("ids", lambda ids: ids % 256), "parity"),
    Case("ids clipped at 450", WORDS, _replaced("ids", lambda ids: ids.clip(0, 450)), "parity"),
    Case(
        "ids through int16",
        VOCABULARY,
        _replaced("ids", lambda ids: ids % 2**15),
        "parity",
    ),
    Case(
        "ids through uint16",
        VOCABULARY,
        _replaced("ids", lambda ids: ids % 2**16),
        "parity",
    ),
    Case("ids clipped", VOCABULARY, _replaced("ids", lambda ids: ids.clip(0, 65_000)), "parity"),
    Case("the mask is ignored", ENCODER, _replaced("mask", np.ones_like), "parity"),
    Case("the mask is that of the first row", ENCODER, lambda right: _first_mask(right), "parity"),
    Case("lengths are ignored in a batch", RECURRENT, lambda right: _full_lengths(right), "parity"),
    Case("lengths are one too small", RECURRENT, lambda right: _shorter(right), "parity"),
]


def _first_mask(right: Run) -> Run:
    def run(inputs: Arrays) -> Arrays:
        mask = np.broadcast_to(inputs["mask"][:1], inputs["mask"].shape)
        return right({**inputs, "mask": np.ascontiguousarray(mask)})

    return run


def _full_lengths(right: Run) -> Run:
    def run(inputs: Arrays) -> Arrays:
        lengths, longest = inputs["lengths"], inputs["frames"].shape[1]
        ignored = np.full_like(lengths, longest) if len(lengths) > 1 else lengths
        return right({**inputs, "lengths": ignored})

    return run


def _shorter(right: Run) -> Run:
    def run(inputs: Arrays) -> Arrays:
        return right({**inputs, "lengths": np.maximum(inputs["lengths"] - 1, 1)})

    return run


def _of_conditions() -> list[Case]:
    tables = [
        (PICTURES, FLOATS),
        (PIXELS, RANGED),
        (BYTES, BYTE_VALUES),
        (SIGNED, SIGNS),
        (WORDS, IDS),
        (ENCODER, MASKS),
        (POINTER, {"masked places": MASKS["padded masks"]}),
        (RECURRENT, LENGTHS),
    ]
    cases = []
    for subject, conditions in tables:
        for id, condition in conditions.items():
            cases.append(Case(f"wrong: {id}", subject, wrong_where(condition), "parity"))
    cases.append(
        Case("NaN in the input is not taken for zero", CLEANED, _spreading_nan, "finite"),
    )
    infinite = _of(lambda x: np.isinf(x).any())
    cases.append(Case("wrong: an infinite value", CLAMPED, wrong_where(infinite), "parity"))
    return cases


def _spreading_nan(right: Run) -> Run:
    def run(inputs: Arrays) -> Arrays:
        outputs = right(inputs)
        if np.isnan(inputs["image"]).any():
            outputs = {name: np.full_like(array, np.nan) for name, array in outputs.items()}
        return outputs

    return run


LOSSY = [
    Case(
        f"wrong: {id}",
        PICTURES,
        wrong_where(FLOATS[id], 3.0),
        "parity",
        precision,
    )
    for id in ("negative inputs", "an input of zeros")
    for precision in ("fp16", "int8")
]
CASES = [*_of_conditions(), *INPUTS, *LOSSY]
