"""Run a metric of the user's in a process of its own."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from converters.recipe.schema import Recipe
from converters.user_code import find_function
from runtimes.errors import BurnishError
from runtimes.process.process import Child
from runtimes.spec import Arrays
from runtimes.validator.outputs.metric import UserMetric


@dataclass(frozen=True)
class _Opener:
    """Makes the host in the child; picklable."""

    target: str
    folder: Path

    def __call__(self) -> MetricHost:
        return MetricHost(find_function(self.target, self.folder, "metric"))


class MetricHost:
    """The user's function in its process."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def value(self, outputs: Arrays, inputs: Arrays, labels: np.ndarray[Any, Any] | None) -> float:
        """Return what the function returns. Raises BurnishError if that is no number."""
        try:
            number = float(self._function(outputs, inputs, labels))
        except Exception as error:  # the user's code fails in its own ways
            raise BurnishError(
                f"metric: the function raised {type(error).__name__}: {error}"
            ) from error
        if not math.isfinite(number):
            raise BurnishError(
                f"metric: the function returned {number}, which is no number to compare"
            )
        return number


def found_here(recipe: Recipe, folder: Path) -> UserMetric | None:
    """Return the recipe's metric, to be called in this process; None if it has none."""
    if recipe.metric is None:
        return None
    target = recipe.metric.function.removeprefix("python:")
    host = _Opener(target, folder)()
    return UserMetric(target.partition(":")[2], host.value, recipe.metric.better == "higher")


@contextlib.contextmanager
def opened(recipe: Recipe, folder: Path, log: Path | None = None) -> Iterator[UserMetric | None]:
    """Open the recipe's metric for the time of a `with` block; None if it has none."""
    if recipe.metric is None:
        yield None
        return
    target = recipe.metric.function.removeprefix("python:")
    with Child(_Opener(target, folder), what=f"the metric {target}", log=log) as child:
        measure = partial(child.call, "value")
        yield UserMetric(target.partition(":")[2], measure, recipe.metric.better == "higher")
