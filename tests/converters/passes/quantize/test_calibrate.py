"""A calibration is used again if nothing has changed, and never otherwise; notes stay."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.calibrate import HistogramCalibrater, MinMaxCalibrater
from PIL import Image

from converters.data import calibration
from converters.data.calibration import CalibrationSamples
from converters.errors import ExportError
from converters.passes.quantize import calibrate as module
from converters.passes.quantize import estimators
from converters.passes.quantize.calibrate import CalibrationRequest, calibrate
from converters.passes.quantize.static import Calibration
from converters.recipe.quantize import QuantizeOptions
from converters.recipe.schema import Recipe
from converters.steps.store import Store
from runtimes.artifact.artifact import Artifact, sha256
from runtimes.errors import UsageError
from runtimes.spec import Arrays

ORT = {"to": "int8", "method": "onnxruntime"}


def save_graph(path: Path, seed: int = 0, external: bool = False) -> Path:
    """Save Conv, Relu, Conv of a 3x8x8 image; `external`: with weights in a separate file."""
    rng = np.random.default_rng(seed)
    weights = {"w": rng.standard_normal((4, 3, 3, 3)), "v": rng.standard_normal((4, 4, 3, 3))}
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "v"], ["y"], "second"),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
        for name, shape in (("image", [3, 8, 8]), ("y", [4, 4, 4]))
    ]
    arrays = [
        numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], arrays),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    model = onnx.shape_inference.infer_shapes(model)
    onnx.save(model, path, save_as_external_data=external, location="weights.bin", size_threshold=0)
    return path


def recipe(**source: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "model": "python:net:build",
            "inputs": {"image": {"shape": ("batch", 3, 8, 8)}},
            "dims": {"batch": {"min": 1, "max": 4}},
            "preprocess": {"resize": 8, "crop": 8},
            "data": {"calibration": source or {"arrays": "x.npy", "samples": 6}},
            "artifacts": {"onnx": {}},
        }
    )


class Desk:
    """A folder with a graph, samples and a store, and how often something was quantized."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.store, self.quantized = (
            folder,
            Store(folder / "caches" / "calibration"),
            0,
        )
        self.graph = save_graph(folder / "graph.onnx")
        np.save(
            folder / "x.npy",
            np.random.default_rng(1).standard_normal((10, 3, 8, 8)).astype(np.float32),
        )
        monkeypatch.setattr(estimators, "quantize_static", self._count(estimators.quantize_static))

    def _count(self, real: Callable[..., None]) -> Callable[..., None]:
        def counted(*args: Any) -> None:
            self.quantized += 1
            real(*args)

        return counted

    def samples(self, source: Recipe | None = None, count: int | None = None) -> CalibrationSamples:
        return CalibrationSamples(source or recipe(), self.folder, count)

    def request(self, options: Any = None, exclude: tuple[str, ...] = ()) -> CalibrationRequest:
        pass_options = QuantizeOptions.model_validate(options or ORT)
        return CalibrationRequest(self.graph, onnx_ir.load(str(self.graph)), pass_options, exclude)

    def run(
        self, samples: CalibrationSamples | None = None, **request: Any
    ) -> tuple[dict[str, Any], str, list[str]]:
        """Return the report, the digest of the quantized graph, the notes."""
        place = self.folder / "work"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        samples = samples or self.samples()
        result = calibrate(self.request(**request), samples, place / "out.onnx", self.store)
        return result.report, sha256(place / "out.onnx"), result.notes

    def key(self, samples: CalibrationSamples | None = None, **request: Any) -> str:
        samples = samples or self.samples()
        samples.read()
        return module._key(self.request(**request), samples)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


@pytest.mark.parametrize("options", [ORT, {"to": "int8"}], ids=["onnxruntime", "nncf"])
def test_a_second_time_nothing_is_calibrated_and_the_graph_is_the_same(
    desk: Desk, options: Any
) -> None:
    first, graph, notes = desk.run(options=options)
    again, same, _ = desk.run(options={**options, "max_drop": 3, "metric": "sqnr"})
    estimators = list(first["calibration"].get("sqnr_db", ["its own"]))
    assert (desk.quantized, same) == (len(estimators), graph), "each estimator is tried once"
    assert first["calibration"]["samples"] == 6
    assert again["calibration"] == first["calibration"]
    assert {key: again[key] for key in ("dead", "constant")} == {
        key: first[key] for key in ("dead", "constant")
    }
    assert notes == []


