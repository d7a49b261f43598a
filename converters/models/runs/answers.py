"""Run an eager model on probes: its outputs, their names, and whether they repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from converters.models.call import call_noting_casts
from converters.models.calls.binding import bind
from converters.models.runs.refusals import describe_refusals
from runtimes.engines.torch.outputs import is_plain, name_outputs, widened
from runtimes.errors import UsageError
from runtimes.progress import counted
from runtimes.spec import Arrays
from runtimes.validator.defaults import REPEATED_PROBES
from runtimes.validator.probes import Probe

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Answer:
    """The model's outputs on a probe.

    Attributes:
        names: from the structure around the outputs.
        arrays: the outputs.
        plain: every exporter takes what forward() does and returns as it is.
        casts: a model stored in half precision casts to it, or its inputs are in it.
    """

    names: list[str]
    arrays: list[np.ndarray[Any, Any]]
    plain: bool
    casts: bool


def answer(module: torch.nn.Module, arrays: Arrays) -> Answer:
    """Run the model on arrays. Raises UsageError if it does not take them, or returns no tensor."""
    import torch

    # Copies, since forward() may write to its inputs.
    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    bind(module, list(tensors))  # its errors are about the recipe, not about the model
    try:
        with torch.inference_mode():
            result, casts = call_noting_casts(module, tensors)
    except Exception as error:
        shapes = [f"{name}: {array.dtype}{list(array.shape)}" for name, array in arrays.items()]
        raise UsageError(
            f"the eager model does not run on the recipe's inputs ({', '.join(shapes)}): "
            f"{type(error).__name__}: {error}"
        ) from error
    named = name_outputs(result)
    if not named:
        raise UsageError(
            f"the eager model returns {type(result).__name__} with no tensor in it: nothing to "
            "export"
        )
    return Answer(
        [name for name, _ in named],
        [widened(tensor).numpy() for _, tensor in named],
        plain=is_plain(result) and not casts,
        casts=casts,
    )


class FirstRun(NamedTuple):
    """The probes that the model takes, its answers to them, and notes about those it refuses."""

    probes: list[Probe]
    answers: list[Answer]
    notes: list[str]


def run_all(module: torch.nn.Module, probes: Sequence[Probe]) -> FirstRun:
    """Run the model on all probes. Raises UsageError if it refuses usual values, or a size."""
    first = FirstRun([], [], [])
    refused = []
    first_error = None
    for probe in counted(probes, "probes"):
        try:
            outputs = answer(module, probe.inputs)
        except UsageError as error:
            if probe.optional:
                first.notes.append(
                    f"eager refuses {probe.name}, so nothing is compared there: {_why(error)}"
                )
                continue
            if probe.kind != "size":
                raise
            refused.append(probe.sizes)
            first_error = first_error or error
        else:
            _check_names(outputs, probe, first)
            first.probes.append(probe)
            first.answers.append(outputs)
    if first_error is not None:
        sizes = [probe.sizes for probe in probes if probe.sizes not in refused]
        raise UsageError(describe_refusals(refused, sizes, _why(first_error))) from first_error
    return first


def _check_names(outputs: Answer, probe: Probe, first: FirstRun) -> None:
    """Raise UsageError if the model has other outputs on a probe than on the first one."""
    if first.answers and outputs.names != first.answers[0].names:
        raise UsageError(
            f"the model returns {', '.join(outputs.names)} on the probe {probe.name!r}, but "
            f"{', '.join(first.answers[0].names)} on {first.probes[0].name!r}: an artifact always has "
            "the same outputs"
        )


def _why(error: UsageError) -> str:
    cause = error.__cause__
    return f"{type(cause).__name__}: {cause}" if cause else str(error)


def run_again(module: torch.nn.Module, probes: Sequence[Probe]) -> list[Answer]:
    """Run the first probes again, each after another one: an answer may depend on the call before."""
    answers = []
    for index, probe in enumerate(counted(probes[:REPEATED_PROBES], "repeated probes")):
        answer(module, probes[index - 1 if index else min(1, len(probes) - 1)].inputs)
        answers.append(answer(module, probe.inputs))
    return answers


def largest_difference(first_run: Sequence[Answer], second_run: Sequence[Answer]) -> float:
    """Return the largest difference of two runs, over the probes that both ran on."""
    largest = 0.0
    for first_answer, second_answer in zip(first_run, second_run, strict=False):
        for first, second in zip(first_answer.arrays, second_answer.arrays, strict=True):
            gap = _difference(np.asarray(first, np.float64), np.asarray(second, np.float64))
            largest = max(largest, gap)
    return largest


def _difference(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> float:
    """Return the largest difference; the same NaN or Inf in both is no difference."""
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(first - second))
    return float(np.max(np.where(np.isnan(gap), np.inf, gap), initial=0.0))
