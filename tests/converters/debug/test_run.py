"""Debugging a whole artifact: the model is the one that it was made from, and the worst probe is taken."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import numpy_helper

from burnish.debug import debug as debug_artifact
from burnish.report.debug import headline
from converters.debug import worst
from converters.debug.run import DebugRequest, debug
from converters.exporters.onnx.optimize import optimize_graph
from converters.graph.cast import cast_graph
from converters.plan.load import load_recipe
from converters.plan.plan import source_of
from runtimes.artifact.artifact import FileEntry, sha256
from runtimes.errors import ArtifactError, BurnishError, UsageError
from runtimes.files.layout import REFERENCE_FILE
from runtimes.machine.bound import vectors
from runtimes.machine.machine import system
from runtimes.preprocess.image import Preprocess
from runtimes.validator.reference import Reference

pytestmark = pytest.mark.usefixtures("own_imports")


@pytest.fixture
def job(small_build: Path, small_recipe: Path, tmp_path: Path) -> Iterator[Callable[..., DebugRequest]]:
    """A job on a copy of an artifact of `small_build`; `change` is done to its ONNX graph."""

    def make(name: str = "onnx", change: Callable[[Any], None] | None = None) -> DebugRequest:
        folder = shutil.copytree(small_build / name, tmp_path / name)
        shutil.copy(small_build / REFERENCE_FILE, tmp_path / REFERENCE_FILE)
        if change:
            model = onnx.load(str(folder / "model.onnx"))
            change(model)
            onnx.save(model, str(folder / "model.onnx"))
            _manifest(folder, files={"model.onnx": _entry(folder / "model.onnx")})
        return DebugRequest(
            folder, tmp_path / REFERENCE_FILE, source_of(load_recipe(small_recipe)), 10**9, 3, trust=True
        )

    yield make


def _entry(path: Path) -> dict[str, Any]:
    return FileEntry(sha256=sha256(path), size=path.stat().st_size).model_dump()


def _manifest(folder: Path, **values: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values), encoding="utf-8")


def _scale(model: Any) -> None:
    tensor = next(one for one in model.graph.initializer if one.name == "3.weight")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.01), tensor.name))


def _bake_batch(model: Any) -> None:
    """What an exporter does that saw only a batch of one: correct there, and nowhere else."""
    flatten = next(node for node in model.graph.node if node.op_type in ("Flatten", "Reshape"))
    maker, name = flatten.input[0], flatten.output[0]
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 16], np.int64), "baked"))
    flatten.CopyFrom(onnx.helper.make_node("Reshape", [maker, "baked"], [name], name="baked reshape"))


@pytest.mark.parametrize("name", ["onnx", "torchscript"])
def test_a_clean_build(job: Callable[..., DebugRequest], name: str) -> None:
    found = debug(job(name))
    assert found.first is None
    assert (found.artifact, found.precision, found.complete, found.unmatched) == (name, "fp32", True, [])
    assert [one.layer for one in found.series] == ["0 + 1", "2", "3 + 4", "5", "6", "7", "8", "output logits"]


def test_a_fault(job: Callable[..., DebugRequest]) -> None:
    found = debug(job(change=_scale))
    assert found.first is not None and found.first.layer == "3 + 4"
    assert found.first.op == "Conv" and found.first.inputs == ("2",)
    assert found.first in found.series


@pytest.mark.parametrize("level", ["basic", "extended", "all"])
@pytest.mark.parametrize(("change", "blamed"), [(None, None), (_scale, "3 + 4")], ids=["clean", "fault"])
def test_an_artifact_that_was_optimized_ahead_of_time(
    job: Callable[..., DebugRequest], level: Any, change: Callable[[Any], None] | None, blamed: str | None
) -> None:
    first = debug(_optimized(job("onnx", change), level)).first
    assert (first.layer[: len(blamed or "")] if first else None) == blamed


def _optimized(made: DebugRequest, level: Any) -> DebugRequest:
    """The artifact as `optimize:` leaves it."""
    graph = made.artifact / "model.onnx"
    optimize_graph(graph, made.artifact / "made.onnx", level)
    (made.artifact / "made.onnx").replace(graph)
    build = json.loads((made.artifact / "manifest.json").read_text())["build"]
    here = {"optimize": level, "platform": system(), "isa": vectors()}
    _manifest(made.artifact, files={"model.onnx": _entry(graph)}, build=build | here)
    return made


def test_the_worst_probe_is_taken(job: Callable[..., DebugRequest]) -> None:
    one = job(change=_scale)
    reference = Reference.load(one.reference)
    noise = {}
    for index, probe in enumerate(reference.probes):
        single = dataclasses.replace(
            reference,
            probes=[probe],
            eager=[reference.eager[index]],
            truth=[reference.truth[index]],
        )
        single.save(one.reference)
        series = {layer.layer: layer.noise for layer in debug(one).series}
        noise[probe.name] = series["output logits"]
    reference.save(one.reference)
    assert debug(one).probe == max(noise, key=lambda name: noise[name])


def test_a_probe_that_cannot_run_is_told(job: Callable[..., DebugRequest]) -> None:
    one = job(change=_bake_batch)
    larger = [probe.name for probe in Reference.load(one.reference).probes if probe.sizes != {"batch": 1}]
    found = debug(one)
    assert found.first is not None and not found.first.runs and found.probe in larger
    assert (found.first.layer, found.first.node) == ("7", "baked reshape")
    assert f"the graph stops on the probe {found.probe!r}, in 7 (Reshape baked reshape)" in headline(found)
    notes = [note for note in found.notes if "does not run on the probe" in note]
    assert larger and len(notes) == len(larger)
    assert all(repr(name) in note for name, note in zip(larger, notes, strict=True))


def test_no_probe_that_runs_is_an_error(job: Callable[..., DebugRequest]) -> None:
    def bake(model: Any) -> None:
        _bake_batch(model)
        baked = next(one for one in model.graph.initializer if one.name == "baked")
        baked.CopyFrom(numpy_helper.from_array(np.array([100, 16], np.int64), "baked"))

    with pytest.raises(BurnishError, match="the artifact runs on no probe"):
        debug(job(change=bake))


def test_a_fault_outside_the_graph_is_the_engines(
    job: Callable[..., DebugRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that the engine fuses wrongly is in no graph: the note says where to look."""
    opened = worst.load

    def broken(*args: Any) -> Any:
        session = opened(*args)
        right = session._run
        session._run = lambda inputs: {name: values * 1.01 for name, values in right(inputs).items()}
        return session

    monkeypatch.setattr(worst, "load", broken)
    found = debug(job())
    assert found.first is None
    assert any("the fault is in what the engine makes of the graph" in note for note in found.notes)


