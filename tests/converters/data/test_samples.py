"""Samples from arrays, factories and noise; what calibrates never judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from converters.data import split
from converters.data.uses import calibration_batches, evaluation_samples, probes, training_pool
from converters.recipe.schema import Recipe
from runtimes.errors import UsageError
from runtimes.validator.defaults import HELD_OUT_SHARE, PICTURES


def recipe(
    calibration: Any = None, evaluation: Any = None, inputs: Any = None, training: Any = None
) -> Recipe:
    sources = {"calibration": calibration, "evaluation": evaluation, "training": training}
    return Recipe.model_validate(
        {
            "model": "python:net:build",
            "inputs": inputs or {"x": {"shape": ("batch", 3)}},
            "dims": {"batch": {"min": 1, "opt": 2, "max": 4}},
            "data": {key: value for key, value in sources.items() if value},
            "task": "classification",
            "artifacts": {"onnx": {}},
        }
    )


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """Ten samples, each full of its own number, as all three kinds of files."""
    x = np.repeat(np.arange(10, dtype=np.float32)[:, None], 3, axis=1)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(10) % 3)
    save_file({"x": x, "y": np.arange(10)}, tmp_path / "x.safetensors")
    (tmp_path / "photos.py").write_text(
        "import numpy as np\n\n\ndef rows(count=10):\n"
        "    return [(np.full(3, k, np.float32), k % 3) for k in range(count)]\n\n\ndef named():\n"
        "    return [{'x': [k] * 3} for k in range(10)]\n\n\ndef endless():\n    return iter([])\n",
        encoding="utf-8",
    )
    return tmp_path


def numbers(source: Recipe, folder: Path, count: int | None = None) -> list[float]:
    return [float(batch["x"][0, 0]) for batch in calibration_batches(source, folder, count)]


@pytest.mark.parametrize(
    "source",
    [
        {"arrays": "x.npy"},
        {"arrays": "x.npz"},
        {"arrays": "x.safetensors"},
        {"factory": "python:photos:rows"},
    ],
)
def test_calibration_samples_come_one_by_one_at_the_batch_to_be_fastest_at(
    arrays: Path, source: Any
) -> None:
    five = recipe({**source, "samples": 5})
    batches = list(calibration_batches(five, arrays))
    assert [batch["x"].shape for batch in batches] == [(2, 3)] * 5
    assert numbers(five, arrays) == [0, 2, 4, 6, 8], "spread evenly"
    assert numbers(five, arrays, 2) == [0, 4]


def test_what_calibrates_does_not_judge(arrays: Path) -> None:
    source = recipe({"arrays": "x.npy", "samples": 5}, {"arrays": "x.npy", "samples": 9})
    judged = [float(sample.inputs["x"][0]) for sample in evaluation_samples(source, arrays)]
    assert judged == [1, 3, 5, 7, 9]
    other = recipe({"arrays": "x.npz", "samples": 5}, {"arrays": "x.npy", "samples": 9})
    assert len(evaluation_samples(other, arrays)) == 9, "another file is another source"


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """300 samples with labels."""
    np.savez(tmp_path / "many.npz", x=np.zeros((300, 3), np.float32), y=np.arange(300) % 3)
    return tmp_path


def test_all_labels_judge_by_default_and_some_samples_without_them(many: Path) -> None:
    labelled = {"arrays": "many.npz", "labels": "y"}
    assert len(evaluation_samples(recipe(None, labelled), many)) == 300
    assert len(evaluation_samples(recipe(None, {"arrays": "many.npz"}), many)) == PICTURES
    assert len(evaluation_samples(recipe(None, {**labelled, "samples": 40}), many)) == 40
    both = recipe({"arrays": "many.npz", "samples": 50}, labelled)
    assert len(evaluation_samples(both, many)) == 250, "all but those that calibrate"


def test_labels_of_a_factory_count_too(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(ODD, encoding="utf-8")
    source = {"factory": "python:odd:Rows"}
    assert len(evaluation_samples(recipe(None, source), tmp_path)) == 200
    bare = {**source, "args": {"bare": list(range(200))}}
    assert len(evaluation_samples(recipe(None, bare), tmp_path)) == PICTURES


def test_more_labels_than_memory_allows_are_reported(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split, "LABELLED_BYTES", 12 * 100)
    notes: list[str] = []
    source = recipe(None, {"arrays": "many.npz", "labels": "y"})
    assert len(evaluation_samples(source, many, notes.append)) == 100
    assert notes == [
        "judged on 100 of 300 labelled samples, whose inputs take 1 GB: `samples:` of "
        "data.evaluation sets another number"
    ]


def test_what_trains_leaves_a_share_to_judge(many: Path) -> None:
    labelled, plain = {"arrays": "many.npz", "labels": "y"}, {"arrays": "many.npz"}
    shared = recipe(None, labelled, training=plain)
    assert len(evaluation_samples(shared, many)) == HELD_OUT_SHARE * 300
    assert len(training_pool(shared, many)[1]) == 300 - HELD_OUT_SHARE * 300


def test_calibration_data_to_train_on_of_which_all_labels_judge_is_refused(many: Path) -> None:
    labelled = {"arrays": "many.npz", "labels": "y"}
    source = recipe({"arrays": "many.npz", "samples": 50}, labelled)
    with pytest.raises(UsageError, match=r"judges on all 250 labelled samples .*samples: 400"):
        training_pool(source, many)


def test_nothing_is_left_to_judge(arrays: Path) -> None:
    with pytest.raises(UsageError, match="calibration uses every sample"):
        evaluation_samples(recipe({"arrays": "x.npy"}, {"arrays": "x.npy"}), arrays)


def test_labels_of_arrays_and_of_a_dataset(arrays: Path) -> None:
    for source in ({"arrays": "x.npz", "labels": "y"}, {"factory": "python:photos:rows"}):
        labels: list[int] = []
        for probe in probes(recipe(None, {**source, "samples": 10}), arrays):
            if probe.kind == "data":
                labels += probe.labels
        assert labels == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


def test_noise_is_drawn_sample_by_sample() -> None:
    source = recipe({"random": 3, "samples": 4})
    first, again = (list(calibration_batches(source, Path())) for _ in range(2))
    assert all(np.array_equal(a["x"], b["x"]) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0]["x"], first[1]["x"])


def test_fewer_samples_than_requested_are_reported(arrays: Path) -> None:
    notes: list[str] = []
    source = recipe({"arrays": "x.npy", "samples": 50})
    assert len(list(calibration_batches(source, arrays, None, notes.append))) == 10
    assert notes == ["calibrated with 10 samples: 50 were requested, but there are no more"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"arrays": "no.npy"}, "no.npy cannot be read"),
        ({"arrays": "x.txt"}, "arrays must be in a .npy, .npz or .safetensors file"),
        ({"arrays": "x.npz", "labels": "z"}, "has no array z; it has x, y"),
        ({"factory": "python:photos:endless"}, "has no length"),
        ({"factory": "python:photos:nothing"}, "has no 'nothing'"),
        ({"factory": "python:photos:rows", "args": {"count": 0}}, "returned no samples"),
    ],
)
def test_sources_that_cannot_be(arrays: Path, source: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list(calibration_batches(recipe(source), arrays))


def test_a_pickle_in_a_file_of_arrays_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match="cannot be read"):
        list(calibration_batches(recipe({"arrays": "x.npy"}), tmp_path))


def test_samples_of_another_shape_or_kind(arrays: Path) -> None:
    wide = recipe({"arrays": "x.npy"}, inputs={"x": {"shape": ("batch", 4)}})
    with pytest.raises(UsageError, match=r"x.npy \[0\] is \[3\], the input 'x' is"):
        list(calibration_batches(wide, arrays))
    whole = recipe(
        {"arrays": "x.npy"},
        inputs={"x": {"shape": ("batch", 3), "dtype": "int64", "range": (0, 9)}},
    )
    with pytest.raises(UsageError, match="is float32, the input 'x' is int64"):
        list(calibration_batches(whole, arrays))


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        (
            np.array([0, 300, 2]),
            "uint8",
            r"is int64, the input 'x' is uint8, which does not hold the value 300",
        ),
        (np.array([0, -1, 2]), "uint8", "which does not hold the value -1"),
        (np.array([0, 1, 2]), "bool", "which does not hold the value 2"),
        (
            np.array([0, 1, 1e39]),
            "float32",
            r"is float64, the input 'x' is float32, which does not hold the value 1e\+39",
        ),
        (np.array([0, 1, 1e5], np.float32), "float16", "which does not hold the value 100000"),
        (np.array([0, 1j, 2]), "float32", "is complex128, the input 'x' is float32"),
        (np.array(["a", "b", "c"]), "float32", "is <U1, the input 'x' is float32"),
        (np.array([0.5, 1, 2]), "bool", "is float64, the input 'x' is bool"),
    ],
)
def test_a_value_that_the_models_dtype_cannot_hold(
    tmp_path: Path, values: Any, dtype: str, message: str
) -> None:
    np.save(tmp_path / "x.npy", values[None])
    source = recipe({"arrays": "x.npy"}, inputs={"x": {"shape": ("batch", 3), "dtype": dtype}})
    with pytest.raises(UsageError, match=message):
        list(calibration_batches(source, tmp_path))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([0, 255, 2], np.uint8), "float32"),
        (np.array([0, 255, 2], np.int64), "uint8"),
        (np.array([0.5, 1e-300, 2]), "float32"),
        (np.array([0, 1, 1]), "bool"),
        (np.array([True, False, True]), "float32"),
    ],
)
def test_a_value_that_it_holds_comes_in_the_models_dtype(
    tmp_path: Path, values: Any, dtype: str
) -> None:
    np.save(tmp_path / "x.npy", values[None])
    source = recipe({"arrays": "x.npy"}, inputs={"x": {"shape": ("batch", 3), "dtype": dtype}})
    [batch] = calibration_batches(source, tmp_path)
    assert batch["x"].dtype == dtype
    assert np.array_equal(batch["x"][0], values.astype(dtype))


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (np.array([0.0, 1.5, 2.0]), "1.5"),
        (np.array([0, np.nan, 1]), "nan"),
        (np.array([0, np.inf, 1]), "inf"),
        (np.array(["0", "cat", "2"]), "0"),
        (np.eye(3, dtype=np.int64), r"int64\[3\]"),
        (np.eye(3), r"float64\[3\]"),
        (np.array([0, 1j, 0]), "0j"),
    ],
)
@pytest.mark.parametrize("where", ["arrays", "factory"])
def test_a_label_that_is_no_class_index_is_not_rounded_to_one(
    tmp_path: Path, labels: Any, shown: str, where: str
) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 3), np.float32), y=labels)
    (tmp_path / "labelled.py").write_text(
        "import numpy as np\n\n\ndef rows(path):\n    found = np.load(path)\n"
        "    return list(zip(found['x'], found['y'], strict=True))\n",
        encoding="utf-8",
    )
    factory = {"factory": "python:labelled:rows", "args": {"path": str(tmp_path / "x.npz")}}
    source = {"arrays": "x.npz", "labels": "y"} if where == "arrays" else factory
    index = 0 if labels.dtype.kind in "Uc" or labels.ndim > 1 else 1
    message = rf"labels: the label of .* \[{index}\] is {shown}, not the index of a class"
    with pytest.raises(UsageError, match=message):
        evaluation_samples(recipe(None, source), tmp_path)


@pytest.mark.parametrize(
    "labels", [np.array([0.0, 1.0, 2.0]), np.array([[0], [1], [2]]), np.array([0, 1, 2], np.uint8)]
)
def test_whole_numbers_of_any_dtype_are_labels(tmp_path: Path, labels: Any) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 3), np.float32), y=labels)
    samples = evaluation_samples(recipe(None, {"arrays": "x.npz", "labels": "y"}), tmp_path)
    assert [sample.label for sample in samples] == [0, 1, 2]


NESTED = """
class Rows:
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {"boxes": ([float(index)], {"low": [2.0 * index]}), "x": [3.0 * index]}
"""


def test_samples_may_be_nested_as_the_model_takes_them(tmp_path: Path) -> None:
    (tmp_path / "nested.py").write_text(NESTED, encoding="utf-8")
    names = ["boxes.0", "boxes.1.low", "x"]
    inputs = {name: {"shape": ("batch", 1)} for name in names}
    source = {"factory": "python:nested:Rows"}
    samples = evaluation_samples(recipe(None, source, inputs=inputs), tmp_path)
    values = [[float(sample.inputs[name][0]) for name in names] for sample in samples]
    assert values == [[index, 2 * index, 3 * index] for index in range(4)]
    for missing in ("boxes.2", "boxes.x", "x.0.0", "other"):
        wrong = {**inputs, missing: {"shape": ("batch", 1)}}
        with pytest.raises(UsageError, match=f"has no {missing}"):
            evaluation_samples(recipe(None, source, inputs=wrong), tmp_path)


ODD = """
class Rows:
    def __init__(self, broken=(), bare=(), count=200):
        self.broken, self.bare, self.count = broken, bare, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index in self.broken:
            raise ZeroDivisionError("no luck")
        return [float(index)] * 3, None if index in self.bare else index
