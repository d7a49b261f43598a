"""Faults of an artifact that are in no layer: its precision, or how pictures are preprocessed."""

from __future__ import annotations

from converters.exporters.onnx.counts import count_nodes
from runtimes.artifact.artifact import Artifact
from runtimes.precision.gate import judge_manifest
from runtimes.preprocess.image import Preprocess


def remarks(artifact: Artifact, preprocess: Preprocess | None) -> list[str]:
    """Return sentences for the reader; `preprocess` is the recipe's, None if unknown or absent."""
    return [*_precision(artifact), *_preprocess(artifact, preprocess)]


def _precision(artifact: Artifact) -> list[str]:
    """Report layers that compute in another precision than the requested one."""
    manifest = artifact.manifest
    judgement = judge_manifest(manifest)
    if judgement is None and manifest.runtime == "onnx":
        counts = count_nodes(artifact.entry, manifest.dims)
        build = {**manifest.build, **counts.for_build(manifest.precision)}
        judgement = judge_manifest(manifest.model_copy(update={"build": build}))
    if judgement is None or judgement.holds:
        return []
    return [f"{manifest.precision} was requested: {judgement.words}; the precision gate fails"]


def _preprocess(artifact: Artifact, expected: Preprocess | None) -> list[str]:
    """Report preprocessing that differs from the recipe's: no probe shows it."""
    actual = artifact.manifest.preprocess
    if expected is None or actual == expected:
        return []
    recorded = actual.model_dump() if actual else {}
    differences = []
    for key, value in expected.model_dump().items():
        if recorded.get(key) != value:
            differences.append(f"{key} {recorded.get(key)} where the recipe has {value}")
    return [
        f"the preprocessing of pictures differs from the recipe's: {', '.join(differences)}; no "
        "layer shows it, since probes are compared after preprocessing"
    ]
