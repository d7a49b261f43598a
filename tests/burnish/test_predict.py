"""Running an artifact on files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from burnish.predict import Prediction, best_classes, predict, save
from runtimes.artifact.artifact import Artifact, Manifest
from runtimes.errors import InputError

EditJson = Callable[..., None]


@pytest.fixture
def manifest(small_build: Path) -> Manifest:
    return Artifact.open(small_build / "onnx").manifest


def test_best_classes_are_softmax_probabilities_in_order(manifest: Manifest) -> None:
    named = manifest.model_copy(update={"classes": ("a", "b")})
    outputs = {"logits": np.log(np.array([[0.25, 0.125, 0.625], [1, 1, 1]], np.float32))}
    best = best_classes(outputs, named, 5)
    assert [name for name, _ in best] == ["class 2", "a", "b"]
    assert np.allclose([probability for _, probability in best], [0.625, 0.25, 0.125])


def test_large_logits_do_not_overflow(manifest: Manifest) -> None:
    assert best_classes({"logits": np.array([[1e4, -1e4]], np.float32)}, manifest, 1) == [
        ("class 0", 1.0)
    ]


def test_an_image_is_repeated_to_the_smallest_batch(
    build_copy: Path, edit_json: EditJson, tmp_path: Path
) -> None:
    edit_json(
        build_copy / "onnx" / "manifest.json",
        preprocess={"crop": 32},
        dims={"batch": {"min": 2, "max": 8}},
    )
    Image.new("L", (32, 40), 128).save(tmp_path / "grey.png")
    (prediction,) = predict(build_copy / "onnx", [str(tmp_path / "grey.png")], None)
    assert prediction.outputs["logits"].shape == (2, 10)
    assert len(prediction.top) == 5


def test_images_and_arrays_do_not_mix(small_build: Path) -> None:
    with pytest.raises(InputError, match=r"either images or \.npy arrays"):
        predict(small_build / "onnx", ["a.png", "b.npy"], None)


def test_too_many_arrays(small_build: Path) -> None:
    with pytest.raises(InputError, match="2 arrays for 1 inputs: image"):
        predict(small_build / "onnx", ["a.npy", "b.npy"], None)


def test_an_array_under_an_unknown_name(small_build: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 32, 32), np.float32))
    with pytest.raises(InputError, match="unknown name 'picture'; expected image: float32"):
        predict(small_build / "onnx", [f"picture={tmp_path / 'x.npy'}"], None)


def test_outputs_of_several_requests_are_numbered(tmp_path: Path) -> None:
    prediction = Prediction("a", {"y": np.arange(3)}, [])
    save([prediction], tmp_path / "one.npz")
    save([prediction, prediction], tmp_path / "two.npz")
    assert list(np.load(tmp_path / "one.npz")) == ["y"]
    assert list(np.load(tmp_path / "two.npz")) == ["0/y", "1/y"]


def test_outputs_that_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"):
        save([Prediction("a", {"y": np.arange(3)}, [])], tmp_path / "nowhere" / "y.npz")


@pytest.mark.parametrize("kind", ["pipe", "link to a device", "pickle", "archive", "shorter"])
@pytest.mark.timeout(60)
def test_an_array_that_is_none_is_named(small_build: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.npy"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "pickle":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    elif kind == "archive":
        np.savez(tmp_path / "x.npz", image=np.ones(3))
        (tmp_path / "x.npz").rename(path)
    else:
        np.save(path, np.zeros((1, 3, 32, 32), np.float32))
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"x\.npy is not a readable \.npy array: "):
        predict(small_build / "onnx", [str(path)], "cpu")
