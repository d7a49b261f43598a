"""The result of `burnish run`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.text import Text

from burnish.predict import Prediction
from burnish.report.terminal import console, show_table
from burnish.report.text import line

_VALUES_IN_JSON = 10_000


def as_data(found: Sequence[Prediction]) -> list[dict[str, Any]]:
    """As JSON: best classes, and the outputs' values where they are not many."""
    return [
        {
            "source": one.source,
            "top": [{"class": name, "probability": probability} for name, probability in one.top],
            "outputs": {name: _data(array) for name, array in one.outputs.items()},
        }
        for one in found
    ]


def _data(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if array.size <= _VALUES_IN_JSON:
        facts["values"] = _finite(array.tolist())
    return facts


def _finite(value: Any) -> Any:
    """Nested lists with null for NaN and infinity, which JSON has not."""
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show_predictions(found: Sequence[Prediction]) -> None:
    """Best classes for a classifier, else shapes and ranges."""
    out = console()
    for one in found:
        out.print(Text(line(one.source), style="bold"))
        if one.top:
            rows = [[f"{probability:7.2%}", name] for name, probability in one.top]
            show_table(["", "class"], rows, out)
        else:
            rows = [
                [name, f"{array.dtype}{list(array.shape)}", _range(array)] for name, array in one.outputs.items()
            ]
            show_table(["output", "shape", "values"], rows, out)


def _range(array: np.ndarray[Any, Any]) -> str:
    if not array.size:
        return "empty"
    values = np.asarray(array, np.float64)
    return f"{values.min():.4g} to {values.max():.4g}, mean {values.mean():.4g}"
