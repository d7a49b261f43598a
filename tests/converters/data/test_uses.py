"""Samples from the recipe's data: pictures and their labels, or seeded noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from converters.data.samples import Pool, Sample, picture_files
from converters.data.uses import probes
from converters.recipe.schema import Recipe
from runtimes.errors import UsageError
from runtimes.validator.probes import Probe


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five pictures of differing sizes and modes, one in a separate folder, and another file."""
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for number, (name, mode) in enumerate(
        [
            ("a.png", "RGB"),
            ("b.jpg", "RGB"),
            ("c.PNG", "L"),
            ("d.webp", "RGB"),
            ("more/e.png", "RGBA"),
        ]
    ):
        picture = Image.new(
            mode, (40 + number, 36), 50 * number if mode == "L" else (50 * number,) * len(mode)
        )
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
    names = [
        path.relative_to(photos / "photos").as_posix() for path in picture_files(photos / "photos")
    ]
    assert names == ["a.png", "b.jpg", "c.PNG", "d.webp", "more/e.png"]
    pool = Pool(names, lambda index: Sample({}))
    assert pool.spread(2) == [0, 2]
    assert pool.spread(9, without=[0, 3]) == [1, 2, 4]


def test_there_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no folder .*photos of pictures"):
        probes(recipe(), tmp_path)


