"""What a verdict rests on, in sentences."""

from __future__ import annotations

from dataclasses import replace

from runtimes.spec import DimRange, TensorSpec
from runtimes.validator.inputs.account import account
from runtimes.validator.probes import synthetic_probes
from runtimes.validator.reference import Reference

INPUTS = {
    "x": TensorSpec(shape=("batch", 3)),
    "ids": TensorSpec(shape=("batch",), dtype="int64", range=(0, 9999)),
}


def reference(kind: str = "noise") -> Reference:
    probes = synthetic_probes(INPUTS, {"batch": DimRange(max=4)})
    judged = [
        replace(p, kind="data", labels=(1,)) if p.sample and kind == "data" else p for p in probes
    ]
    outputs = [{"y": probe.inputs["x"]} for probe in judged]
    return Reference(judged, outputs, outputs)


def test_noise_ids_values_and_batches_are_counted() -> None:
    lines = account(reference(), INPUTS, ["after other calls"] * 3 + ["beside others"])
    assert lines[0] == "8 samples of seeded noise"
    assert lines[1].endswith(" of 10,000 ids of ids")
    assert lines[2].startswith("unusual values: zeros, lowest, highest, constant, negative")
    assert lines[2].endswith("a NaN, an Inf")
    assert lines[3].endswith(" batches whose rows equal the same samples alone")
    assert lines[4:] == ["3 further answers after other calls", "1 further answers beside others"]


def test_real_samples_and_their_labels_are_named() -> None:
    assert account(reference("data"), INPUTS, [])[0] == "8 samples of real data, 8 labelled"


def test_samples_that_occur_again_are_counted() -> None:
    judged = reference("data")
    again = replace(judged, probes=[judged.probes[0], *judged.probes])
    assert account(again, INPUTS, [])[0] == (
        "9 samples of real data, 9 labelled, 1 of which occur again and count once"
    )


def test_a_sequence_is_named() -> None:
    judged = replace(reference(), steps=(0, 1, 2))
    assert account(judged, INPUTS, [])[-1] == "3 calls in a row on its own state"
