"""What one run tells of a model: outputs, their names and shapes, and the reference to judge by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.models.call import call, passes_by_keyword
from converters.models.operations import count
from runtimes.engines.torch.session import flatten
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
    """Run the eager model on every probe, in float32 twice and in float64.

    Raises:
        UsageError: the model does not take the recipe's inputs, or the names of the outputs are too few.
    """
    keys: list[str] = []
    first = []
    for probe in counted(probes, "probes"):
        keys, arrays = _outputs(module, probe.inputs)
        first.append(arrays)
    again = counted(probes[:REPEATED_PROBES], "repeated probes")
    second = [_outputs(module, probe.inputs)[1] for probe in again]
    names = _names(keys, output_names, task)
    eager = [dict(zip(names, arrays, strict=True)) for arrays in first]
    outputs = {name: _spec(name, [one[name] for one in eager], probes) for name in names}
    by_keyword = passes_by_keyword(module, list(inputs))
    parameters = sum(p.numel() for p in module.parameters())
    facts = ModelFacts(inputs, outputs, dims, by_keyword, parameters, _flops(module, probes[0].inputs))
    truth, dtype, notes = _truth(module, probes, names, eager)
    repeat = _largest_difference(first, second)
    if repeat:
        notes.append(f"eager itself is not deterministic: two runs differ by up to {repeat:.3g}")
    return facts, Reference(list(probes), eager, truth, dtype, repeat, notes)


def count_classes(module: torch.nn.Module, inputs: Specs, dims: Dims) -> int | None:
    """How many classes a classifier tells apart: the last axis of its first output; None where it has no such axis.

    Raises UsageError where the model does not take the recipe's inputs.
    """
    [noise] = synthetic_samples(inputs, dims, count=1)
    _, [scores, *_] = _outputs(module, noise.inputs)
    return int(scores.shape[-1]) if scores.ndim > 1 else None


def _outputs(module: torch.nn.Module, arrays: Arrays) -> tuple[list[str], list[np.ndarray[Any, Any]]]:
    """One run: what the model calls its outputs (an index where it returns a tuple), and the outputs."""
    import torch

    tensors = {
        name: torch.from_numpy(array.copy()) for name, array in arrays.items()
    }  # forward() may write to them
    try:
        with torch.inference_mode():
            result = call(module, tensors)
    except Exception as error:
        shapes = ", ".join(f"{name}: {array.dtype}{list(array.shape)}" for name, array in arrays.items())
        raise UsageError(
            f"the eager model does not run on the recipe's inputs ({shapes}): {type(error).__name__}: {error}"
        ) from error
    found = [tensor.numpy() for tensor in flatten(result)]
    if not found:
        raise UsageError(f"the eager model returns {type(result).__name__} with no tensor in it: nothing to export")
    if isinstance(result, Mapping) and len(result) == len(found):
        return [str(key) for key in result], found
    return [f"output_{index}" for index in range(len(found))], found


def _flops(module: torch.nn.Module, arrays: Arrays) -> int | None:
    """Operations of the convolutions and matrix products in one run (two for a multiply-add)."""
    import torch

    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    return 2 * count(module, lambda one: call(one, tensors)).total or None


def _names(keys: Sequence[str], asked: Sequence[str] | None, task: str | None) -> list[str]:
    if asked is not None:
        if len(asked) != len(keys):
            raise UsageError(
                f"the model has {len(keys)} outputs, `outputs:` names {len(asked)}: {', '.join(asked)}"
            )
        return list(asked)
    if list(keys) == ["output_0"]:
        return ["logits" if task == "classification" else "output"]
    return list(keys)


def _spec(name: str, arrays: Sequence[np.ndarray[Any, Any]], probes: Sequence[Probe]) -> TensorSpec:
    """The shape of an output, its dynamic dimensions named after the input's that they follow."""
    shape: list[int | str] = []
    for axis in range(arrays[0].ndim):
        seen = [array.shape[axis] for array in arrays]
        if len(set(seen)) == 1:
            shape.append(seen[0])
            continue
        same = (dim for dim in probes[0].sizes if [probe.sizes[dim] for probe in probes] == seen)
        shape.append(next(same, f"{name}_{axis}"))
    try:
        return TensorSpec.model_validate({"shape": shape, "dtype": str(arrays[0].dtype)})
    except ValueError as error:
        raise UsageError(
            f"output {name!r} is {arrays[0].dtype}{shape}, which no exporter here can write"
        ) from error


def _truth(
    module: torch.nn.Module, probes: Sequence[Probe], names: Sequence[str], eager: list[Arrays]
) -> tuple[list[Arrays], str, list[str]]:
    """The same model in float64; where it cannot run so, float32 eager is the truth and a note says it."""
    try:
        module.double()
        runs = (_outputs(module, _double(probe.inputs))[1] for probe in counted(probes, "float64 probes"))
        return [dict(zip(names, arrays, strict=True)) for arrays in runs], "float64", []
    except UsageError as error:
        note = f"the model does not run in float64, so its float32 outputs count as the truth ({error})"
        return eager, "float32", [note]


def _double(arrays: Arrays) -> Arrays:
    return {name: a.astype(np.float64) if a.dtype == np.float32 else a for name, a in arrays.items()}


def _largest_difference(first: Sequence[Sequence[Any]], second: Sequence[Sequence[Any]]) -> float:
    return max(
        _difference(np.asarray(a, np.float64), np.asarray(b, np.float64))
        for one, other in zip(first, second, strict=False)
        for a, b in zip(one, other, strict=True)
    )


def _difference(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """The largest difference; values that are the same NaN or Inf in both do not differ."""
    with np.errstate(invalid="ignore"):
        gap = np.where((one == other) | (np.isnan(one) & np.isnan(other)), 0.0, np.abs(one - other))
    return float(np.max(np.where(np.isnan(gap), np.inf, gap), initial=0.0))


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model after it has run once.

    Attributes:
        inputs, outputs, dims: tensors in order, with named dynamic dimensions.
        by_keyword: forward() takes the inputs by name.
        parameters: number of parameters.
        flops: floating-point operations of one run at the sizes to be fastest at; None where not countable.
    """

    inputs: Specs
    outputs: Specs
    dims: Dims
    by_keyword: bool
    parameters: int
    flops: int | None = None