def test_a_fault_counts_before_a_probe_that_cannot_run(job: Callable[..., DebugRequest]) -> None:
    def both(model: Any) -> None:
        _scale(model)
        _bake_batch(model)

    found = debug(job(change=both))
    assert found.first is not None and found.first.layer == "3 + 4" and found.first.runs
    assert any("does not run on the probe" in note for note in found.notes)


def test_a_size_that_only_the_graph_declares(job: Callable[..., DebugRequest]) -> None:
    """Every node would run at every size; the engine refuses the inputs."""

    def declare(model: Any) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        del model.graph.value_info[:]
        model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1

    found = debug(job(change=declare))
    assert found.first is None
    assert any("does not run on the probe" in note for note in found.notes)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_model_that_is_float32_in_disguise(job: Callable[..., DebugRequest], precision: str) -> None:
    """No layer is wrong: none is what was asked for either."""
    one = job()
    _manifest(one.artifact, precision=precision)
    found = debug(one)
    assert found.first is None and found.precision == precision
    assert f"(onnx, {precision}): no layer diverges" in headline(found)
    words = f"{precision} was requested, but of the layers that compute 3 in fp32 do: the precision gate fails"
    assert words in found.notes


def test_a_lossy_artifact_is_not_asked_for_edge_values(job: Callable[..., DebugRequest]) -> None:
    """What float16 makes of a thousand times the usual input is its nature: the validator does not ask either."""

    def half(model: Any) -> None:
        converted = onnx_ir.from_proto(model)
        cast_graph(converted, "fp16")
        model.CopyFrom(onnx_ir.to_proto(converted))

    one = job(change=half)
    _manifest(one.artifact, precision="fp16")
    edges = [probe.name for probe in Reference.load(one.reference).probes if probe.kind == "edge"]
    found = debug(one)
    assert edges and found.probe not in edges
    assert found.first is None


