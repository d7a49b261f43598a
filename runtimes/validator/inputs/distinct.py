"""Rows that occur for the first time: a sample that repeats another proves nothing more."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from runtimes.spec import Arrays

_COMPARED = 4096  # values of a row, spread evenly: pictures that share so many are one


def new_rows(samples: Sequence[Arrays]) -> list[np.ndarray[Any, Any]]:
    """Return for each set of inputs, the batch first, which rows equal none before them.

    Empty for inputs without a common first axis.
    """
    seen: set[bytes] = set()
    masks = []
    for inputs in samples:
        lengths = {len(array) if array.ndim else 0 for array in inputs.values()}
        rows = lengths.pop() if len(lengths) == 1 else 0
        mask = np.zeros(rows, bool)
        for row in range(rows):
            digest = _digest([array[row] for array in inputs.values()])
            mask[row] = digest not in seen
            seen.add(digest)
        masks.append(mask)
    return masks


def _digest(arrays: Sequence[np.ndarray[Any, Any]]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        values = np.asarray(array).reshape(-1)
        step = -(-values.size // _COMPARED) or 1
        digest.update(f"{array.shape}".encode() + values[::step].tobytes())
    return digest.digest()
