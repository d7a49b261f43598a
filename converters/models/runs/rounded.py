"""Answers of a model with all numbers really rounded: what half precision costs it.

Weights and buffers are rounded, and what each operation returns; the operation itself computes in
float32. So do kernels that add up in float32 and store float16, and PyTorch's own for a model after
`half()`. An engine that fuses operations, or keeps some in float32, rounds less often.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from converters.models.operations import without_fused_kernels
from converters.models.runs.answers import answer
from runtimes.errors import UsageError
from runtimes.progress import counted
from runtimes.spec import Arrays
from runtimes.validator.defaults import HALF_SAMPLES
from runtimes.validator.outputs.honest import honest_samples, measure_errors
from runtimes.validator.outputs.order import reconcile, with_ordered_truth
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference, Rounding

if TYPE_CHECKING:
    import torch

Answers = dict[str, dict[int, Arrays]]
"""Outputs by precision (`fp16`, `bf16`) and index of the probe."""


def rounded_answers(
    module: torch.nn.Module, probes: Sequence[Probe], names: Sequence[str]
) -> Answers:
    """Run a float32 model on the samples, in each half precision; the model itself stays as it is.

    A precision in which the model does not run is left out: the validator estimates its errors.
    """
    import torch

    answers = {}
    for precision, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        try:
            answers[precision] = _run_rounded(module, probes, names, dtype)
        except UsageError:
            continue
    return answers


def measure_rounding(answers: Answers, reference: Reference) -> Rounding:
    """Return the errors of rounded answers, of outputs that eager sorts in eager's order."""
    ordered, rounding = with_ordered_truth(reference), {}
    for precision, outputs in answers.items():
        indices = list(outputs)
        compared = reconcile(list(outputs.values()), ordered, False, indices)
        rounding[precision] = measure_errors(dict(zip(indices, compared, strict=True)), ordered)
    return rounding


def _run_rounded(
    module: torch.nn.Module, probes: Sequence[Probe], names: Sequence[str], dtype: torch.dtype
) -> dict[int, Arrays]:
    from converters.models.runs.rounding_mode import RoundedResults

    outputs = {}
    with _rounded_weights(module, dtype), without_fused_kernels():
        for index in counted(honest_samples(probes, HALF_SAMPLES), f"{_short(dtype)} probes"):
            inputs = _rounded_inputs(probes[index].inputs, dtype)
            with RoundedResults(dtype):
                arrays = answer(module, inputs).arrays
            if len(arrays) != len(names):
                raise UsageError(f"rounded, the model has {len(arrays)} outputs")
            outputs[index] = dict(zip(names, arrays, strict=True))
    return outputs


def _rounded_inputs(inputs: Mapping[str, Any], dtype: torch.dtype) -> Arrays:
    import torch

    from converters.models.runs.rounding_mode import rounded

    arrays = {}
    for name, array in inputs.items():
        arrays[name] = rounded(torch.from_numpy(array), dtype).numpy()
    return arrays


@contextmanager
def _rounded_weights(module: torch.nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Let weights and buffers be rounded for a while."""
    from converters.models.runs.rounding_mode import rounded

    tensors = [*module.parameters(), *module.buffers()]
    exact = [tensor.data for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = rounded(tensor.data, dtype)
        yield
    finally:
        for tensor, values in zip(tensors, exact, strict=True):
            tensor.data = values


def _short(dtype: torch.dtype) -> str:
    """Return a name that leaves room for others in a line: `fp16`, `bf16`."""
    return str(dtype).removeprefix("torch.").replace("float", "fp").replace("bfp", "bf")
