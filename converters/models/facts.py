"""Facts of a model from running it: names and shapes of outputs, and the reference to judge by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from converters.models.call import call, passes_by_keyword
from converters.models.operations import count
from converters.models.runs.refusals import describe_refusals
from converters.models.runs.sequence import sequence
from converters.models.runs.state import restore_buffers, snapshot, written
from converters.models.runs.undetermined import undetermined
from runtimes.engines.torch.session import flatten
from runtimes.errors import UsageError
from runtimes.progress import counted
from runtimes.registry import nearest
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
    output_names: Sequence[str] | Mapping[str, object] | None,
    task: str | None,
    feedback: Mapping[str, str] | None = None,
) -> tuple[ModelFacts, Reference]:
    """Run the eager model on all probes, in float32 twice and in float64.

    `feedback`: each input of an explicit state, with the output that becomes it: probes are added
    that follow each other.

    Raises:
        UsageError: the model does not take the recipe's inputs, or not at all sizes that `dims:`
            allows, or the recipe names another number of outputs.
    """
    before = snapshot(module)
    probes, keys, first_run, refusals = _run_all(module, probes)
    second_run = _run_again(module, probes)
    state = tuple(written(module, before))
    restore_buffers(module, before)
    names = _names(keys, output_names, task)

    def run(arrays: Arrays) -> Arrays:
        return dict(zip(names, _outputs(module, arrays)[1], strict=True))

    eager = [dict(zip(names, arrays, strict=True)) for arrays in first_run]
    steps = _sequence(run, probes, feedback or {}, inputs, dims, names)
    probes = [*probes, *steps]
    eager += [run(probe.inputs) for probe in steps]
    loose = undetermined(run, probes, eager)
    outputs = {}
    for name in names:
        outputs[name] = _spec(name, [answer[name] for answer in eager], probes)
    facts = ModelFacts(
        inputs,
        outputs,
        dims,
        by_keyword=passes_by_keyword(module, list(inputs)),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        flops=_flops(module, probes[0].inputs),
    )
    truth = _truth(module, probes, names, eager)
    notes = [*truth.notes, *refusals]
    repeat = _largest_difference(first_run, second_run)
    if state and not repeat:
        notes.append(f"forward() writes {', '.join(state)}, on which no answer depends")
    elif repeat:
        notes.append(f"eager itself is not deterministic: two runs differ by up to {repeat:.3g}")
    reference = Reference(list(probes), eager, truth.outputs, truth.dtype, repeat, notes)
    return facts, replace(
        reference,
        state=state if repeat else (),
        loose=loose,
        feedback=dict(feedback or {}),
        steps=tuple(range(len(probes) - len(steps), len(probes))),
    )


def _sequence(
    run: Callable[[Arrays], Arrays],
    probes: Sequence[Probe],
    feedback: Mapping[str, str],
    inputs: Specs,
    dims: Dims,
    outputs: Sequence[str],
) -> list[Probe]:
    """Return probes that follow each other. Raises UsageError for a name that the model lacks."""
    if not feedback:
        return []
    for into, output in feedback.items():
        for name, names, kind in ((into, list(inputs), "input"), (output, outputs, "output")):
            if name not in names:
                raise UsageError(
                    f"state: the model has no {kind} {name!r}{nearest(name, names)}; it has "
                    f"{', '.join(names)}"
                )
    samples = [probe for probe in probes if probe.sample]
    return sequence(run, samples, feedback, inputs, dims)


def _run_again(
    module: torch.nn.Module, probes: Sequence[Probe]
) -> list[list[np.ndarray[Any, Any]]]:
    """Run the first probes again, each after another one: an answer may depend on the call before."""
    answers = []
    for index, probe in enumerate(counted(probes[:REPEATED_PROBES], "repeated probes")):
        _outputs(module, probes[index - 1 if index else min(1, len(probes) - 1)].inputs)
        answers.append(_outputs(module, probe.inputs)[1])
    return answers


def _run_all(module: torch.nn.Module, probes: Sequence[Probe]) -> _FirstRun:
    """Run the model on all probes. Raises UsageError if it refuses usual values, or a size."""
    keys: list[str] = []
    accepted, answers, refused, notes = [], [], [], []
    first_error = None
    for probe in counted(probes, "probes"):
        try:
            keys, arrays = _outputs(module, probe.inputs)
        except UsageError as error:
            if probe.optional:
                notes.append(
                    f"eager refuses {probe.name}, so nothing is compared there: {_why(error)}"
                )
                continue
            if probe.kind != "size":
                raise
            refused.append(probe.sizes)
            first_error = first_error or error
        else:
            accepted.append(probe)
            answers.append(arrays)
    if first_error is not None:
        sizes = [probe.sizes for probe in probes if probe.sizes not in refused]
        raise UsageError(describe_refusals(refused, sizes, _why(first_error))) from first_error
    return _FirstRun(accepted, keys, answers, notes)


def _why(error: UsageError) -> str:
    cause = error.__cause__
    return f"{type(cause).__name__}: {cause}"


class _FirstRun(NamedTuple):
    """The probes that the model takes, its names of its outputs, the outputs, and notes."""

    probes: list[Probe]
    keys: list[str]
    answers: list[list[np.ndarray[Any, Any]]]
    notes: list[str]


def count_classes(module: torch.nn.Module, inputs: Specs, dims: Dims) -> int | None:
    """Count a classifier's classes: the last axis of its first output; None if it has no such axis.

    Raises UsageError if the model does not take the recipe's inputs.
    """
    [noise] = synthetic_samples(inputs, dims, count=1)
    _, [scores, *_] = _outputs(module, noise.inputs)
    return int(scores.shape[-1]) if scores.ndim > 1 else None


def _outputs(
    module: torch.nn.Module, arrays: Arrays
) -> tuple[list[str], list[np.ndarray[Any, Any]]]:
    """Run the model; return its own names of its outputs (indices for a tuple), and the outputs."""
    import torch

    # Copies, since forward() may write to its inputs.
    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    try:
        with torch.inference_mode():
            result = call(module, tensors)
    except Exception as error:
        shapes = [f"{name}: {array.dtype}{list(array.shape)}" for name, array in arrays.items()]
        raise UsageError(
            f"the eager model does not run on the recipe's inputs ({', '.join(shapes)}): "
            f"{type(error).__name__}: {error}"
        ) from error
    outputs = [tensor.numpy() for tensor in flatten(result)]
    if not outputs:
        raise UsageError(
            f"the eager model returns {type(result).__name__} with no tensor in it: nothing to "
            "export"
        )
    if isinstance(result, Mapping) and len(result) == len(outputs):
        return [str(key) for key in result], outputs
    return [f"output_{index}" for index in range(len(outputs))], outputs


def _flops(module: torch.nn.Module, arrays: Arrays) -> int | None:
    """Count the operations of convolutions and matrix products in a run (two per multiply-add)."""
    import torch

    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    return 2 * count(module, lambda copied: call(copied, tensors)).total or None


def _names(
    keys: Sequence[str],
    recipe_names: Sequence[str] | Mapping[str, object] | None,
    task: str | None,
) -> list[str]:
    """Return the names of the outputs: the recipe's, or else names for the model's keys.

    A mapping may name some of the model's own.
    """
    derived = list(keys)
    if derived == ["output_0"]:
        derived = ["logits" if task == "classification" else "output"]
    if recipe_names is None:
        return derived
    if isinstance(recipe_names, Mapping) and set(recipe_names) <= set(derived):
        return derived
    if len(recipe_names) != len(keys):
        names = ", ".join(recipe_names)
        raise UsageError(
            f"the model has {len(keys)} outputs ({', '.join(derived)}), `outputs:` names "
            f"{len(recipe_names)}: {names}"
        )
    return list(recipe_names)


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
            _, arrays = _outputs(module, _double(probe.inputs))
            outputs.append(dict(zip(names, arrays, strict=True)))
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


def _largest_difference(
    first_run: Sequence[Sequence[Any]], second_run: Sequence[Sequence[Any]]
) -> float:
    """Return the largest difference of two runs, over the probes that both ran on."""
    largest = 0.0
    for first_arrays, second_arrays in zip(first_run, second_run, strict=False):
        for first, second in zip(first_arrays, second_arrays, strict=True):
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
        by_keyword: forward() takes the inputs by name.
        parameters: number of parameters.
        flops: floating-point operations of one run at the `opt` sizes; None if not countable.
    """

    inputs: Specs
    outputs: Specs
    dims: Dims
    by_keyword: bool
    parameters: int
    flops: int | None = None
