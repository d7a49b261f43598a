"""Account of what a verdict rests on: samples, values, calls. Sizes have an account of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from runtimes.spec import Arrays, Specs
from runtimes.validator.inputs.distinct import new_rows
from runtimes.validator.inputs.ids import coverage
from runtimes.validator.reference import Reference


def account(reference: Reference, inputs: Specs, repeats: Sequence[str]) -> list[str]:
    """Return sentences for a reader.

    Args:
        reference: has the probes.
        inputs: of the artifact.
        repeats: how each further run of a probe differed from the first.
    """
    samples = [probe for probe in reference.probes if probe.sample]
    rows = sum(_rows(probe.inputs) for probe in samples)
    source = "seeded noise" if reference.synthetic else "real data"
    labels = sum(len(probe.labels) for probe in samples)
    labelled = f", {labels} labelled" if labels else ""
    again = sum(int(np.sum(~mask)) for mask in new_rows([probe.inputs for probe in samples]))
    repeated = f", {again} of which occur again and count once" if again else ""
    lines = [f"{rows} samples of {source}{labelled}{repeated}"]
    lines += [str(report) for report in coverage(inputs, [p.inputs for p in reference.probes])]
    unusual = [probe.name.removeprefix("edge ") for probe in reference.probes if not probe.ordinary]
    if unusual:
        lines.append(f"unusual values: {', '.join(unusual)}")
    batches = sum(bool(probe.rows) for probe in reference.probes)
    if batches:
        lines.append(f"{batches} batches whose rows equal the same samples alone")
    for how, count in Counter(repeats).items():
        lines.append(f"{count} further answers {how}")
    if reference.steps:
        lines.append(f"{len(reference.steps)} calls in a row on its own state")
    return lines


def _rows(inputs: Arrays) -> int:
    first = next(iter(inputs.values()))
    return len(first) if first.ndim else 1
