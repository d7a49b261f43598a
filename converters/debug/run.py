"""Debug one artifact: load the eager model, match its layers, measure and judge them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converters.debug.compare import compare
from converters.debug.judge import Limit, measure
from converters.debug.match.graph import Taps
from converters.debug.remarks import remarks
from converters.debug.result import DebugResult, UnmatchedReport
from converters.debug.stops import find_stop
from converters.debug.taps.tensorrt_graph import rebuild_graph, refuse
from converters.debug.truth import Eager, output_key
from converters.debug.worst import ProbeAnswers, exceeded, run_probes
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
# Advice on an artifact whose inner values are not read.
_FROM_TORCH = (
    "it is not made from ONNX, and its inner values are not read: debug the torchscript or onnx "
    "artifact of the same recipe. If that has the same fault, the fault is in the model or its "
    "inputs; if it is right, in torch's export or compiler"
)

# The place of the fault if no layer is wrong.
_GRAPH = (
    "its graph is right: the fault is in what the engine makes of the graph (a fused kernel, a "
    "rewrite, integers that saturate)"
)
_REBUILT = (
    "the rebuilt engine is right: the fault is in kernels that are fused only if no inner values "
    "are read, or the artifact's engine is not what is built from this model here: rebuild it"
)


@dataclass(frozen=True)
class DebugRequest:
    """A request to debug one artifact; picklable, so that another process can do it.

    Attributes:
        artifact: its folder.
        reference: the file with the probes and eager's outputs from when the artifact was built.
        source: of the eager model, with the weights it was built with.
        budget: bytes for the values that are compared at once.
        top: how many of the layers that add most error to name.
        preprocess: the recipe's; None if unknown or absent.
        changed: folder of the model as passes left it; None if there were none.
        samples: reads inputs of the recipe, with a description; None if unknown.
        trust: open an artifact that is a program even if this user did not build it here.
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


def debug(request: DebugRequest) -> DebugResult:
    """Find the first layer whose output diverges from the truth by more than its inputs did.

    Raises:
        UsageError: the format has no layers to compare, or the model is not the exported one.
        Unavailable: a TensorRT engine, and no device to run it on.
        ArtifactError: the artifact or the reference cannot be read, or the graph does not run.
    """
    artifact = Artifact.open(request.artifact)
    manifest = artifact.manifest
    if manifest.runtime not in FORMATS:
        formats = f"{', '.join(FORMATS[:-1])} and {FORMATS[-1]}"
        raise UsageError(
            f"burnish debug reads {formats} artifacts, not {manifest.format}: {_FROM_TORCH}"
        )
    if manifest.runtime == "tensorrt":
        refuse(manifest)
    with tempfile.TemporaryDirectory() as scratch:
        return _debug(request, artifact, Path(scratch))


def _debug(request: DebugRequest, artifact: Artifact, scratch: Path) -> DebugResult:
    manifest = artifact.manifest
    reference = Reference.load(request.reference)
    # Opened as any other: its files are verified and checked before anything here reads them.
    device = "cuda" if manifest.runtime == "tensorrt" else "cpu"
    answers = run_probes(artifact, reference, device, request.trust)
    loaded = load_model(request.source)
    _check_weights(loaded.weights, manifest)
    module = restore(request.source, request.changed) if request.changed else loaded.module
    eager = Eager(module, list(manifest.outputs), reference.truth_dtype == "float64")
    _check_model(eager, reference, answers.worst)
    probe = reference.probes[answers.worst]
    if manifest.runtime == "tensorrt":
        taps = _tensorrt_taps(manifest, module, eager, probe.inputs, scratch, request.samples)
    else:
        taps = _taps(artifact, eager, probe.inputs)
    comparison = compare(eager, taps, probe.inputs, list(manifest.outputs))
    limit = Limit.of(manifest.precision, not probe.ordinary, manifest.gates)
    findings = comparison.search(limit, request.budget, request.top)
    first, probe_name = findings.first, probe.name
    notes = []
    for index, error in answers.stopped.items():
        name = reference.probes[index].name
        notes.append(f"the artifact does not run on the probe {name!r}: {error}")
    if first is None and answers.stopped:
        stopped_on = reference.probes[next(iter(answers.stopped))]
        first = find_stop(comparison, stopped_on.inputs)
        probe_name = stopped_on.name if first else probe_name
    elif first is None:
        notes += _engine_notes(answers, limit, manifest.runtime)
    return DebugResult(
        artifact=manifest.name,
        format=manifest.format,
        precision=manifest.precision,
        model=manifest.model,
        probe=probe_name,
        limit=limit.words,
        first=first,
        adders=findings.adders(request.top),
        series=findings.series,
        complete=findings.complete,
        unmatched=[UnmatchedReport(call.name, call.why) for call in comparison.unmatched],
        runs=findings.runs,
        notes=[
            *reference.notes,
            *notes,
            *findings.notes,
            *remarks(artifact, request.preprocess),
            *comparison.taps.notes,
        ],
    )


