"""Right artifacts that round otherwise than eager, as another order of sums does."""

from __future__ import annotations

from typing import Any

import numpy as np

from runtimes.spec import Arrays
from tests.adversary.cases.finite import right
from tests.adversary.harness import Artifact, Case, Subject, changed, seeded
from tests.adversary.subjects import detectors, pictures, sequences, states, vectors

SUBJECTS = (
    *(pictures.PICTURES, pictures.BATCHES, pictures.PIXELS, pictures.BYTES, pictures.SIGNED),
    *(pictures.DENSE, pictures.CLEANED, sequences.ENCODER, sequences.WORDS, sequences.POINTER),
    *(sequences.RECURRENT, sequences.PAIR, sequences.VOCABULARY, states.PLAIN, states.STEP),
    *(states.PASSING, vectors.CLASSIFIER, vectors.PROBABILITIES, vectors.KELVIN, vectors.OFFSET),
    *(vectors.TASKS, vectors.DECISIONS, detectors.YOLO, detectors.BEST, detectors.SEGMENTS),
)
_ULPS = 1.5


def _rounded() -> Artifact:
    """Move each number by some units in the last place of those in its channel."""

    def apply(inputs: Arrays, outputs: Arrays) -> Arrays:
        rng = seeded(inputs)
        for name, array in outputs.items():
            if array.dtype.kind != "f":
                continue
            noise = _ULPS * 2.0**-24 * _magnitude(array) * rng.standard_normal(array.shape)
            outputs[name] = (array + noise).astype(array.dtype)
        return outputs

    return changed(apply)


def _magnitude(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the rms of each channel, the second axis, over its finite values."""
    finite = np.isfinite(array)
    squares = np.square(np.where(finite, array, 0.0), dtype=np.float64)
    others = tuple(axis for axis in range(array.ndim) if axis != 1)
    counts = np.maximum(1, finite.sum(others, keepdims=True))
    return np.asarray(np.sqrt(squares.sum(others, keepdims=True) / counts))


def _cases(subject: Subject) -> list[Case]:
    return [
        Case("float32 in another order (right)", subject, _rounded(), None),
        Case("eager's own answers (right)", subject, right, None, "bf16"),
    ]


CASES = [case for subject in SUBJECTS for case in _cases(subject)]
