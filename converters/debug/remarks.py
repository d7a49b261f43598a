"""What is wrong with an artifact though no layer is: its precision, or what is done to a picture before it."""

from __future__ import annotations

from converters.exporters.onnx.counts import count_nodes
from runtimes.artifact.artifact import Artifact
from runtimes.preprocess.image import Preprocess
from runtimes.validator.defaults import COMPUTE_SHARE


def remarks(artifact: Artifact, preprocess: Preprocess | None) -> list[str]:
    """Sentences for the reader; `preprocess` is the recipe's, None where that is not known or has none."""
    return [*_precision(artifact), *_preprocess(artifact, preprocess)]


def _precision(artifact: Artifact) -> list[str]:
    """What computes in another precision than the one that was asked for."""
    made = artifact.manifest
    layers = made.build.get("compute_layers")
    if not layers and made.runtime == "onnx":
        layers = count_nodes(artifact.entry)["compute_layers"]
    kept = len(made.build.get("kept_layers", []))  # they are wanted float
    if not layers or layers.get(made.precision, 0) >= COMPUTE_SHARE * (sum(layers.values()) - kept):
        return []
    counts = ", ".join(f"{count} in {name}" for name, count in sorted(layers.items()))
    return [f"{made.precision} is asked for, but the layers that compute do so {counts}: the precision gate fails"]


def _preprocess(artifact: Artifact, wanted: Preprocess | None) -> list[str]:
    """Where pictures are prepared otherwise than the model was given them: no probe shows it."""
    found = artifact.manifest.preprocess
    if wanted is None or found == wanted:
        return []
    now, asked = (one.model_dump() if one else {} for one in (found, wanted))
    other = {key: value for key, value in asked.items() if now.get(key) != value}
    wrong = ", ".join(f"{key} {now.get(key)} where the recipe has {value}" for key, value in other.items())
    return [
        f"no layer sees what is wrong with the preprocessing of pictures: {wrong}; probes are compared behind it"
    ]
