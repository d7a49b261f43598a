"""The truth: the eager model in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converters.models.runs.answers import answer
from runtimes.errors import UsageError
from runtimes.progress import counted
from runtimes.spec import Arrays
from runtimes.validator.probes import Probe

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Truth:
    """The outputs of the truth model on the probes, its precision, and notes for the reader."""

    outputs: list[Arrays]
    dtype: str
    notes: tuple[str, ...] = ()


def truth(
    module: torch.nn.Module, probes: Sequence[Probe], names: Sequence[str], eager: list[Arrays]
) -> Truth:
    """Run the model in float64; if it cannot, use its float32 outputs and say so in a note."""
    outputs = []
    try:
        module.double()
        for probe in counted(probes, "float64 probes"):
            arrays = answer(module, _double(probe.inputs)).arrays
            outputs.append(dict(zip(names, arrays, strict=True)))
    except UsageError as error:
        note = (
            "the model does not run in float64, so its float32 outputs count as the truth "
            f"({error})"
        )
        return Truth(eager, "float32", (note,))
    return Truth(outputs, "float64")


def _double(arrays: Arrays) -> Arrays:
    doubled = {}
    for name, array in arrays.items():
        doubled[name] = array.astype(np.float64) if array.dtype == np.float32 else array
    return doubled