def _engine_notes(answers: ProbeAnswers, limit: Limit, runtime: str) -> list[str]:
    """Report that the graph is right if the engine's outputs are not."""
    wrong = exceeded(answers, limit)
    if wrong is None:
        return []
    size = f"{wrong.noise:.3g}x noise" if limit.noise else f"{wrong.sqnr_db:.1f} dB"
    advice = _REBUILT if runtime == "tensorrt" else _GRAPH
    return [f"the artifact itself is wrong on this probe ({size}) while every output of {advice}"]


def _taps(artifact: Artifact, eager: Eager, inputs: Arrays) -> Taps:
    from converters.debug.taps.onnx import OnnxTaps
    from converters.debug.taps.openvino import OpenVinoTaps
    from converters.debug.taps.torchscript import TorchScriptTaps

    manifest = artifact.manifest
    if manifest.runtime == "onnx":
        return OnnxTaps(artifact.entry, eager.paths, inputs)
    if manifest.runtime == "openvino":
        return OpenVinoTaps(artifact.entry, eager.paths, inputs, manifest.build)
    return TorchScriptTaps(artifact.entry, inputs, bool(manifest.build.get("by_keyword")))


def _tensorrt_taps(
    manifest: Manifest,
    module: torch.nn.Module,
    eager: Eager,
    inputs: Arrays,
    scratch: Path,
    samples: InputReader | None,
) -> Taps:
    from converters.debug.taps.tensorrt import TensorRtTaps

    rebuilt = rebuild_graph(manifest, module, scratch, samples)
    return TensorRtTaps(rebuilt, eager.paths, inputs, rebuilt.differences(manifest))


def _check_weights(loaded: WeightsRecord, manifest: Manifest) -> None:
    """Raise UsageError unless these are the weights that the manifest records."""
    recorded = manifest.weights
    if recorded.get("sha256"):
        current, original = loaded.sha256, recorded.get("sha256")
    else:
        current, original = loaded.source, recorded.get("source")
    if current != original:
        raise UsageError(
            f"the artifact was built with the weights {recorded.get('source')} ({original}), but "
            f"the weights available now are {loaded.source} ({current}); name the recipe that has "
            "the original ones with --recipe"
        )


def _check_model(eager: Eager, reference: Reference, probe: int) -> None:
    """Raise UsageError unless the model gives the same outputs as when the artifact was built."""
    keys = {name: output_key(name) for name in reference.truth[probe]}
    exact = reference.truth_dtype == "float64"
    values = eager.values(reference.probes[probe].inputs, list(keys.values()), exact)
    limit = Limit.of("fp32")
    for name, original in reference.truth[probe].items():
        value = values[keys[name]]
        same = value.shape == original.shape and not limit.exceeded(
            measure(0, value, reference.eager[probe][name], original)
        )
        if not same:
            raise UsageError(
                f"the eager model that was loaded now gives other values for {name} than when the "
                "artifact was built: its code, arguments or weights have changed, so its layers "
                "prove nothing; build again"
            )
