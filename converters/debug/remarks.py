"""Faults of an artifact that are in no layer: its precision, or how pictures are preprocessed."""

from __future__ import annotations

from converters.exporters.onnx.counts import count_nodes
from runtimes.artifact.artifact import Artifact
from runtimes.preprocess.image import Preprocess
from runtimes.validator.defaults import COMPUTE_SHARE


def remarks(artifact: Artifact, preprocess: Preprocess | None) -> list[str]:
    """Return sentences for the reader; `preprocess` is the recipe's, None if unknown or absent."""
    return [*_precision(artifact), *_preprocess(artifact, preprocess)]


def _precision(artifact: Artifact) -> list[str]:
    """Report layers that compute in another precision than the requested one."""
    manifest = artifact.manifest
    layers = manifest.build.get("compute_layers")
    if not layers and manifest.runtime == "onnx":
        layers = count_nodes(artifact.entry)["compute_layers"]
    if not layers:
        return []
    kept = len(manifest.build.get("kept_layers", []))  # they are float on purpose
    required = COMPUTE_SHARE * (sum(layers.values()) - kept)
    if layers.get(manifest.precision, 0) >= required:
        return []
    counts = ", ".join(f"{count} in {name}" for name, count in sorted(layers.items()))
    return [
        f"{manifest.precision} was requested, but the computing layers are {counts}: the precision "
        "gate fails"
    ]


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