def test_there_are_no_pictures_in_it(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(UsageError, match="has no pictures"):
        probes(recipe(), tmp_path)


def test_every_picture_at_the_best_batch_then_one_batch_of_an_unseen_size(photos: Path) -> None:
    batches = probes(recipe(), photos)
    assert [probe.inputs["image"].shape for probe in batches[:4]] == [(2, 3, 32, 32)] * 3 + [
        (3, 3, 32, 32)
    ]
    assert [probe.sizes for probe in batches[:4]] == [{"batch": 2}] * 3 + [{"batch": 3}]
    assert all(probe.name.startswith("pictures") for probe in batches[:3])
    assert all(probe.inputs["image"].dtype == np.float32 for probe in batches)
    assert np.array_equal(batches[2].inputs["image"][1], batches[0].inputs["image"][0]), (
        "filled up from the start"
    )


def test_one_picture_fills_the_unseen_batch_too(photos: Path) -> None:
    batches = probes(recipe(data={"evaluation": {"images": "photos", "samples": 1}}), photos)
    assert [len(probe.inputs["image"]) for probe in batches[:2]] == [2, 3]


def test_a_fixed_batch(photos: Path) -> None:
    batches = probes(recipe(inputs={"image": {"shape": (4, 3, 32, 32)}}, dims={}), photos)
    assert len(batches) >= 2
    assert {(probe.inputs["image"].shape[0], *probe.sizes) for probe in batches} == {(4,)}


def test_batches_of_other_sizes_are_made_of_the_pictures(photos: Path) -> None:
    batches = probes(recipe(), photos)
    kinds = [probe.kind for probe in batches]
    assert kinds[:3] == ["data"] * 3
    assert set(kinds[3:]) == {"size", "edge", "nan"}
    sized = [probe for probe in batches if probe.kind == "size"]
    assert {probe.sizes["batch"] for probe in sized} >= {1, 3, 8}
    for probe in sized:
        for index, row in enumerate(probe.rows):
            assert np.array_equal(probe.inputs["image"][index], batches[row].inputs["image"][0])


def test_grey_pictures(photos: Path) -> None:
    grey = recipe(
        inputs={"image": {"shape": (1, 1, 32, 32)}},
        dims={},
        preprocess={"resize": 34, "crop": 32, "color": "grey", "mean": (0.5,), "std": (0.5,)},
    )
    assert probes(grey, photos)[0].inputs["image"].shape == (1, 1, 32, 32)


@pytest.mark.parametrize("shape", [("batch", 3, 30, 32), ("batch", 1, 32, 32), ("batch", 3, 32)])
def test_pictures_that_do_not_fit_the_input(photos: Path, shape: tuple[Any, ...]) -> None:
    with pytest.raises(UsageError, match=r".png is \[3, 32, 32\], the input 'image' is"):
        probes(recipe(inputs={"image": {"shape": shape}}), photos)


def test_pictures_for_a_model_of_several_inputs(photos: Path) -> None:
    with pytest.raises(UsageError, match="pictures fit a model with one input"):
        probes(
            recipe(inputs={name: {"shape": ("batch", 3, 32, 32)} for name in ("a", "b")}), photos
        )


def test_a_damaged_picture_is_named(photos: Path) -> None:
    (photos / "photos" / "b.jpg").write_bytes(b"not a picture")
    with pytest.raises(
        UsageError, match=r"1 of 5 samples cannot be read:\n  cannot read .*b\.jpg as a picture"
    ):
        probes(recipe(), photos)


def colour(value: int) -> Image.Image:
    """A picture that tells its number by its colour."""
    return Image.new("RGB", (32, 32), (value,) * 3)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Five pictures in the folders of three classes; b has one, in a folder within its own."""
    for number, name in enumerate(["a/1.png", "a/2.png", "b/more/3.png", "c/4.png", "c/5.png"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        colour(40 * number).save(path)
    return tmp_path


@pytest.fixture
def hundreds(tmp_path: Path) -> Path:
    """Two hundred pictures whose names start with their class, 0 to 199, as does their colour."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(200):
        colour(number).save(folder / f"{number:03}_photo.png")
    return tmp_path


def labelled(how: str | None, samples: int = 200) -> Recipe:
    """Pictures as they are, values 0 to 1, in batches of two."""
    evaluation = {"images": "photos", "samples": samples, "labels": how}
    preprocess = {"resize": None, "crop": None, "mean": (0, 0, 0), "std": (1, 1, 1)}
    return recipe(data={"evaluation": evaluation}, preprocess=preprocess)


def labels_of(batches: list[Probe]) -> list[int]:
    return [label for probe in batches if probe.kind == "data" for label in probe.labels]


def colours(probe: Probe) -> list[int]:
    """The number that each picture of a batch tells."""
    return [round(float(picture.mean()) * 255) for picture in probe.inputs["image"]]


def test_without_labels_there_are_none(classes: Path) -> None:
    assert {probe.labels for probe in probes(labelled(None), classes)} == {()}


def test_labels_are_the_numbers_of_the_class_folders_by_name(classes: Path) -> None:
    assert labels_of(probes(labelled("folder"), classes)) == [0, 0, 1, 2, 2]


def test_a_class_without_pictures_has_its_number_all_the_same(classes: Path) -> None:
    (classes / "photos" / "aa").mkdir()
    assert labels_of(probes(labelled("folder"), classes)) == [0, 0, 2, 3, 3]


def test_a_picture_outside_the_class_folders_has_no_label(classes: Path) -> None:
    colour(0).save(classes / "photos" / "stray.png")
    with pytest.raises(
        UsageError, match=r"labels: folder gives no label to 1 pictures, the first is stray\.png"
    ):
        probes(labelled("folder"), classes)


def test_labels_are_the_digits_that_a_name_starts_with(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("0007-cat.png", "12.png", "3_4.png"):
        colour(0).save(tmp_path / "photos" / name)
    assert labels_of(probes(labelled("prefix"), tmp_path)) == [7, 12, 3]


def test_a_name_that_starts_with_no_digit_has_no_label(classes: Path) -> None:
    (classes / "photos" / "c" / "4.png").rename(classes / "photos" / "c" / "four.png")
    with pytest.raises(
        UsageError, match=r"labels: prefix gives no label to 1 pictures, the first is four\.png"
    ):
        probes(labelled("prefix"), classes)


CSV = "name,index\na/1.png,3\na/2.png, 1\nb/more/3.png,4\nc/5.png,0,ignored\nc/4.png,5\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("header", [True, False])
def test_labels_are_read_from_a_csv_beside_the_recipe(
    classes: Path, encoding: str, header: bool
) -> None:
    text = CSV if header else CSV.partition("\n")[2]
    (classes / "labels.csv").write_text(text, encoding=encoding)
    assert labels_of(probes(labelled("labels.csv"), classes)) == [3, 1, 4, 5, 0]


@pytest.mark.parametrize("row", ["c/5.png,cat", "c/5.png", "c/5.png,1.5", "5.png,0"])
def test_a_picture_that_the_csv_gives_no_index(classes: Path, row: str) -> None:
    (classes / "labels.csv").write_text(CSV.replace("c/5.png,0,ignored", row), encoding="utf-8")
    with pytest.raises(
        UsageError, match=r"labels: labels\.csv gives no label to 1 pictures, the first is 5\.png"
    ):
        probes(labelled("labels.csv"), classes)


def test_a_label_below_0_is_named_whether_the_number_of_classes_is_known_or_not(
    classes: Path,
) -> None:
    (classes / "labels.csv").write_text(
        CSV.replace("c/5.png,0,ignored", "c/5.png,-1"), encoding="utf-8"
    )
    with pytest.raises(UsageError, match=r"the label of .*5\.png is -1, but classes count from 0$"):
        probes(labelled("labels.csv"), classes)
    with pytest.raises(
        UsageError, match=r"the label of .*5\.png is -1, but the model has 9 classes, 0 to 8$"
    ):
        probes(labelled("labels.csv"), classes, classes=9)


def test_the_first_label_that_the_model_has_no_class_for_is_named(hundreds: Path) -> None:
    assert len(labels_of(probes(labelled("prefix"), hundreds, classes=200))) == 200
    with pytest.raises(
        UsageError,
        match=r"data\.evaluation: the label of .*120_photo\.png is 120, but the model has 120 classes, 0 to 119: ",
    ):
        probes(labelled("prefix"), hundreds, classes=120)


def test_a_csv_that_is_not_there(classes: Path) -> None:
    with pytest.raises(UsageError, match=r"labels: cannot read .*labels\.csv: No such file"):
        probes(labelled("labels.csv"), classes)


@pytest.mark.parametrize("content", [b"a/1.png,\xff\xfe\n", b'"' + b"x" * 200_000])
def test_a_csv_that_is_none(classes: Path, content: bytes) -> None:
    (classes / "labels.csv").write_bytes(content)
    with pytest.raises(UsageError, match=r"labels\.csv is not a CSV file in UTF-8"):
        probes(labelled("labels.csv"), classes)


def test_what_fills_the_last_batch_up_has_no_label(classes: Path) -> None:
    batches = [probe for probe in probes(labelled("folder"), classes) if probe.kind == "data"]
    assert [probe.labels for probe in batches] == [(0, 0), (1, 2), (2,)]
    assert [len(probe.inputs["image"]) for probe in batches] == [2, 2, 2]


def test_labels_stay_with_their_pictures_in_batches_of_every_size(hundreds: Path) -> None:
    batches = [
        probe for probe in probes(labelled("prefix", 6), hundreds) if probe.kind in ("data", "size")
    ]
    assert {probe.sizes["batch"] for probe in batches} >= {1, 2, 3, 8}
    for probe in batches:
        assert list(probe.labels) == colours(probe)[: len(probe.labels)]
        assert len(probe.labels) == len(probe.rows or probe.labels)


@pytest.mark.parametrize("bad", [[7], [0, 199]])
def test_up_to_one_percent_of_unreadable_pictures_are_left_out_with_their_labels(
    hundreds: Path, bad: list[int]
) -> None:
    for number in bad:
        (hundreds / "photos" / f"{number:03}_photo.png").write_bytes(b"not a picture")
    batches = [probe for probe in probes(labelled("prefix"), hundreds) if probe.kind == "data"]
    assert [label for probe in batches for label in probe.labels] == [
        n for n in range(200) if n not in bad
    ]
    assert all(colours(probe)[: len(probe.labels)] == list(probe.labels) for probe in batches)


def test_more_than_one_percent_of_unreadable_pictures_are_named(hundreds: Path) -> None:
    for number in (5, 6, 150):
        (hundreds / "photos" / f"{number:03}_photo.png").write_bytes(b"not a picture")
    with pytest.raises(
        UsageError, match=r"3 of 200 samples cannot be read:\n.*005_photo.*\n.*006_.*\n.*150_"
    ):
        probes(labelled("prefix"), hundreds)


def test_without_data_the_probes_are_seeded_noise() -> None:
    first, second, other = (probes(recipe(data={}, seed=seed), Path()) for seed in (3, 3, 4))
    assert np.array_equal(first[0].inputs["image"], second[0].inputs["image"])
    assert not np.array_equal(first[0].inputs["image"], other[0].inputs["image"])


def grey_levels(probes: list[Probe]) -> set[int]:
    """The numbers of the pictures among the samples, by their grey level."""
    means = [array.mean() for probe in probes if probe.sample for array in probe.inputs["image"]]
    return {round(float(mean) * 255 / 50) for mean in means}


def test_without_evaluation_data_samples_that_calibration_does_not_use_are_judged_on(
    photos: Path,
) -> None:
    plain = {"mean": [0, 0, 0], "std": [1, 1, 1], "resize": 34, "crop": 32}
    data = {"calibration": {"images": "photos", "samples": 3}}
    judged = probes(recipe(data=data, preprocess=plain), photos)
    assert {probe.kind for probe in judged if probe.sample} == {"data"}
    assert len(grey_levels(judged)) == 2, "five pictures, of which calibration uses three"


def test_if_calibration_uses_every_sample_noise_is_judged_on_and_that_is_said(photos: Path) -> None:
    notes: list[str] = []
    judged = probes(recipe(data={"calibration": {"images": "photos"}}), photos, notes.append)
    assert {probe.kind for probe in judged if probe.sample} == {"noise"}
    assert notes[0].startswith("judged on noise: calibration uses every sample")


def test_training_samples_are_judged_on_if_there_are_no_others(photos: Path) -> None:
    judged = probes(recipe(data={"training": {"images": "photos"}}), photos)
    assert {probe.kind for probe in judged if probe.sample} == {"data"}
