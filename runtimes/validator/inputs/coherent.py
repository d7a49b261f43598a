"""Whether the parts of a reference fit each other: a file from elsewhere may say anything."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from runtimes.spec import Arrays
from runtimes.validator.probes import Probe

_MOST_CLASSES = 1 << 31


def incoherence(
    probes: Sequence[Probe],
    eager: Sequence[Arrays],
    truth: Sequence[Arrays],
    others: Sequence[Sequence[Arrays]] = (),
) -> str | None:
    """Return what does not fit in a reference, or None.

    Args:
        probes: the inputs.
        eager: answers of the eager model to each probe.
        truth: the same in float64.
        others: more of what belongs to outputs of each probe: answers of the model before passes,
            masks.
    """
    for problem in _problems(probes, eager, truth, others):
        return problem
    return None


def sequence_problem(
    probes: Sequence[Probe],
    outputs: Collection[str],
    feedback: Mapping[str, str],
    steps: Sequence[int],
) -> str | None:
    """Return what does not fit in the calls in a row of a reference, or None."""
    if any(not 0 <= step < len(probes) for step in steps):
        return f"its steps are {list(steps)[:8]}, of {len(probes)} probes"
    for name, output in feedback.items():
        if name not in probes[0].inputs or output not in outputs:
            return f"its state goes from {output!r} to {name!r}, and the model lacks one of them"
    return None


def _problems(
    probes: Sequence[Probe],
    eager: Sequence[Arrays],
    truth: Sequence[Arrays],
    others: Sequence[Sequence[Arrays]],
) -> Iterator[str]:
    ranks = _ranks(probes[0].inputs)
    for index, probe in enumerate(probes):
        if _ranks(probe.inputs) != ranks:
            yield f"{probe.name}: its inputs have other dtypes or ranks than those of the first probe"
        yield from _facts(probe, len(probes))
        for name, values in eager[index].items():
            if truth[index][name].shape != values.shape:
                shapes = f"{list(values.shape)}, its truth {list(truth[index][name].shape)}"
                yield f"{probe.name}: eager's answer {name} is {shapes}"
            if len(probe.labels) > max(values.shape[:1], default=1) > 0:
                yield f"{probe.name}: has {len(probe.labels)} labels, and {name} {len(values)} rows"
            if values.ndim != eager[0][name].ndim:
                yield f"{probe.name}: {name} has another rank than at the first probe"
            for arrays in others:
                if name in arrays[index] and arrays[index][name].ndim != values.ndim:
                    yield f"{probe.name}: {name} has another rank in another of its answers"


def _ranks(arrays: Arrays) -> dict[str, tuple[str, int]]:
    return {name: (str(array.dtype), array.ndim) for name, array in arrays.items()}


def _facts(probe: Probe, count: int) -> Iterator[str]:
    """Yield what is wrong with the rows, labels and sizes of a probe, one of `count`."""
    longest = max((array.shape[0] for array in probe.inputs.values() if array.ndim), default=1)
    if any(not 0 <= row < count for row in probe.rows) or len(probe.rows) > longest:
        yield (
            f"{probe.name}: its rows are those of the probes {list(probe.rows)[:8]}; there are {count} "
            f"probes, and it has {longest} rows"
        )
    if any(not 0 <= label < _MOST_CLASSES for label in probe.labels):
        yield f"{probe.name}: a label is no class (0, 1, ...)"
    if any(not 0 <= size < 1 << 40 for size in probe.sizes.values()):
        yield f"{probe.name}: a size is none"