"""


def odd(tmp_path: Path, **args: Any) -> Recipe:
    (tmp_path / "odd.py").write_text(ODD, encoding="utf-8")
    return recipe(None, {"factory": "python:odd:Rows", "samples": 200, "args": args})


def test_a_dataset_that_raises_for_a_sample_is_like_a_picture_that_cannot_be_read(
    tmp_path: Path,
) -> None:
    notes: list[str] = []
    samples = evaluation_samples(odd(tmp_path, broken=[7, 50]), tmp_path, notes.append)
    assert [sample.label for sample in samples] == [
        index for index in range(200) if index not in (7, 50)
    ]
    assert notes[0] == "left out: python:odd:Rows [7] cannot be read: ZeroDivisionError: no luck"
    with pytest.raises(
        UsageError, match=r"3 of 200 samples cannot be read:\n  python:odd:Rows \[7\] cannot"
    ):
        evaluation_samples(odd(tmp_path, broken=[7, 50, 51]), tmp_path)


def test_a_dataset_whose_samples_do_not_become_arrays(tmp_path: Path) -> None:
    (tmp_path / "ragged.py").write_text(
        "def rows():\n    return [[[1.0], [1.0, 2.0]]]\n", encoding="utf-8"
    )
    with pytest.raises(
        UsageError, match=r"ragged:rows \[0\] cannot be read: ValueError: .*inhomogeneous"
    ):
        evaluation_samples(recipe(None, {"factory": "python:ragged:rows"}), tmp_path)


def test_what_comes_with_the_samples_of_another_task_is_no_label(tmp_path: Path) -> None:
    (tmp_path / "targets.py").write_text(
        "def rows():\n    return [([1.0] * 3, 0.5), ([2.0] * 3, [1, 2])]\n", encoding="utf-8"
    )
    source = recipe(None, {"factory": "python:targets:rows"})
    message = r"the label of python:targets:rows \[0\] is 0\.5, not the index of a class"
    with pytest.raises(UsageError, match=message):
        evaluation_samples(source, tmp_path)
    samples = evaluation_samples(source.model_copy(update={"task": None}), tmp_path)
    assert [sample.label for sample in samples] == [None, None]


def test_labels_for_some_samples_only_are_refused(tmp_path: Path) -> None:
    message = (
        r"Rows \[3\] has no label and python:odd:Rows \[0\] has one: label all samples or none"
    )
    with pytest.raises(UsageError, match=message):
        evaluation_samples(odd(tmp_path, bare=[3]), tmp_path)
    samples = evaluation_samples(odd(tmp_path, bare=list(range(200))), tmp_path)
    assert {sample.label for sample in samples} == {None}


def test_a_label_of_an_array_that_is_no_class_is_named(arrays: Path) -> None:
    source = recipe(None, {"arrays": "x.npz", "labels": "y", "samples": 10})
    assert len(evaluation_samples(source, arrays, classes=3)) == 10
    with pytest.raises(
        UsageError, match=r"the label of .*x\.npz \[2\] is 2, but the model has 2 classes, 0 to 1"
    ):
        evaluation_samples(source, arrays, classes=2)


@pytest.mark.parametrize("source", [{}, {"images": "a", "arrays": "b"}])
def test_one_source_is_named(source: Any) -> None:
    with pytest.raises(ValueError, match="name one of images, arrays, factory, random"):
        recipe({**source, "samples": 3})
