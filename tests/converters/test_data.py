"""Samples from the recipe's data: pictures where it names some, else seeded noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from converters.data import picture_files, probes
from converters.recipe import Recipe
from runtimes.errors import UsageError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five pictures of differing sizes and modes, one in a folder of its own, and a file that is none."""
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for number, (name, mode) in enumerate(
        [("a.png", "RGB"), ("b.jpg", "RGB"), ("c.PNG", "L"), ("d.webp", "RGB"), ("more/e.png", "RGBA")]
    ):
        picture = Image.new(mode, (40 + number, 36), 50 * number if mode == "L" else (50 * number,) * len(mode))
        picture.save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").touch()
    return tmp_path


def recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "model": "torchvision:resnet18",
        "inputs": {"image": {"shape": ("batch", 3, 32, 32)}},
        "dims": {"batch": {"min": 1, "opt": 2, "max": 8}},
        "preprocess": {"resize": 34, "crop": 32},
        "data": {"evaluation": {"images": "photos"}},
        "artifacts": {"onnx": {}},
    }
    return Recipe.model_validate({**values, **changes})


def test_pictures_are_read_in_the_order_of_their_names(photos: Path) -> None:
    names = [path.relative_to(photos / "photos").as_posix() for path in picture_files(photos / "photos", 9)]
    assert names == ["a.png", "b.jpg", "c.PNG", "d.webp", "more/e.png"]
    assert len(picture_files(photos / "photos", 2)) == 2


def test_there_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no folder .*photos of pictures"):
        probes(recipe(), tmp_path)


def test_there_are_no_pictures_in_it(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(UsageError, match="has no pictures"):
        probes(recipe(), tmp_path)


def test_every_picture_at_the_best_batch_then_one_batch_of_an_unseen_size(photos: Path) -> None:
    found = probes(recipe(), photos)
    assert [probe.inputs["image"].shape for probe in found[:4]] == [(2, 3, 32, 32)] * 3 + [(3, 3, 32, 32)]
    assert [probe.sizes for probe in found[:4]] == [{"batch": 2}] * 3 + [{"batch": 3}]
    assert all(probe.name.startswith("pictures") for probe in found[:3])
    assert all(probe.inputs["image"].dtype == np.float32 for probe in found)
    assert np.array_equal(found[2].inputs["image"][1], found[0].inputs["image"][0]), "filled up from the start"


def test_one_picture_fills_the_unseen_batch_too(photos: Path) -> None:
    found = probes(recipe(data={"evaluation": {"images": "photos", "samples": 1}}), photos)
    assert [len(probe.inputs["image"]) for probe in found[:2]] == [2, 3]


def test_a_fixed_batch(photos: Path) -> None:
    found = probes(recipe(inputs={"image": {"shape": (4, 3, 32, 32)}}, dims={}), photos)
    assert len(found) >= 2
    assert {(probe.inputs["image"].shape[0], *probe.sizes) for probe in found} == {(4,)}


def test_grey_pictures(photos: Path) -> None:
    grey = recipe(
        inputs={"image": {"shape": (1, 1, 32, 32)}},
        dims={},
        preprocess={"resize": 34, "crop": 32, "color": "grey", "mean": (0.5,), "std": (0.5,)},
    )
    assert probes(grey, photos)[0].inputs["image"].shape == (1, 1, 32, 32)


@pytest.mark.parametrize("shape", [("batch", 3, 30, 32), ("batch", 1, 32, 32), ("batch", 3, 32)])
def test_pictures_that_do_not_fit_the_input(photos: Path, shape: tuple[Any, ...]) -> None:
    with pytest.raises(UsageError, match=r"preprocess makes pictures of \[3, 32, 32\], the input 'image' is"):
        probes(recipe(inputs={"image": {"shape": shape}}), photos)


def test_pictures_for_a_model_of_several_inputs(photos: Path) -> None:
    with pytest.raises(UsageError, match="pictures fit a model with one input"):
        probes(recipe(inputs={name: {"shape": ("batch", 3, 32, 32)} for name in ("a", "b")}), photos)


def test_a_damaged_picture_is_named(photos: Path) -> None:
    (photos / "photos" / "b.jpg").write_bytes(b"not a picture")
    with pytest.raises(UsageError, match=r"b\.jpg is not a picture that can be read"):
        probes(recipe(), photos)


def test_without_data_the_probes_are_seeded_noise() -> None:
    first, second, other = (probes(recipe(data={}, seed=seed), Path()) for seed in (3, 3, 4))
    assert np.array_equal(first[0].inputs["image"], second[0].inputs["image"])
    assert not np.array_equal(first[0].inputs["image"], other[0].inputs["image"])
