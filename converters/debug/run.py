"""Debug one artifact: load the eager model, match its layers with the artifact's, measure, judge."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converters.debug.compare import Comparison, compare
from converters.debug.judge import Limit, measure
from converters.debug.match.graph import Taps
from converters.debug.remarks import remarks
from converters.debug.result import DebugResult, LayerReport, UnmatchedReport
from converters.debug.stops import stop
from converters.debug.taps.tensorrt_graph import refuse, remake
from converters.debug.truth import Eager, output_key
from converters.debug.worst import ProbeAnswers, ask, exceeded
from converters.models.examples import InputReader
from converters.sources.load import Source, load_model
from converters.sources.restore import restore
from converters.sources.weights import WeightsRecord
from runtimes.artifact.artifact import Artifact, Manifest
from runtimes.errors import UsageError
from runtimes.preprocess.image import Preprocess
from runtimes.spec import Arrays
from runtimes.validator.reference import Reference

if TYPE_CHECKING:
    import torch

FORMATS = ("onnx", "torchscript", "openvino", "tensorrt")
# What tells more of an artifact whose inner values are not read.
_FROM_TORCH = (
    "it is not made from ONNX, and its inner values are not read: debug the torchscript or onnx artifact of the "
    "same recipe. Where that has the same fault, the fault is in the model or its inputs; where it is right, in "
    "torch's export or compiler"
)

# Where the fault is when no layer is wrong.
_GRAPH = (
    "its graph is right: the fault is in what the engine makes of the graph (a fused kernel, a rewrite, integers "
    "that saturate)"
)
_AGAIN = (
    "the engine that was built again is right: the fault is in kernels that are fused only where no inner values "
    "are read, or the artifact's engine is not what is built from this model here: build it again"
)


@dataclass(frozen=True)
class DebugRequest:
    """What to debug; picklable, so that another process can do it.

    Attributes:
        artifact: its folder.
        reference: the file with the probes and with what eager answered when the artifact was built.
        source: where the eager model comes from, with the weights it was built with.
        budget: bytes for the values that are compared at once.
        top: how many of the layers that add most error to name.
        preprocess: the recipe's; None where it has none or is not known.
        changed: folder of the model as passes left it; None where there were none.
        samples: gives some of the recipe's inputs, and says what they are; None where it is not known.
        trust: open an artifact that is a program even where this user did not build it here.
    """

    artifact: Path
    reference: Path
    source: Source
    budget: int
    top: int
    preprocess: Preprocess | None = None
    changed: Path | None = None
    samples: InputReader | None = None
    trust: bool = False


def debug(job: DebugRequest) -> DebugResult:
    """Find the first layer whose output leaves the truth by more than its inputs did.

    Raises:
        UsageError: the format has no layers to compare, or the model is not the one that was exported.
        Unavailable: a TensorRT engine, and no device to run it on.
        ArtifactError: the artifact or the reference cannot be read, or the graph does not run.
    """
    artifact = Artifact.open(job.artifact)
    made = artifact.manifest
    if made.runtime not in FORMATS:
        known = f"{', '.join(FORMATS[:-1])} and {FORMATS[-1]}"
        raise UsageError(f"burnish debug reads {known} artifacts, not {made.format}: {_FROM_TORCH}")
    if made.runtime == "tensorrt":
        refuse(made)
    with tempfile.TemporaryDirectory() as scratch:
        return _debug(job, artifact, Path(scratch))


def _debug(job: DebugRequest, artifact: Artifact, scratch: Path) -> DebugResult:
    made = artifact.manifest
    reference = Reference.load(job.reference)
    # Opened as any other: its files are verified and checked before anything here reads them.
    answers = ask(artifact, reference, "cuda" if made.runtime == "tensorrt" else "cpu", job.trust)
    loaded = load_model(job.source)
    _same_weights(loaded.weights, made)
    module = restore(job.source, job.changed) if job.changed else loaded.module
    eager = Eager(module, list(made.outputs), reference.truth_dtype == "float64")
    _same_model(eager, reference, answers.worst)
    probe = reference.probes[answers.worst]
    if made.runtime == "tensorrt":
        taps = _tensorrt(made, module, eager, probe.inputs, scratch, job.samples)
    else:
        taps = _taps(artifact, eager, probe.inputs)
    comparison = compare(eager, taps, probe.inputs, list(made.outputs))
    limit = Limit.of(made.precision, probe.kind == "edge", made.gates)
    found = comparison.search(limit, job.budget, job.top)
    first, where = found.first, probe.name
    notes = [_does_not_run(reference.probes[index].name, error) for index, error in answers.stopped.items()]
    if first is None and answers.stopped:
        first, where = _stopped(comparison, reference, answers.stopped, where)
    elif first is None:
        notes += _engine(answers, limit, made.runtime)
    return DebugResult(
        artifact=made.name,
        format=made.format,
        precision=made.precision,
        model=made.model,
        probe=where,
        limit=limit.words,
        first=first,
        adders=found.adders(job.top),
        series=found.series,
        complete=found.complete,
        unmatched=[UnmatchedReport(one.name, one.why) for one in comparison.unmatched],
        runs=found.runs,
        notes=[*reference.notes, *notes, *found.notes, *remarks(artifact, job.preprocess), *comparison.taps.notes],
    )


def _stopped(
    comparison: Comparison, reference: Reference, stopped: Iterable[int], probe: str
) -> tuple[LayerReport | None, str]:
    """Where the graph stops on the first probe that it does not run on, and that probe's name."""
    index = next(iter(stopped))
    found = stop(comparison, reference.probes[index].inputs)
    return found, reference.probes[index].name if found else probe


def _does_not_run(probe: str, error: str) -> str:
    return f"the artifact does not run on the probe {probe!r}: {error}"


def _engine(answers: ProbeAnswers, limit: Limit, runtime: str) -> list[str]:
    """Where the graph is right, and what the engine makes of it is not."""
    wrong = exceeded(answers, limit)
    if wrong is None:
        return []
    size = f"{wrong.noise:.3g}x noise" if limit.noise else f"{wrong.sqnr_db:.1f} dB"
    where = _AGAIN if runtime == "tensorrt" else _GRAPH
    return [f"the artifact itself is wrong on this probe ({size}) while every output of {where}"]


def _taps(artifact: Artifact, eager: Eager, inputs: Arrays) -> Taps:
    from converters.debug.taps.onnx import OnnxTaps
    from converters.debug.taps.openvino import OpenVinoTaps
    from converters.debug.taps.torchscript import TorchScriptTaps

    made = artifact.manifest
    if made.runtime == "onnx":
        return OnnxTaps(artifact.entry, eager.paths, inputs)
    if made.runtime == "openvino":
        return OpenVinoTaps(artifact.entry, eager.paths, inputs, made.build)
    return TorchScriptTaps(artifact.entry, inputs, bool(made.build.get("by_keyword")))


def _tensorrt(
    made: Manifest,
    module: torch.nn.Module,
    eager: Eager,
    inputs: Arrays,
    scratch: Path,
    samples: InputReader | None,
) -> Taps:
    from converters.debug.taps.tensorrt import TensorRtTaps

    remade = remake(made, module, scratch, samples)
    taps = TensorRtTaps(remade, eager.paths, inputs)
    taps.notes += remade.differences(made)
    return taps


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
