"""Facts of a model from running it: names and shapes of outputs, and the reference to judge by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.models.call import call, call_noting_casts
from converters.models.calls.binding import bind
from converters.models.operations import count
from converters.models.refusals import describe_refusals
from runtimes.engines.torch.outputs import is_plain, name_outputs, widened
from runtimes.errors import UsageError
from runtimes.progress import counted
from runtimes.spec import Arrays, Dims, Specs, TensorSpec
from runtimes.validator.defaults import REPEATED_PROBES
from runtimes.validator.probes import Probe, synthetic_samples
from runtimes.validator.reference import Reference

if TYPE_CHECKING:
    import torch


def study(
    module: torch.nn.Module,
    inputs: Specs,
    dims: Dims,
    probes: Sequence[Probe],
    output_names: Sequence[str] | None,
    task: str | None,
) -> tuple[ModelFacts, Reference]:
    """Run the eager model on all probes, in float32 twice and in float64.

    Raises:
        UsageError: the model does not take the recipe's inputs, or not at all sizes that `dims:`
            allows, or the recipe names another number of outputs.
    """
    first_run = _run_all(module, probes)
    repeated = counted(probes[:REPEATED_PROBES], "repeated probes")
    second_run = [_answer(module, probe.inputs) for probe in repeated]
    names = _names(first_run[0].names, output_names, task)
    eager = [dict(zip(names, answer.arrays, strict=True)) for answer in first_run]
    outputs = {}
    for name in names:
        outputs[name] = _spec(name, [answer[name] for answer in eager], probes)
    binding = bind(module, list(inputs))
    is_flat = not binding.plain or not all(answer.plain for answer in first_run)
    facts = ModelFacts(
        inputs,
        outputs,
        dims,
        by_keyword=binding.by_keyword and not is_flat,
        flat=is_flat,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        flops=_flops(module, probes[0].inputs),
    )
    truth = _truth(module, probes, names, eager)
    notes = [*_half_notes(module, first_run[0]), *truth.notes]
    repeat = _largest_difference(first_run, second_run)
    if repeat:
        notes.append(f"eager itself is not deterministic: two runs differ by up to {repeat:.3g}")
    return facts, Reference(list(probes), eager, truth.outputs, truth.dtype, repeat, notes)


@dataclass(frozen=True)
class _Answer:
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


def _run_all(module: torch.nn.Module, probes: Sequence[Probe]) -> list[_Answer]:
    """Run the model on all probes."""
    answers, refused = list[_Answer](), []
    first_error = None
    for probe in counted(probes, "probes"):
        try:
            answer = _answer(module, probe.inputs)
        except UsageError as error:
            if probe.kind != "size":
                raise
            refused.append(probe.sizes)
            first_error = first_error or error
        else:
            if answers and answer.names != answers[0].names:
                raise UsageError(
                    f"the model returns {', '.join(answer.names)} on the probe {probe.name!r}, but "
                    f"{', '.join(answers[0].names)} on {probes[0].name!r}: an artifact always has "
                    "the same outputs"
                )
            answers.append(answer)
    if first_error is not None:
        accepted = [probe.sizes for probe in probes if probe.sizes not in refused]
        cause = first_error.__cause__
        message = f"{type(cause).__name__}: {cause}"
        raise UsageError(describe_refusals(refused, accepted, message)) from first_error
    return answers


def count_classes(module: torch.nn.Module, inputs: Specs, dims: Dims) -> int | None:
    """Count a classifier's classes: the last axis of its first output; None if it has no such axis.

    Raises UsageError if the model does not take the recipe's inputs.
    """
    [noise] = synthetic_samples(inputs, dims, count=1)
    scores = _answer(module, noise.inputs).arrays[0]
    return int(scores.shape[-1]) if scores.ndim > 1 else None


def _answer(module: torch.nn.Module, arrays: Arrays) -> _Answer:
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
    return _Answer(
        [name for name, _ in named],
        [widened(tensor).numpy() for _, tensor in named],
        plain=is_plain(result) and not casts,
        casts=casts,
    )


def _half_notes(module: torch.nn.Module, answer: _Answer) -> list[str]:
    """Note that a model was stored in half precision, and what that means for eager's times."""
    from converters.models.calls.half import stored_in_half

    if not stored_in_half(module):
        return []
    notes = ["the weights are stored in half precision; the model computes in float32 with them"]
    if answer.casts:
        notes.append(
            "forward() casts to half precision itself, or its inputs are in it: both become float32 "
            "here, which costs eager some microseconds per operator"
        )
    return notes


