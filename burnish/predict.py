"""Run an artifact on files: images through its preprocessing, .npy arrays as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.artifact.artifact import Artifact, Manifest
from runtimes.errors import InputError
from runtimes.files.arrays import read_npy
from runtimes.preprocess.image import read_image
from runtimes.progress import counted
from runtimes.session import SessionOptions, load
from runtimes.spec import Arrays
from runtimes.validator.outputs.classes import are_probabilities, class_scores


@dataclass(frozen=True)
class Prediction:
    """The outputs for one request, and the best classes if the artifact is a classifier."""

    source: str
    outputs: Arrays
    top: list[tuple[str, float]]


def predict(
    path: Path,
    files: Sequence[str],
    device: str | None,
    top: int = 5,
    key: Path | None = None,
    trust: bool = False,
) -> list[Prediction]:
    """Run an artifact on files.

    Args:
        path: the artifact's folder.
        files: images (one request each), or .npy files: one per input in order, or NAME=file.npy.
        device: by default the artifact's first.
        top: number of classes to name.
        key: file of the public key that must have signed the artifact; by default that of
            BURNISH_TRUSTED_KEY, if it is set.
        trust: run an artifact that is a program even if this user did not build it here.

    Raises:
        SignatureError: the key has not signed it.
        InputError: a file cannot be read, or does not fit the artifact's inputs.
    """
    artifact = Artifact.open(path, key)
    manifest = artifact.manifest
    requests = _requests(manifest, files)
    predictions = []
    with load(path, device, SessionOptions(trust=trust), artifact.trust) as session:
        for source, arrays in counted(requests, "inputs"):
            outputs = session.run(arrays)
            is_classifier = manifest.task == "classification"
            best = best_classes(outputs, manifest, top) if is_classifier else []
            predictions.append(Prediction(source, outputs, best))
    return predictions


def best_classes(outputs: Arrays, manifest: Manifest, top: int) -> list[tuple[str, float]]:
    """Return the most probable classes of the first sample, with their softmax probabilities."""
    output = next(iter(outputs.values()))
    logits = class_scores(output, are_probabilities([output]))[0]
    exponentials = np.exp(logits - logits.max())
    probabilities = exponentials / exponentials.sum()
    names = manifest.classes or ()
    best = []
    for index in map(int, np.argsort(-probabilities, kind="stable")[:top]):
        name = names[index] if index < len(names) else f"class {index}"
        best.append((name, float(probabilities[index])))
    return best


def _requests(manifest: Manifest, files: Sequence[str]) -> list[tuple[str, Arrays]]:
    arrays = [file for file in files if file.endswith(".npy")]
    if not arrays:
        return [(file, _image(manifest, file)) for file in files]
    if len(arrays) != len(files):
        raise InputError("give either images or .npy arrays, not both")
    return [(", ".join(files), _arrays(manifest, files))]


def _image(manifest: Manifest, file: str) -> Arrays:
    if manifest.preprocess is None:
        raise InputError(
            f"{file}: this artifact cannot take images, because its recipe has no `preprocess:`: "
            "use .npy arrays"
        )
    name, spec = next(iter(manifest.inputs.items()))
    pixels = read_image(file, manifest.preprocess).astype(spec.dtype)
    batch = spec.shape[0] if len(spec.shape) == pixels.ndim + 1 else 1
    if isinstance(batch, str) and batch in manifest.dims:
        batch = manifest.dims[batch].min
    copies = batch if isinstance(batch, int) else 1
    return {name: np.repeat(pixels[None], copies, axis=0)}


def _arrays(manifest: Manifest, files: Sequence[str]) -> Arrays:
    inputs = list(manifest.inputs)
    if len(files) != len(inputs):
        raise InputError(f"{len(files)} arrays for {len(inputs)} inputs: {', '.join(inputs)}")
    arrays = {}
    for input_name, file in zip(inputs, files, strict=True):
        name, separator, path = file.partition("=")
        if separator:
            arrays[name or input_name] = _read_array(path)
        else:
            arrays[input_name] = _read_array(file)
    return arrays


def _read_array(file: str) -> np.ndarray[Any, Any]:
    try:
        array = read_npy(file)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{file} is not a readable .npy array: {reason}") from error
    except (ValueError, MemoryError) as error:
        raise InputError(f"{file} is not a readable .npy array: {error}") from error
    return array


def save(predictions: Sequence[Prediction], path: Path) -> None:
    """Save outputs as .npz, an array per output.

    If there are several predictions, the names of the arrays begin with the prediction's number.
    """
    arrays = {}
    for number, prediction in enumerate(predictions):
        prefix = f"{number}/" if len(predictions) > 1 else ""
        for name, array in prediction.outputs.items():
            arrays[f"{prefix}{name}"] = array
    try:
        with path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
