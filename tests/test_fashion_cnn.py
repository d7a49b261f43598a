"""The shipped example of a trained network: its factory, weights and samples, and its dataset from a tiny copy."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.build.build import build
from converters.data.uses import evaluation_samples
from converters.plan.load import CONFIGS, load_recipe
from converters.recipe.schema import Recipe
from converters.user_code import FactoryError, call_factory
from runtimes.results import Status

FOLDER = CONFIGS / "fashion_cnn"
ACCURACY = 0.92
"""Of the committed weights on the committed test pictures, at least: train.py reaches more on all 10,000."""


@pytest.fixture
def network() -> Any:
    """The factory's network with the committed weights."""
    from safetensors.torch import load_file

    model = call_factory("fashion_cnn.net:build", {}, CONFIGS, "test")
    model.load_state_dict(load_file(FOLDER / "fashion_cnn.safetensors"))
    return model.eval()


def dataset(folder: Path, **args: Any) -> Any:
    return call_factory(
        "fashion_cnn.data:samples", {"folder": str(folder), **args}, CONFIGS, "test"
    )


def write_idx(path: Path, values: np.ndarray) -> None:
    """The values as an IDX file of bytes; compressed where the name says so."""
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    pack = gzip.compress if path.suffix == ".gz" else bytes
    path.write_bytes(pack(header + values.astype(np.uint8).tobytes()))


@pytest.fixture(params=["", ".gz"])
def raw(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Four training pictures, each full of ten times its number, and two test pictures; plain or compressed."""
    for prefix, count in (("train", 4), ("t10k", 2)):
        numbers = np.arange(count)
        pictures = np.broadcast_to(10 * numbers[:, None, None], (count, 28, 28))
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte{request.param}", pictures)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte{request.param}", 9 - numbers)
    return tmp_path


def test_the_committed_weights_know_the_committed_test_pictures(network: Any) -> None:
    import torch

    with np.load(FOLDER / "evaluation.npz") as file, torch.inference_mode():
        answers = network(torch.from_numpy(file["image"].astype(np.float32))).argmax(1).numpy()
        assert (answers == file["label"]).mean() >= ACCURACY


@pytest.mark.parametrize("widths", [(16,), (24, 48), (8, 16, 24)])
def test_the_factory_builds_other_sizes(widths: tuple[int, ...]) -> None:
    import torch

    model = call_factory(
        "fashion_cnn.net:build", {"stem": 8, "widths": widths, "classes": 3}, CONFIGS, "test"
    )
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 3)


def test_calibration_and_evaluation_share_no_picture() -> None:
    with np.load(FOLDER / "calibration.npz") as train, np.load(FOLDER / "evaluation.npz") as test:
        seen, judged = ({picture.tobytes() for picture in file["image"]} for file in (train, test))
        assert not seen & judged
        for file in (train, test):
            assert file["image"].dtype == np.uint8
            assert file["image"].shape == (len(file["label"]), 1, 28, 28)
            assert set(file["label"].tolist()) == set(range(10))


def test_the_dataset_gives_pixel_values_and_classes(raw: Path) -> None:
    found = dataset(raw)
    assert len(found) == 4
    assert [(float(picture.max()), label) for picture, label in found] == [
        (0, 9),
        (10, 8),
        (20, 7),
        (30, 6),
    ]
    assert found[0][0].shape == (1, 28, 28) and found[0][0].dtype == np.float32
    assert len(dataset(raw, split="test")) == 2
    assert [len(dataset(raw, limit=limit)) for limit in (1, 3, 9)] == [1, 3, 4]


def test_the_dataset_serves_a_recipe(raw: Path) -> None:
    source = {
        "factory": "python:fashion_cnn.data:samples",
        "args": {"folder": str(raw), "split": "train"},
    }
    recipe = Recipe.model_validate(
        {
            "model": "python:fashion_cnn.net:build",
            "inputs": {"image": {"shape": ("batch", 1, 28, 28), "range": (0, 255)}},
            "dims": {"batch": {"max": 4}},
            "task": "classification",
            "data": {"evaluation": source},
            "artifacts": {"onnx": {}},
        }
    )
    assert [sample.label for sample in evaluation_samples(recipe, CONFIGS)] == [9, 8, 7, 6]


def _cut(raw: Path) -> None:
    for path in raw.glob("train-images*"):
        content = path.read_bytes()
        path.write_bytes(
            gzip.compress(gzip.decompress(content)[:-1]) if path.suffix == ".gz" else content[:-1]
        )


def _drop_labels(raw: Path) -> None:
    for path in raw.glob("train-labels*"):
        write_idx(path, np.arange(3))


def _other_format(raw: Path) -> None:
    for path in raw.glob("train-labels*"):
        text = b"label,picture"
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut, r"has 3135 values, but its header says \[4, 28, 28\]: download it again"),
        (_drop_labels, "has 4 train pictures and 3 labels"),
        (_other_format, "train-labels-idx1-ubyte.* is not an IDX file of bytes"),
    ],
)
def test_damaged_files_are_named(raw: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(raw)
    with pytest.raises(FactoryError, match=message):
        dataset(raw)


def test_where_the_files_are_missing_the_error_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(FactoryError) as caught:
        dataset(tmp_path / "no")
    told = str(caught.value)
    assert f"Fashion-MNIST is not in {tmp_path / 'no'}: no train-images-idx3-ubyte(.gz)" in told
    assert "torchvision.datasets import FashionMNIST" in told


def test_there_is_no_such_split(raw: Path) -> None:
    with pytest.raises(FactoryError, match="no split 'valid': name one of train, test"):
        dataset(raw, split="valid")


def test_onnx_is_as_accurate_as_eager_in_float32_and_nearly_so_in_int8(tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason="NNCF is not installed")
    unused = [
        f"artifacts.{name}=null"
        for name in ("torchscript", "openvino", "tensorrt", "openvino-int8")
    ]
    settings = [
        *unused,
        "artifacts.tensorrt-int8=null",
        "dims.batch.max=4",
        "data.evaluation.samples=200",
    ]
    found = build(load_recipe("fashion_cnn", settings, [CONFIGS]), tmp_path / "build", budget=0)
    rows = {row.name: row for row in found.artifacts}
    assert {name: (row.status, row.reason) for name, row in rows.items()} == dict.fromkeys(
        ("onnx", "onnx-int8"), (Status.PASSED, None)
    )
    exact, coarse = (rows[name].parity.accuracy for name in ("onnx", "onnx-int8"))
    assert exact is not None and coarse is not None
    assert exact.samples == 200 and exact.eager >= ACCURACY
    assert abs(exact.drop) <= 0.005, (
        "at most one picture lies so near a border that rounding decides"
    )
    assert abs(coarse.drop) <= 0.02, "on a CPU without VNNI too: nothing saturates"