def test_preprocessing_that_is_not_the_recipes_is_said(job: Callable[..., DebugRequest]) -> None:
    wanted = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.2, 0.2, 0.2))
    one = dataclasses.replace(job(), preprocess=wanted)
    _manifest(one.artifact, preprocess=Preprocess(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)).model_dump())
    found = debug(one)
    assert found.first is None
    note = next(note for note in found.notes if "preprocessing" in note)
    assert "mean (0.5, 0.5, 0.5) where the recipe has (0.485, 0.456, 0.406)" in note and "std" not in note
    _manifest(one.artifact, preprocess=wanted.model_dump())
    assert not any("preprocessing" in note for note in debug(one).notes)


def test_the_recipes_preprocessing_is_what_counts(
    job: Callable[..., DebugRequest], small_recipe: Path, tmp_path: Path
) -> None:
    one = job()
    recipe = small_recipe.with_name("prepared.yaml")
    recipe.write_text(small_recipe.read_text() + "preprocess: {mean: [0.5, 0.4, 0.3]}\n", encoding="utf-8")
    found = debug_artifact(one.artifact, recipe, 1024, 3, lambda words: None)
    assert found.first is None
    assert any("mean None where the recipe has (0.5, 0.4, 0.3)" in note for note in found.notes)


def test_another_seed_is_refused(job: Callable[..., DebugRequest]) -> None:
    one = job()
    other = dataclasses.replace(one, source=dataclasses.replace(one.source, weights=("random:7",)))
    with pytest.raises(UsageError, match=r"weights random:0 .*random:7.*--recipe"):
        debug(other)


def test_another_digest_is_refused(job: Callable[..., DebugRequest]) -> None:
    one = job()
    _manifest(one.artifact, weights={"source": "w.pth", "sha256": "ab" * 32, "random": False, "tried": []})
    with pytest.raises(UsageError, match=r"abab.*--recipe"):
        debug(one)


def test_a_model_that_has_changed_is_refused(job: Callable[..., DebugRequest]) -> None:
    """The same file and seed, other code: the outputs tell."""
    one = job()
    reference = Reference.load(one.reference)

    def other(every: list[Any]) -> list[Any]:
        return [{name: (values * 1.01).astype(values.dtype) for name, values in one.items()} for one in every]

    dataclasses.replace(reference, eager=other(reference.eager), truth=other(reference.truth)).save(one.reference)
    with pytest.raises(UsageError, match="gives other values for logits than when the artifact was built"):
        debug(one)


def test_a_changed_file_is_refused(job: Callable[..., DebugRequest]) -> None:
    one = job()
    path = one.artifact / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="was changed after it was made"):
        debug(one)


@pytest.mark.parametrize(
    ("format", "words"),
    [
        ("torch-export", "it is not made from ONNX.*debug the torchscript or onnx artifact"),
        ("aot-inductor", "it is not made from ONNX.*debug the torchscript or onnx artifact"),
        ("torch-tensorrt", "it is not made from ONNX.*debug the torchscript or onnx artifact"),
    ],
)
def test_another_format_is_refused(job: Callable[..., DebugRequest], format: str, words: str) -> None:
    one = job()
    _manifest(one.artifact, runtime=format, format=format)
    with pytest.raises(
        UsageError, match=f"reads onnx, torchscript, openvino and tensorrt artifacts, not {format}: .*{words}"
    ):
        debug(one)
