"""The report of `burnish run`."""

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


def as_data(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Return the predictions as JSON: the best classes, and the outputs' values if they are few."""
    data = []
    for prediction in predictions:
        top = [{"class": name, "probability": share} for name, share in prediction.top]
        outputs = {name: _array(array) for name, array in prediction.outputs.items()}
        data.append({"source": prediction.source, "top": top, "outputs": outputs})
    return data


def _array(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if array.size <= _VALUES_IN_JSON:
        data["values"] = _finite(array.tolist())
    return data


def _finite(value: Any) -> Any:
    """Return nested lists with null in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, list):
        return list(map(_finite, value))
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show_predictions(predictions: Sequence[Prediction]) -> None:
    """Show the best classes of a classifier, or else the shapes and ranges of the outputs."""
    out = console()
    for prediction in predictions:
        out.print(Text(line(prediction.source), style="bold"))
        rows = []
        if prediction.top:
            for name, probability in prediction.top:
                rows.append([f"{probability:7.2%}", name])
            show_table(["", "class"], rows, out)
        else:
            for name, array in prediction.outputs.items():
                rows.append([name, f"{array.dtype}{list(array.shape)}", _range(array)])
            show_table(["output", "shape", "values"], rows, out)


def _range(array: np.ndarray[Any, Any]) -> str:
    if not array.size:
        return "empty"
    values = np.asarray(array, np.float64)
    return f"{values.min():.4g} to {values.max():.4g}, mean {values.mean():.4g}"