def _flops(module: torch.nn.Module, arrays: Arrays) -> int | None:
    """Count the operations of convolutions and matrix products in a run (two per multiply-add)."""
    import torch

    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    return 2 * count(module, lambda copied: call(copied, tensors)).total or None


def _names(keys: Sequence[str], recipe_names: Sequence[str] | None, task: str | None) -> list[str]:
    """Return the names of the outputs: the recipe's, or else names for the model's keys."""
    if recipe_names is not None:
        if len(recipe_names) != len(keys):
            names = ", ".join(recipe_names)
            raise UsageError(
                f"the model has {len(keys)} outputs, `outputs:` names {len(recipe_names)}: {names}"
            )
        return list(recipe_names)
    if list(keys) == ["output_0"]:
        return ["logits" if task == "classification" else "output"]
    for key in keys:
        if keys.count(key) > 1:
            raise UsageError(f"two outputs are named {key!r}: name all {len(keys)} by `outputs:`")
    return list(keys)


def _spec(name: str, arrays: Sequence[np.ndarray[Any, Any]], probes: Sequence[Probe]) -> TensorSpec:
    """Return the spec of an output; dynamic dimensions get the names of the inputs' they follow."""
    shape: list[int | str] = []
    for axis in range(arrays[0].ndim):
        sizes = [array.shape[axis] for array in arrays]
        if len(set(sizes)) == 1:
            shape.append(sizes[0])
        else:
            shape.append(_followed_dim(sizes, probes) or f"{name}_{axis}")
    try:
        return TensorSpec.model_validate({"shape": shape, "dtype": str(arrays[0].dtype)})
    except ValueError as error:
        raise UsageError(
            f"output {name!r} is {arrays[0].dtype}{shape}, which no exporter here can write"
        ) from error


def _followed_dim(sizes: Sequence[int], probes: Sequence[Probe]) -> str | None:
    """Return the input dimension that has these sizes on the probes."""
    for dim in probes[0].sizes:
        if [probe.sizes[dim] for probe in probes] == sizes:
            return dim
    return None


@dataclass(frozen=True)
class _Truth:
    """The outputs of the truth model on the probes, its precision, and notes for the reader."""

    outputs: list[Arrays]
    dtype: str
    notes: tuple[str, ...] = ()


def _truth(
    module: torch.nn.Module, probes: Sequence[Probe], names: Sequence[str], eager: list[Arrays]
) -> _Truth:
    """Run the model in float64; if it cannot, use its float32 outputs and say so in a note."""
    outputs = []
    try:
        module.double()
        for probe in counted(probes, "float64 probes"):
            answer = _answer(module, _double(probe.inputs))
            outputs.append(dict(zip(names, answer.arrays, strict=True)))
    except UsageError as error:
        note = (
            "the model does not run in float64, so its float32 outputs count as the truth "
            f"({error})"
        )
        return _Truth(eager, "float32", (note,))
    return _Truth(outputs, "float64")


def _double(arrays: Arrays) -> Arrays:
    doubled = {}
    for name, array in arrays.items():
        doubled[name] = array.astype(np.float64) if array.dtype == np.float32 else array
    return doubled


def _largest_difference(first_run: Sequence[_Answer], second_run: Sequence[_Answer]) -> float:
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


@dataclass(frozen=True)
class ModelFacts:
    """Facts that are known of a model after it has run once.

    Attributes:
        inputs, outputs, dims: tensors in order, with named dynamic dimensions.
        by_keyword: the exported module takes the inputs by name.
        flat: it is the model with flat ends, which takes tensors in order: see `flat`.
        parameters: number of parameters.
        flops: floating-point operations of one run at the `opt` sizes; None if not countable.
    """

    inputs: Specs
    outputs: Specs
    dims: Dims
    by_keyword: bool
    parameters: int
    flops: int | None = None
    flat: bool = False