def test_without_a_cache_folder_the_graph_is_the_same(desk: Desk) -> None:
    _, graph, _ = desk.run()
    (desk.folder / "file").touch()
    desk.store = Store(desk.folder / "file" / "calibration")
    for _ in range(2):
        _, same, notes = desk.run()
        assert (same, notes) == (graph, [])
    assert desk.quantized == 3


def change_a_sample(desk: Desk) -> dict[str, Any]:
    samples = np.load(desk.folder / "x.npy")
    samples[0, 0, 0, 0] += 1
    np.save(desk.folder / "x.npy", samples)
    return {}


def change_a_weight(desk: Desk) -> dict[str, Any]:
    save_graph(desk.graph, seed=1)
    return {}


CHANGES: dict[str, Callable[[Desk], dict[str, Any]]] = {
    "a sample": change_a_sample,
    "a weight": change_a_weight,
    "the quantizer": lambda desk: {"options": {"to": "int8"}},
    "the ranges": lambda desk: {"options": {**ORT, "calibrate": "percentile"}},
    "a layer that stays float": lambda desk: {"exclude": ("second",)},
    "fewer samples": lambda desk: {"samples": desk.samples(count=3)},
    "other samples": lambda desk: {"samples": desk.samples(recipe(arrays="x.npy", samples=7))},
    "samples of another kind": lambda desk: {"samples": desk.samples(recipe(random=0, samples=6))},
}


@pytest.mark.parametrize("change", CHANGES)
def test_with_any_change_that_matters_it_is_done_again(desk: Desk, change: str) -> None:
    desk.run()
    desk.run(**CHANGES[change](desk))
    assert desk.quantized > 1


