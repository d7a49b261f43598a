"""NaN and Inf: the artifact's, and those of eager itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from runtimes.spec import Arrays
from tests.adversary.harness import Artifact, Case, Run, changed, the_only
from tests.adversary.subjects.pictures import PICTURES
from tests.adversary.subjects.sequences import ENCODER, POINTER
from tests.adversary.subjects.states import LOG_COUNTS, LOGARITHM, NORM, OVERFLOWING, PLAIN

Values = np.ndarray[Any, Any]


def right(run: Run) -> Run:
    """The right artifact."""
    return run


def _replacing(value: float) -> Artifact:
    """Another value wherever eager has -Inf."""

    def change(inputs: Arrays, outputs: Arrays) -> Arrays:
        return {name: np.where(np.isneginf(a), np.float32(value), a) for name, a in outputs.items()}

    return changed(change)


def _one_infinite(inputs: Arrays, outputs: Arrays) -> Arrays:
    """Where one place is masked, the place after it too."""
    logits = outputs["logits"]
    masked = np.isneginf(logits)
    masked[:, 1:] |= masked[:, :-1]
    masked[:, 0] &= logits.shape[1] > 1
    return {"logits": np.where(masked, np.float32(-np.inf), logits)}


def _where(condition: Callable[[Values], Any], value: float, share: float = 1.0) -> Artifact:
    """NaN or Inf in all or the first values on some inputs."""

    def change(inputs: Arrays, outputs: Arrays) -> Arrays:
        if condition(the_only(inputs)):
            for array in outputs.values():
                count = max(1, int(share * array.size))
                array.reshape(-1)[:count] = value
        return outputs

    return changed(change)


def _blank(x: Values) -> bool:
    return not x.any()


def _constant(x: Values) -> bool:
    return bool(x.min() == x.max() != 0)


_MASKED = {
    "+1000": 1000.0,
    "-1000": -1000.0,
    "the lowest float": float(np.finfo(np.float32).min),
    "-65504": -65504.0,
    "NaN": np.nan,
    "+Inf": np.inf,
    "zero": 0.0,
}


def _of_masks() -> list[Case]:
    cases = []
    for id, value in _MASKED.items():
        for precision in ("fp32", "fp16"):
            cases.append(
                Case(f"-Inf becomes {id}", POINTER, _replacing(value), "finite", precision)
            )
    return cases


CASES = [
    *_of_masks(),
    Case("-Inf also beside the mask", POINTER, changed(_one_infinite), "finite"),
    Case("-Inf of a logarithm becomes a number", LOG_COUNTS, _replacing(-100.0), "finite"),
    Case("-Inf of a logarithm becomes NaN", LOG_COUNTS, _replacing(np.nan), "finite", "int8"),
    Case("NaN for zeros", PICTURES, _where(_blank, np.nan), "finite"),
    Case("NaN for zeros", PICTURES, _where(_blank, np.nan), "finite", "fp16"),
    Case("one NaN for zeros", PICTURES, _where(_blank, np.nan, 0.0), "finite", "fp16"),
    Case("NaN for a constant", PICTURES, _where(_constant, np.nan), "finite", "fp16"),
    Case("NaN for zeros", PICTURES, _where(_blank, np.nan), "finite", "int8"),
    Case("Inf for a constant", PICTURES, _where(_constant, np.inf), "finite", "bf16"),
    Case(
        "NaN for small inputs",
        PICTURES,
        _where(lambda x: 0 < np.abs(x).max() < 0.1, np.nan),
        "finite",
        "fp16",
    ),
    Case(
        "NaN for negative inputs",
        PICTURES,
        _where(lambda x: x.max() < 0, np.nan),
        "finite",
        "fp16",
    ),
    Case(
        "one NaN at heights of 65 to 127",
        PICTURES,
        _where(lambda x: 65 <= x.shape[2] <= 127, np.nan, 0.0),
        "finite",
    ),
    Case("Inf for large inputs", PICTURES, _where(lambda x: x.max() > 1000, np.inf), "finite"),
    Case(
        "Inf for large inputs in float16 (right)",
        PICTURES,
        _where(lambda x: x.max() > 1000, np.inf),
        None,
        "fp16",
    ),
    Case(
        "NaN for a single one in the mask",
        ENCODER,
        changed(
            lambda inputs, outputs: {
                name: np.where(inputs["mask"].sum(1, keepdims=True) == 1, np.float32(np.nan), a)
                for name, a in outputs.items()
            }
        ),
        "finite",
    ),
    Case(
        "NaN for blank rows of an epsilon that is lost",
        NORM,
        _where(_blank, np.nan),
        "finite",
        "fp16",
    ),
    Case("an epsilon that is kept (right)", NORM, right, None, "fp16"),
    Case("masked logits (right)", POINTER, right, None),
    Case("masked logits (right)", POINTER, right, None, "fp16"),
    Case("masked logits (right)", POINTER, right, None, "int8"),
    Case("-Inf of a logarithm (right)", LOG_COUNTS, right, None),
    Case("eager has NaN on ordinary inputs", LOGARITHM, right, "reference"),
    Case("eager overflows on ordinary inputs", OVERFLOWING, right, "reference"),
    Case("Inf always", PLAIN, _where(lambda x: True, np.inf), "finite"),
    Case("NaN always", PLAIN, _where(lambda x: True, np.nan), "finite", "int8"),
]
