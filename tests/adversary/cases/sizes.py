"""Right, but at some sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from runtimes.spec import Arrays
from tests.adversary.harness import Artifact, Case, Run, changed, the_only, wrong_where
from tests.adversary.subjects.pictures import BATCHES, DENSE, PICTURES
from tests.adversary.subjects.sequences import ENCODER, PAIR, WORDS


def _picture(inputs: Arrays) -> tuple[int, int, int]:
    batch, _, height, width = inputs["image"].shape
    return batch, height, width


def _where(rule: str) -> Artifact:
    """Wrong where an expression of batch `b`, height `h` and width `w` holds."""
    code = compile(rule, rule, "eval")

    def holds(inputs: Arrays) -> bool:
        b, h, w = _picture(inputs)
        return bool(eval(code, {"b": b, "h": h, "w": w}))  # noqa: S307 - the rules are below

    return wrong_where(holds)


def _times(rule: str) -> Artifact:
    """Wrong where an expression of batch `b` and length `t` holds."""
    code = compile(rule, rule, "eval")

    def holds(inputs: Arrays) -> bool:
        b, t = the_only(inputs).shape[:2]
        return bool(eval(code, {"b": b, "t": t}))  # noqa: S307 - the rules are below

    return wrong_where(holds)


def _lengths(rule: str) -> Artifact:
    """Wrong where an expression of the lengths `s` and `l` of two sequences holds."""
    code = compile(rule, rule, "eval")

    def holds(inputs: Arrays) -> bool:
        s, length = inputs["query"].shape[1], inputs["memory"].shape[1]
        return bool(eval(code, {"s": s, "l": length}))  # noqa: S307 - the rules are below

    return wrong_where(holds)


PICTURE_RULES = {
    "odd heights": "h % 2",
    "odd widths": "w % 2",
    "both odd": "h % 2 and w % 2",
    "odd height beside an even width": "h % 2 and not w % 2",
    "the largest height": "h == 160",
    "the smallest height": "h == 16",
    "one more than the smallest height": "h == 17",
    "a height of 65": "h == 65",
    "a height of 64": "h == 64",
    "a height of 127": "h == 127",
    "portrait": "h > w",
    "landscape": "h < w",
    "a very flat picture": "w > 4 * h",
    "a very tall picture": "h > 4 * w",
    "squares other than the best": "h == w != 32",
    "heights that are no multiples of 8": "h % 8",
    "widths that are no multiples of 32": "w % 32",
    "heights of 33 to 63": "33 <= h <= 63",
    "heights below the best": "h < 32",
    "large pictures": "h * w > 128 * 128",
    "small pictures": "h * w < 24 * 24",
    "a batch beside heights over 32": "b > 1 and h > 32",
    "a batch beside widths under 32": "b > 1 and w < 32",
    "a batch of portraits": "b > 1 and h > w",
    "an odd batch of odd heights": "b % 2 and b > 1 and h % 2",
    "batches over 4 beside heights over 64": "b > 4 and h > 64",
    "batches over 4 beside widths over 64": "b > 4 and w > 64",
    "batches over 16 beside heights of 33 to 64": "b > 16 and 33 <= h <= 64",
    "batches over 16 beside widths over 32": "b > 16 and w > 32",
}
BATCH_RULES = {
    "batches of 2": "b == 2",
    "batches of 3": "b == 3",
    "batches of 4 to 31": "4 <= b <= 31",
    "a batch of 9 alone": "b == 9",
    "a batch of 17 alone": "b == 17",
    "odd batches": "b > 1 and b % 2",
    "batches over 16": "b > 16",
    "the largest batch": "b == 32",
    "batches that are no multiples of 8": "b > 8 and b % 8",
}
LARGE_BATCH_RULES = {
    "batches over 128": "b > 128",
    "batches of 65 to 127": "65 <= b <= 127",
    "batches of 17 to 31": "17 <= b <= 31",
    "the largest of 200": "b == 200",
}
TIME_RULES = {
    "sequences of 65 to 127": "65 <= t <= 127",
    "sequences of 33 to 63": "33 <= t <= 63",
    "sequences of 129 to 255": "129 <= t <= 255",
    "a sequence of one": "t == 1",
    "sequences of 2 to 7": "2 <= t <= 7",
    "the longest sequence": "t == 256",
    "sequences that are no multiples of 8": "t % 8",
    "odd sequences": "t % 2",
    "a batch of long sequences": "b > 1 and t > 32",
    "a batch of short sequences": "b > 1 and t < 32",
}
LENGTH_RULES = {
    "a query longer than the memory": "s > l",
    "a memory longer than the query": "s < l",
    "a query of one": "s == 1",
    "a memory of one": "l == 1",
    "equal lengths other than the best": "s == l != 16",
    "the longest of both": "s == l == 64",
}


def _rows(change: Any) -> Artifact:
    """Change the rows of each output, given the output."""
    return changed(lambda inputs, outputs: {name: change(array) for name, array in outputs.items()})


def _rolled(array: Any, least: int) -> Any:
    return np.roll(array, 1, axis=0) if len(array) > least else array


def _with_last(array: Any) -> Any:
    array = array.copy()
    if len(array) > 1:
        array[-1] = array[-2]
    return array


def _in_fours(array: Any) -> Any:
    """Rows after the last whole four repeat the first row."""
    array = array.copy()
    if len(array) > 4:
        array[len(array) // 4 * 4 :] = array[0]
    return array


def _halves(array: Any) -> Any:
    half = len(array) // 2
    return np.concatenate([array[:half], array[:half]]) if len(array) % 2 == 0 else array


def _exchanged(array: Any) -> Any:
    return array[[1, 0, *range(2, len(array))]] if len(array) > 3 else array


ROWS: dict[str, Artifact] = {
    "rows rolled in batches over 16": _rows(lambda array: _rolled(array, 16)),
    "rows rolled in batches over 64": _rows(lambda array: _rolled(array, 64)),
    "rows reversed": _rows(lambda array: array[::-1].copy()),
    "every row is the first": _rows(lambda array: np.broadcast_to(array[:1], array.shape).copy()),
    "the last row is the one before": _rows(_with_last),
    "rows after the last four are the first": _rows(_in_fours),
    "the second half is the first": _rows(_halves),
    "two rows exchanged in batches of 4 and more": _rows(_exchanged),
    "rows are normalized over the batch": _rows(
        lambda array: array - array.mean(0) * np.float32(0.1) if len(array) > 1 else array
    ),
}


def _padded(right: Run) -> Run:
    """Pad each picture to a square with zeros, as a letterbox does."""

    def run(inputs: Arrays) -> Arrays:
        image = inputs["image"]
        side = max(image.shape[2:])
        edges = [(0, 0), (0, 0), (0, side - image.shape[2]), (0, side - image.shape[3])]
        return right({"image": np.pad(image, edges)})

    return run


def _frozen(right: Run) -> Run:
    """Answer for the first 32 tokens only."""

    def run(inputs: Arrays) -> Arrays:
        return right({name: array[:, :32] for name, array in inputs.items()})

    return run


def _repeated_places(right: Run) -> Run:
    """Take the ids after place 128 for those of the start."""

    def run(inputs: Arrays) -> Arrays:
        ids = inputs["ids"].copy()
        ids[:, 128:] = ids[:, : max(0, ids.shape[1] - 128)]
        return right({**inputs, "ids": ids})

    return run


def _cropped(right: Run) -> Run:
    """Ignore the pixels beyond 128."""
    return lambda inputs: right({"image": np.ascontiguousarray(inputs["image"][..., :128, :128])})


def _refusing(right: Run) -> Run:
    def run(inputs: Arrays) -> Arrays:
        if inputs["image"].shape[2] % 2:
            raise ValueError("the height is odd")
        return right(inputs)

    return run


def _border(inputs: Arrays, outputs: Arrays) -> Arrays:
    mask = outputs["mask"]
    if mask.shape[2] > 64:
        mask[:, :, 64:] = 0
    return outputs


def _transposed(inputs: Arrays, outputs: Arrays) -> Arrays:
    return {"mask": outputs["mask"].transpose(0, 1, 3, 2)}


def _mirrored_portrait(inputs: Arrays, outputs: Arrays) -> Arrays:
    height, width = inputs["image"].shape[2:]
    return {"mask": outputs["mask"][..., ::-1].copy()} if height > width else outputs


def _of_rules() -> list[Case]:
    cases = [
        Case(f"wrong: {id}", PICTURES, _where(rule), "parity") for id, rule in PICTURE_RULES.items()
    ]
    cases += [
        Case(f"wrong: {id}", PICTURES, _where(rule), "parity") for id, rule in BATCH_RULES.items()
    ]
    for id, rule in LARGE_BATCH_RULES.items():
        cases.append(Case(f"wrong: {id}", BATCHES, _where(rule), "parity"))
    for id, rule in TIME_RULES.items():
        cases.append(Case(f"wrong: {id}", ENCODER, _times(rule), "parity"))
    for id, rule in LENGTH_RULES.items():
        cases.append(Case(f"wrong: {id}", PAIR, _lengths(rule), "parity"))
    cases += [Case(id, BATCHES, artifact, "parity") for id, artifact in ROWS.items()]
    return cases


CASES = [
    *_of_rules(),
    *(
        Case(f"wrong: {id}", PICTURES, _where(PICTURE_RULES[id]), "parity", "int8")
        for id in ("odd heights", "odd widths", "a height of 65", "portrait")
    ),
    Case("rounding at each size (right)", PICTURES, lambda run: run, None, "int8"),
    Case("pictures padded to squares", PICTURES, _padded, "parity"),
    Case("pixels beyond 128 ignored", PICTURES, _cropped, "parity"),
    Case("odd heights refused", PICTURES, _refusing, "runs"),
    Case("only 32 tokens are read", WORDS, _frozen, "parity"),
    Case("places beyond 128 repeat", WORDS, _repeated_places, "parity"),
    Case("a mask that ends at row 64", DENSE, changed(_border), "parity"),
    Case("a mask transposed", DENSE, changed(_transposed), "shapes"),
    Case("a mask mirrored in portrait", DENSE, changed(_mirrored_portrait), "parity"),
    Case("wrong: heights of 8 modulo 16", DENSE, _where("h % 16 == 8"), "parity"),
    Case("wrong: widths of 8 modulo 32", DENSE, _where("w % 32 == 8"), "parity"),
    Case("wrong: a height of 128", DENSE, _where("h == 128"), "parity"),
]
