"""Debug one artifact: load the eager model, match its layers with the artifact's, measure, judge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from converters.debug.compare import compare
from converters.debug.graph import Taps
from converters.debug.judge import Limit, measure
from converters.debug.result import DebugResult, UnmatchedReport
from converters.debug.truth import Eager, output_key
from converters.sources.load import Source, load_model
from converters.sources.weights import WeightsRecord
from runtimes.artifact import Artifact, Manifest
from runtimes.errors import BurnishError, UsageError
from runtimes.session import load
from runtimes.spec import Arrays
from runtimes.validator.defaults import EDGE_ALLOWANCE, NOISE_FP32
from runtimes.validator.parity import distance
from runtimes.validator.reference import Reference

FORMATS = ("onnx", "torchscript")


@dataclass(frozen=True)
class Job:
    """What to debug; picklable, so that another process can do it.

    Attributes:
        artifact: its folder.
        reference: the file with the probes and with what eager answered when the artifact was built.
        source: where the eager model comes from, with the weights it was built with.
        budget: bytes for the values that are compared at once.
        top: how many of the layers that add most error to name.
    """

    artifact: Path
    reference: Path
    source: Source
    budget: int
    top: int


def debug(job: Job) -> DebugResult:
    """Find the first layer whose output leaves the truth by more than its inputs did.

    Raises:
        UsageError: the format has no layers to compare, or the model is not the one that was exported.
        ArtifactError: the artifact or the reference cannot be read, or the graph does not run.
    """
    artifact = Artifact.open(job.artifact)
    made = artifact.manifest
    if made.runtime not in FORMATS:
        raise UsageError(
            f"burnish debug reads {' and '.join(FORMATS)} artifacts, not {made.format}: debug the onnx artifact "
            "of the same recipe, which it is made from"
        )
    reference = Reference.load(job.reference)
    worst, noise, notes = _worst_probe(artifact, reference)
    loaded = load_model(job.source)
    _same_weights(loaded.weights, made)
    eager = Eager(loaded.module, list(made.outputs), reference.truth_dtype == "float64")
    _same_model(eager, reference, worst)
    probe = reference.probes[worst]
    comparison = compare(eager, _taps(artifact, eager, probe.inputs), probe.inputs, list(made.outputs))
    limit = Limit.of(made.precision, probe.kind == "edge")
    found = comparison.search(limit, job.budget, job.top)
    if found.first is None and limit.noise is not None and noise > NOISE_FP32:
        notes.append(
            f"the artifact itself is wrong on this probe ({noise:.3g}x noise) while every output of its graph is "
            "right: the fault is in what the engine makes of the graph (a fused kernel, a rewrite)"
        )
    return DebugResult(
        artifact=made.name,
        format=made.format,
        precision=made.precision,
        model=made.model,
        probe=probe.name,
        limit=limit.words,
        first=found.first,
        adders=found.adders(job.top),
        series=found.series,
        complete=found.complete,
        unmatched=[UnmatchedReport(one.name, one.why) for one in comparison.unmatched],
        runs=found.runs,
        notes=[*reference.notes, *notes, *found.notes, *comparison.taps.notes],
    )


def _taps(artifact: Artifact, eager: Eager, inputs: Arrays) -> Taps:
    from converters.debug.onnx_taps import OnnxTaps
    from converters.debug.torchscript_taps import TorchScriptTaps

    if artifact.manifest.runtime == "onnx":
        return OnnxTaps(artifact.entry, eager.paths, inputs)
    return TorchScriptTaps(artifact.entry, inputs, bool(artifact.manifest.build.get("by_keyword")))


def _same_weights(loaded: WeightsRecord, made: Manifest) -> None:
    """Raise UsageError unless these are the weights that the manifest records."""
    recorded = made.weights
    now, then = (loaded.sha256, recorded.get("sha256")) if recorded.get("sha256") else (
        loaded.source, recorded.get("source"))  # fmt: skip
    if now != then:
        raise UsageError(
            f"the artifact was built with the weights {recorded.get('source')} ({then}), but what can be had now "
            f"is {loaded.source} ({now}); name the recipe that has the same ones with --recipe"
        )


def _same_model(eager: Eager, reference: Reference, probe: int) -> None:
    """Raise UsageError unless the model still answers as when the artifact was built."""
    keys = {name: output_key(name) for name in reference.truth[probe]}
    exact = reference.truth_dtype == "float64"
    now = eager.values(reference.probes[probe].inputs, list(keys.values()), exact)
    limit = Limit.of("fp32")
    for name, then in reference.truth[probe].items():
        value = now[keys[name]]
        same = value.shape == then.shape and not limit.exceeded(
            measure(0, value, reference.eager[probe][name], then)
        )
        if not same:
            raise UsageError(
                f"the eager model that was loaded now answers {name} otherwise than when the artifact was built: "
                "its code, arguments or weights have changed, so its layers prove nothing; build again"
            )


def _worst_probe(artifact: Artifact, reference: Reference) -> tuple[int, float, list[str]]:
    """The probe whose outputs are furthest from the truth, their noise, and notes on probes that fail."""
    session = load(artifact.path, "cpu")
    noise: dict[int, float] = {}
    notes: list[str] = []
    for index, probe in enumerate(reference.probes):
        try:
            found = session.run(probe.inputs)
        except Exception as error:  # engines fail in any way their libraries please
            notes.append(f"the artifact does not run on the probe {probe.name!r}: {error}")
            continue
        far = [
            distance(probe.name, name, found[name], reference.eager[index][name], truth).noise
            if found[name].shape == truth.shape
            else math.inf
            for name, truth in reference.truth[index].items()
        ]
        allowance = EDGE_ALLOWANCE if probe.kind == "edge" else 1
        noise[index] = max((math.inf if math.isnan(one) else one for one in far), default=0.0) / allowance
    session.close()
    if not noise:
        raise BurnishError("the artifact runs on no probe: " + "; ".join(notes))
    worst = max(noise, key=lambda index: noise[index])
    return worst, noise[worst], notes
