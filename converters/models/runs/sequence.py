"""Calls in a row of a model with an explicit state: inputs as they occur, not noise in their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from runtimes.spec import Arrays, Dims, Specs, mismatch
from runtimes.validator.defaults import SEQUENCE_STEPS
from runtimes.validator.probes import Probe


def sequence(
    run: Callable[[Arrays], Arrays],
    samples: Sequence[Probe],
    state: Mapping[str, str],
    inputs: Specs,
    dims: Dims,
) -> list[Probe]:
    """Return probes whose state is what the model answered to the probe before.

    The first state is zero; the other inputs are those of the samples, in turn. The sequence ends
    early if the state outgrows its declared size.

    Args:
        run: the eager model, from named inputs to named outputs.
        samples: ordinary probes.
        state: each input of the state, with the output that becomes it in the next call.
        inputs, dims: of the model.
    """
    probes: list[Probe] = []
    values = {name: np.zeros_like(samples[0].inputs[name]) for name in state}
    for step in range(SEQUENCE_STEPS):
        sample = samples[step % len(samples)]
        arrays: Arrays = {**sample.inputs, **values}
        if mismatch(arrays, inputs, dims):
            break
        sizes = _sizes(arrays, inputs, dims)
        probes.append(Probe(f"step {step}", arrays, sample.kind, sizes))
        outputs = run(arrays)
        values = {name: outputs[output] for name, output in state.items()}
    return probes


def _sizes(arrays: Arrays, inputs: Specs, dims: Dims) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name, spec in inputs.items():
        for size, dim in zip(arrays[name].shape, spec.shape, strict=True):
            if isinstance(dim, str):
                sizes[dim] = size
    return {name: sizes[name] for name in dims if name in sizes}
