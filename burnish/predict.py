"""Run an artifact on files: pictures through its preprocessing, .npy arrays as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.artifact.artifact import Artifact, Manifest
from runtimes.errors import InputError
from runtimes.preprocess.image import read_image
from runtimes.progress import counted
from runtimes.session import SessionOptions, load
from runtimes.spec import Arrays


@dataclass(frozen=True)
class Prediction:
    """The outputs for one request, and where the artifact is a classifier its best classes."""

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
        files: pictures (one request each), or .npy files: one for each input in order, or NAME=file.npy.
        device: by default the artifact's first.
        top: how many classes to name.
        key: file of the public key that must have signed it; by default that of BURNISH_TRUSTED_KEY, if any.
        trust: run an artifact that is a program even where this user did not build it here.

    Raises:
        SignatureError: the key has not signed it.
        InputError: a file cannot be read, or does not fit the artifact's inputs.
    """
    artifact = Artifact.open(path, key)
    requests = _requests(artifact.manifest, files)
    with load(path, device, SessionOptions(trust=trust), artifact.trust) as session:
        inputs = counted(requests, "inputs")
        return [_predict(session.run(arrays), source, artifact.manifest, top) for source, arrays in inputs]


def _predict(outputs: Arrays, source: str, manifest: Manifest, top: int) -> Prediction:
    best = best_classes(outputs, manifest, top) if manifest.task == "classification" else []
    return Prediction(source, outputs, best)


def best_classes(outputs: Arrays, manifest: Manifest, top: int) -> list[tuple[str, float]]:
    """The most probable classes of the first sample, with their softmax probabilities."""
    logits = np.asarray(next(iter(outputs.values())), np.float64)
    logits = logits.reshape(-1, logits.shape[-1])[0]
    shifted = np.exp(logits - logits.max())
    probabilities = shifted / shifted.sum()
    order = np.argsort(-probabilities, kind="stable")[:top]
    names = manifest.classes or ()
    return [(names[i] if i < len(names) else f"class {i}", float(probabilities[i])) for i in map(int, order)]


def _requests(manifest: Manifest, files: Sequence[str]) -> list[tuple[str, Arrays]]:
    arrays = [file for file in files if file.endswith(".npy")]
    if not arrays:
        return [(file, _picture(manifest, file)) for file in files]
    if len(arrays) != len(files):
        raise InputError("give either pictures or .npy arrays, not both")
    return [(", ".join(files), _arrays(manifest, files))]


def _picture(manifest: Manifest, file: str) -> Arrays:
    if manifest.preprocess is None:
        raise InputError(
            f"{file}: this artifact does not say how a picture becomes its input (no `preprocess:` in its recipe); "
            "give .npy arrays"
        )
    name, spec = next(iter(manifest.inputs.items()))
    pixels = read_image(file, manifest.preprocess).astype(spec.dtype)
    lead = spec.shape[0] if len(spec.shape) == pixels.ndim + 1 else 1
    copies = manifest.dims[lead].min if isinstance(lead, str) and lead in manifest.dims else lead
    return {name: np.repeat(pixels[None], copies if isinstance(copies, int) else 1, axis=0)}


def _arrays(manifest: Manifest, files: Sequence[str]) -> Arrays:
    named = [file.partition("=")[::2] if "=" in file else (None, file) for file in files]
    order = list(manifest.inputs)
    if len(files) != len(order):
        raise InputError(f"{len(files)} arrays for {len(order)} inputs: {', '.join(order)}")
    return {name or order[index]: _read_array(file) for index, (name, file) in enumerate(named)}


def _read_array(file: str) -> np.ndarray[Any, Any]:
    try:
        array: np.ndarray[Any, Any] = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{file} is not a .npy array that can be read: {error}") from error
    return array


def save(found: Sequence[Prediction], path: Path) -> None:
    """Save outputs as .npz, an array per output; with several requests the number of the request comes first."""
    many = len(found) > 1
    arrays = {
        f"{number}/{name}" if many else name: array
        for number, one in enumerate(found)
        for name, array in one.outputs.items()
    }
    try:
        with path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