@pytest.mark.parametrize("library", ["nncf", "onnxruntime", "onnx", "numpy"])
def test_another_version_of_a_library_is_another_calibration(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    before = desk.key()
    real = module.version
    monkeypatch.setattr(module, "version", lambda name: "99" if name == library else real(name))
    assert desk.key() != before


def test_code_that_changed_is_another_calibration(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = desk.key()
    monkeypatch.setattr(module, "source_digest", lambda name: f"another {name}")
    assert desk.key() != before


def test_weights_in_a_file_of_their_own_count(desk: Desk) -> None:
    desk.graph = save_graph(desk.folder / "large.onnx", external=True)
    before = desk.key()
    assert desk.key() == before
    content = bytearray((desk.folder / "weights.bin").read_bytes())
    content[100] ^= 1
    (desk.folder / "weights.bin").write_bytes(content)
    assert desk.key() != before


def test_a_model_that_is_the_same_in_another_place_is_the_same(desk: Desk, tmp_path: Path) -> None:
    before = desk.key()
    (tmp_path / "elsewhere").mkdir()
    desk.graph = desk.graph.rename(tmp_path / "elsewhere" / "other.onnx")
    assert desk.key() == before


def test_notes_about_the_samples_are_repeated_after_a_cache_hit(desk: Desk) -> None:
    """150 pictures, one of which cannot be read, while 200 are requested."""
    (desk.folder / "photos").mkdir()
    for number in range(150):
        Image.new("RGB", (8, 8), (number, 0, 255 - number)).save(
            desk.folder / "photos" / f"{number:03}.png"
        )
    (desk.folder / "photos" / "042.png").write_bytes(b"not a picture")
    pictures = recipe(images="photos", samples=200)
    results = [desk.run(samples=desk.samples(pictures)) for _ in range(2)]
    assert desk.quantized == 1
    for report, _, notes in results:
        assert report["calibration"]["samples"] == 149
        fewer, left_out, *_ = notes
        assert fewer == "calibrated with 150 samples: 200 were requested, but there are no more"
        assert left_out.startswith("left out: ") and "042.png as a picture" in left_out
    assert results[0][2] == results[1][2]


def test_more_than_one_percent_of_unreadable_pictures_are_named_before_the_quantizer_starts(
    desk: Desk,
) -> None:
    (desk.folder / "photos").mkdir()
    for number in range(20):
        Image.new("RGB", (8, 8), (number, 0, 255 - number)).save(
            desk.folder / "photos" / f"{number:03}.png"
        )
    (desk.folder / "photos" / "007.png").write_bytes(b"not a picture")
    with pytest.raises(
        UsageError, match=r"1 of 20 samples cannot be read:\n  cannot read .*007\.png as a picture"
    ):
        desk.run(samples=desk.samples(recipe(images="photos")))
    assert desk.quantized == 0


def test_noise_is_reported_after_a_cache_hit_too(desk: Desk) -> None:
    for _ in range(2):
        notes = desk.run(samples=desk.samples(recipe(random=0, samples=4)))[2]
        assert notes[0].startswith("calibrated with noise, not with data")


@pytest.mark.parametrize("damage", ["a bit", "half", "gone"])
def test_a_damaged_entry_is_reported_and_rebuilt(desk: Desk, damage: str) -> None:
    first, graph, _ = desk.run()
    [entry] = desk.store.folder.iterdir()
    kept = entry / "quantized.onnx"
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.unlink()
    if damage != "gone":
        kept.write_bytes(content if damage == "a bit" else content[: len(content) // 2])
    _, same, notes = desk.run()
    assert (same, desk.quantized) == (graph, 2)
    key = first["calibration"]["key"]
    assert notes == [f"cache entry calibration/{key[:12]} was damaged: it was computed again"]
    desk.run()
    assert desk.quantized == 2, "and kept again"


def test_the_ranges_that_leave_more_of_the_signal_are_taken(desk: Desk) -> None:
    """Two samples of six are ten times as large: the mean of extremes cuts them off."""
    samples = np.load(desk.folder / "x.npy")
    samples[::5] *= 30
    np.save(desk.folder / "x.npy", samples)
    report, graph, _ = desk.run(options={"to": "int8"})
    tried = report["calibration"]["sqnr_db"]
    assert set(tried) == {"auto", "min-max"}
    assert report["calibration"]["ranges"] == max(tried, key=tried.get)
    named, same, _ = desk.run(options={"to": "int8", "calibrate": "min-max"})
    assert "sqnr_db" not in named["calibration"], "the recipe says which"
    assert (same == graph) == (report["calibration"]["ranges"] == "min-max")


@pytest.mark.parametrize(
    ("sqnr", "best"),
    [
        ((20, 21, 24), "min-max, gentle smoothing"),
        ((21, 20, 19), "auto"),
        ((20, 21, 19), "min-max"),
    ],
)
def test_a_transformer_is_also_tried_with_gentle_smoothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sqnr: tuple[float, ...], best: str
) -> None:
    graph, tried = save_graph(tmp_path / "graph.onnx"), []

    def quantize(path: Path, options: QuantizeOptions, data: Calibration, target: Path) -> None:
        tried.append((options.calibrate, data.smoothing))
        target.write_text(f"candidate {len(tried)}", encoding="utf-8")

    monkeypatch.setattr(estimators, "quantize_static", quantize)
    monkeypatch.setattr(estimators, "sqnr_db", lambda *args: sqnr[len(tried) - 1])
    data = Calibration([], 0, transformer=True)
    target = tmp_path / "out.onnx"
    model = onnx_ir.load(str(graph))
    figures = estimators.quantize_with_best_ranges(graph, model, QuantizeOptions(), data, target)
    assert max(figures, key=figures.__getitem__) == best
    assert [smoothing for _, smoothing in tried] == [None, None, 0.7]
    assert tried[2][0] == max(("auto", "min-max"), key=figures.__getitem__)
    assert target.read_text(encoding="utf-8") == f"candidate {list(figures).index(best) + 1}"


def test_a_failure_leaves_no_entry(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        args[-1].write_bytes(b"half a graph")
        raise ExportError("no luck")

    monkeypatch.setattr(estimators, "quantize_static", broken)
    with pytest.raises(ExportError, match="no luck"):
        desk.run()
    assert not desk.store.folder.exists()


def test_a_graph_none_of_whose_layers_was_quantized_leaves_no_entry(desk: Desk) -> None:
    with pytest.raises(ExportError, match="onnxruntime quantized none of the graph's layers"):
        desk.run(exclude=("first", "second"))
    assert not desk.store.folder.exists()


def test_samples_that_are_others_each_time_are_not_remembered(desk: Desk) -> None:
    """As of a dataset that augments at random: what was hashed is not what was calibrated with."""
    (desk.folder / "moody.py").write_text(
        "import numpy as np\n\nrng = np.random.default_rng()\n\n\nclass Rows:\n    def "
        "__len__(self):\n        return 6\n\n    def __getitem__(self, index):\n        return "
        "rng.standard_normal((3, 8, 8)).astype('float32')\n\n\ndef rows():\n    return Rows()\n",
        encoding="utf-8",
    )
    _, _, notes = desk.run(samples=desk.samples(recipe(factory="python:moody:rows")))
    assert notes == [
        "the calibration samples differ each time they are read: the calibration cannot be cached"
    ]
    assert not desk.store.folder.exists()


def test_bad_samples_are_the_users_error_and_are_found_before_the_quantizer_starts(
    desk: Desk,
) -> None:
    np.save(desk.folder / "wide.npy", np.zeros((6, 3, 9, 9), np.float32))
    with pytest.raises(UsageError, match=r"wide.npy \[0\] is \[3, 9, 9\], the input 'image' is"):
        desk.run(samples=desk.samples(recipe(arrays="wide.npy")))
    assert desk.quantized == 0


def test_memory_does_not_grow_with_the_number_of_samples(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays: list[weakref.ref[Any]] = []
    most = 0

    def batches(*args: Any) -> Any:
        nonlocal most
        for index in range(60):
            sample: Arrays = {"image": np.full((1, 3, 8, 8), index, np.float32)}
            arrays.append(weakref.ref(sample["image"]))
            yield sample
            del sample
            most = max(most, sum(array() is not None for array in arrays))

    monkeypatch.setattr(calibration, "calibration_batches", batches)
    samples = desk.samples()
    samples.read()
    for _ in samples:
        pass
    assert len(samples.digests) == len(set(samples.digests)) == 60
    assert not samples.changed
    assert 1 <= most <= 2


@pytest.mark.parametrize("method", ["percentile", "entropy", "min-max"])
def test_the_values_of_one_sample_alone_are_held(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """As many samples as there are once took so many times the memory of one."""
    held: list[int] = []
    for kind in (HistogramCalibrater, MinMaxCalibrater):
        monkeypatch.setattr(kind, "clear_collected_data", recording(kind, held))
    desk.run(options={**ORT, "calibrate": method})
    assert len(held) >= 6
    assert max(held) == 1


def recording(kind: Any, held: list[int]) -> Callable[[Any], None]:
    """Return the method of a calibrator that forgets values; it records how many samples' there were."""
    real = kind.clear_collected_data

    def clear(calibrator: Any) -> None:
        held.append(len(calibrator.intermediate_outputs))
        real(calibrator)

    return clear


def test_a_builds_budgets_share_one_calibration(quantized_build: Path) -> None:
    """Of three artifacts by NNCF with all layers one calibrates, for two engines' budgets too."""
    calibrations = {
        name: Artifact.open(quantized_build / name).manifest.build["passes"][0]["quantize"][
            "calibration"
        ]
        for name in ("onnx-int8", "onnx-budget", "openvino-budget", "onnx-ort", "onnx-head")
    }
    assert (
        len({calibrations[name]["key"] for name in ("onnx-int8", "onnx-budget", "openvino-budget")})
        == 1
    )
    assert len({entry["key"] for entry in calibrations.values()}) == 3
    assert {entry["samples"] for entry in calibrations.values()} == {32}
    logs = {
        name: (quantized_build / "logs" / f"{name}-quantize.log").read_text()
        for name in calibrations
    }
    ours = ("onnx-int8", "onnx-budget", "openvino-budget")
    assert sum("Statistics collection" in logs[name] for name in ours) == 1
