"""Facts of a model from running it: names and shapes of outputs, and the reference to judge by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.models.call import call
from converters.models.calls.binding import bind
from converters.models.operations import count, count_calls
from converters.models.runs.answers import Answer, answer, largest_difference, run_again, run_all
from converters.models.runs.rounded import measure_rounding, rounded_answers
from converters.models.runs.sequence import sequence
from converters.models.runs.state import restore_buffers, snapshot, written
from converters.models.runs.truth import truth
from converters.models.runs.undetermined import undetermined
from runtimes.errors import UsageError
from runtimes.registry import nearest
from runtimes.spec import Arrays, Dims, Specs, TensorSpec
from runtimes.validator.defaults import SIZE_COST, SIZE_WORK
from runtimes.validator.inputs.design import Work
from runtimes.validator.outputs.classes import is_single
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
    """Run the eager model on all probes in float32 twice and in float64; on samples also rounded.

    `feedback`: each input of an explicit state, with the output that becomes it: probes are added
    that follow each other.

    Raises:
        UsageError: the model does not take the recipe's inputs, or not at all sizes that `dims:`
            allows, or the recipe names another number of outputs.
    """
    before = snapshot(module)
    probes, first_run, refusals = run_all(module, probes)
    second_run = run_again(module, probes)
    state = tuple(written(module, before))
    restore_buffers(module, before)
    names = _names(first_run[0].names, output_names, task)

    def run(arrays: Arrays) -> Arrays:
        return dict(zip(names, answer(module, arrays).arrays, strict=True))

    eager = [dict(zip(names, each.arrays, strict=True)) for each in first_run]
    steps = _sequence(run, probes, feedback or {}, inputs, dims, names)
    probes = [*probes, *steps]
    eager += [run(probe.inputs) for probe in steps]
    loose = undetermined(run, probes, eager)
    outputs = {}
    for name in names:
        outputs[name] = _spec(name, [answer[name] for answer in eager], probes)
    facts = _facts(module, inputs, outputs, dims, first_run, probes[0])
    rounded = rounded_answers(module, probes, names)
    restore_buffers(module, before)
    exact = truth(module, probes, names, eager)
    repeat = largest_difference(first_run, second_run)
    half_notes = _half_notes(module, first_run[0])
    notes = [*half_notes, *_rank_notes(eager, probes), *exact.notes, *refusals]
    notes += _repeat_notes(state, repeat)
    reference = Reference(list(probes), eager, exact.outputs, exact.dtype, repeat, notes)
    return facts, replace(
        reference,
        state=state if repeat else (),
        loose=loose,
        feedback=dict(feedback or {}),
        steps=tuple(range(len(probes) - len(steps), len(probes))),
        rounding=measure_rounding(rounded, reference),
    )


def _facts(
    module: torch.nn.Module,
    inputs: Specs,
    outputs: Specs,
    dims: Dims,
    answers: Sequence[Answer],
    probe: Probe,
) -> ModelFacts:
    """Return the facts of a model that gave these answers; its operations are counted on a probe."""
    import torch

    binding = bind(module, list(inputs))
    is_flat = not binding.plain or not all(each.plain for each in answers)
    return ModelFacts(
        inputs,
        outputs,
        dims,
        by_keyword=binding.by_keyword and not is_flat,
        flat=is_flat,
        parameters=sum(map(torch.numel, module.parameters())),
        flops=_flops(module, probe.inputs),
    )


def _repeat_notes(state: Sequence[str], repeat: float) -> list[str]:
    """Return a note if two runs differ, or if forward() writes state without such an effect."""
    if repeat:
        return [f"eager itself is not deterministic: two runs differ by up to {repeat:.3g}"]
    if state:
        return [f"forward() writes {', '.join(state)}, on which no answer depends"]
    return []


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


def count_classes(module: torch.nn.Module, inputs: Specs, dims: Dims) -> int | None:
    """Count a classifier's classes: the last axis of its first output; two if that has one score.

    None if it has no axis.

    Raises UsageError if the model does not take the recipe's inputs.
    """
    [noise] = synthetic_samples(inputs, dims, count=1)
    scores = answer(module, noise.inputs).arrays[0]
    if not scores.ndim:
        return None
    return 2 if is_single(scores) else int(scores.shape[-1])


def estimate_work(module: torch.nn.Module, inputs: Specs, dims: Dims) -> Work | None:
    """Estimate the work of a run at the best sizes; None if it is much, or the model cannot run.

    Multiply-adds are the larger of two numbers: what torch counts, which leaves out recurrent
    layers, and each parameter times each element of the inputs.
    """
    [noise] = synthetic_samples(inputs, dims, count=1)
    elements = sum(array.size for array in noise.inputs.values())
    most = elements * sum(parameter.numel() for parameter in module.parameters())
    if most > SIZE_WORK / SIZE_COST:
        return None
    before = snapshot(module)
    try:
        calls = count_calls(lambda: answer(module, noise.inputs))
        return Work(max(most, (_flops(module, noise.inputs) or 0) // 2), calls)
    except Exception:  # study() runs the model too, and says what is wrong with it
        return None
    finally:
        restore_buffers(module, before)


def _half_notes(module: torch.nn.Module, first: Answer) -> list[str]:
    """Note that a model was stored in half precision, and what that means for eager's times."""
    from converters.models.calls.half import stored_in_half

    if not stored_in_half(module):
        return []
    notes = ["the weights are stored in half precision; the model computes in float32 with them"]
    if first.casts:
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
        for name in derived:
            if derived.count(name) > 1:
                raise UsageError(
                    f"two outputs are named {name!r}: name all {len(keys)} by `outputs:`"
                )
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
    """Return the spec of an output; dynamic dimensions get the names of the inputs' they follow.

    An output that has fewer axes at some sizes is described by the others: see `_rank_notes`.
    """
    alike = [index for index, array in enumerate(arrays) if array.ndim == arrays[0].ndim]
    arrays, probes = [arrays[index] for index in alike], [probes[index] for index in alike]
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


def _rank_notes(eager: Sequence[Arrays], probes: Sequence[Probe]) -> list[str]:
    """Return notes on outputs whose number of axes depends on sizes, as after `squeeze()`."""
    notes = []
    for name, first in eager[0].items():
        for outputs, probe in zip(eager, probes, strict=True):
            if (axes := outputs[name].ndim) != first.ndim:
                notes.append(
                    f"output {name!r} has {first.ndim} axes at {probes[0].name}, {axes} at "
                    f"{probe.name}, which not each engine can do: does forward() call squeeze() "
                    "without a dimension?"
                )
                break
    return notes


def _followed_dim(sizes: Sequence[int], probes: Sequence[Probe]) -> str | None:
    """Return the input dimension that has these sizes on the probes."""
    for dim in probes[0].sizes:
        if [probe.sizes[dim] for probe in probes] == sizes:
            return dim
    return None


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
