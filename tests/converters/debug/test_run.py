"""Debugging a whole artifact: the model is checked, and the worst probe is used."""

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
def job(
    small_build: Path, small_recipe: Path, tmp_path: Path
) -> Iterator[Callable[..., DebugRequest]]:
    """Request to debug a copy of an artifact of `small_build`; `change` edits its ONNX graph."""

    def make(name: str = "onnx", change: Callable[[Any], None] | None = None) -> DebugRequest:
        folder = shutil.copytree(small_build / name, tmp_path / name)
        shutil.copy(small_build / REFERENCE_FILE, tmp_path / REFERENCE_FILE)
        if change:
            model = onnx.load(str(folder / "model.onnx"))
            change(model)
            onnx.save(model, str(folder / "model.onnx"))
            _manifest(folder, files={"model.onnx": _entry(folder / "model.onnx")})
        return DebugRequest(
            folder,
            tmp_path / REFERENCE_FILE,
            source_of(load_recipe(small_recipe)),
            10**9,
            3,
            trust=True,
        )

    yield make


def _entry(path: Path) -> dict[str, Any]:
    return FileEntry(sha256=sha256(path), size=path.stat().st_size).model_dump()


def _manifest(folder: Path, **values: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values), encoding="utf-8")


def _scale(model: Any) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "3.weight")
    tensor.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.01), tensor.name)
    )


def _bake_batch(model: Any) -> None:
    """Bake in a batch of one, as an exporter that saw no other: correct there, and nowhere else."""
    flatten = next(node for node in model.graph.node if node.op_type in ("Flatten", "Reshape"))
    maker, name = flatten.input[0], flatten.output[0]
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 16], np.int64), "baked"))
    flatten.CopyFrom(
        onnx.helper.make_node("Reshape", [maker, "baked"], [name], name="baked reshape")
    )


@pytest.mark.parametrize("name", ["onnx", "torchscript"])
def test_a_clean_build(job: Callable[..., DebugRequest], name: str) -> None:
    result = debug(job(name))
    assert result.first is None
    assert (result.artifact, result.precision, result.complete, result.unmatched) == (
        name,
        "fp32",
        True,
        [],
    )
    assert [report.layer for report in result.series] == [
        "0 + 1",
        "2",
        "3 + 4",
        "5",
        "6",
        "7",
        "8",
        "output logits",
    ]


def test_a_fault(job: Callable[..., DebugRequest]) -> None:
    result = debug(job(change=_scale))
    assert result.first is not None and result.first.layer == "3 + 4"
    assert result.first.op == "Conv" and result.first.inputs == ("2",)
    assert result.first in result.series


@pytest.mark.parametrize("level", ["basic", "extended", "all"])
@pytest.mark.parametrize(
    ("change", "blamed"), [(None, None), (_scale, "3 + 4")], ids=["clean", "fault"]
)
def test_an_artifact_that_was_optimized_ahead_of_time(
    job: Callable[..., DebugRequest],
    level: Any,
    change: Callable[[Any], None] | None,
    blamed: str | None,
) -> None:
    first = debug(_optimized(job("onnx", change), level)).first
    assert (first.layer[: len(blamed or "")] if first else None) == blamed


def _optimized(request: DebugRequest, level: Any) -> DebugRequest:
    """Optimize the artifact as `optimize:` does."""
    graph = request.artifact / "model.onnx"
    optimize_graph(graph, request.artifact / "made.onnx", level)
    (request.artifact / "made.onnx").replace(graph)
    build = json.loads((request.artifact / "manifest.json").read_text())["build"]
    here = {"optimize": level, "platform": system(), "isa": vectors()}
    _manifest(request.artifact, files={"model.onnx": _entry(graph)}, build=build | here)
    return request


def test_the_worst_probe_is_taken(job: Callable[..., DebugRequest]) -> None:
    request = job(change=_scale)
    reference = Reference.load(request.reference)
    noise = {}
    for index, probe in enumerate(reference.probes):
        single = dataclasses.replace(
            reference,
            probes=[dataclasses.replace(probe, rows=())],
            eager=[reference.eager[index]],
            truth=[reference.truth[index]],
        )
        single.save(request.reference)
        series = {layer.layer: layer.noise for layer in debug(request).series}
        noise[probe.name] = series["output logits"]
    reference.save(request.reference)
    assert debug(request).probe == max(noise, key=lambda name: noise[name])


def test_a_probe_that_cannot_run_is_reported(job: Callable[..., DebugRequest]) -> None:
    request = job(change=_bake_batch)
    larger = [
        probe.name
        for probe in Reference.load(request.reference).probes
        if probe.sizes != {"batch": 1}
    ]
    result = debug(request)
    assert result.first is not None and not result.first.runs and result.probe in larger
    assert (result.first.layer, result.first.node) == ("7", "baked reshape")
    assert (
        f"the graph stops on the probe {result.probe!r}, in 7 (Reshape baked reshape)"
        in headline(result)
    )
    notes = [note for note in result.notes if "does not run on the probe" in note]
    assert larger and len(notes) == len(larger)
    assert all(repr(name) in note for name, note in zip(larger, notes, strict=True))


def test_no_probe_that_runs_is_an_error(job: Callable[..., DebugRequest]) -> None:
    def bake(model: Any) -> None:
        _bake_batch(model)
        baked = next(tensor for tensor in model.graph.initializer if tensor.name == "baked")
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
        session._run = lambda inputs: {
            name: values * 1.01 for name, values in right(inputs).items()
        }
        return session

    monkeypatch.setattr(worst, "load", broken)
    result = debug(job())
    assert result.first is None
    assert any(
        "the fault is in what the engine makes of the graph" in note for note in result.notes
    )


def test_a_fault_counts_before_a_probe_that_cannot_run(job: Callable[..., DebugRequest]) -> None:
    def both(model: Any) -> None:
        _scale(model)
        _bake_batch(model)

    result = debug(job(change=both))
    assert result.first is not None and result.first.layer == "3 + 4" and result.first.runs
    assert any("does not run on the probe" in note for note in result.notes)


def test_a_size_that_only_the_graph_declares(job: Callable[..., DebugRequest]) -> None:
    """Every node would run at every size; the engine refuses the inputs."""

    def declare(model: Any) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        del model.graph.value_info[:]
        model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1

    result = debug(job(change=declare))
    assert result.first is None
    assert any("does not run on the probe" in note for note in result.notes)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_model_that_is_float32_in_disguise(
    job: Callable[..., DebugRequest], precision: str
) -> None:
    """No layer is wrong, and none has the requested precision."""
    request = job()
    _manifest(request.artifact, precision=precision)
    result = debug(request)
    assert result.first is None and result.precision == precision
    assert f"(onnx, {precision}): no layer diverges" in headline(result)
    [note] = [note for note in result.notes if note.startswith(f"{precision} was requested")]
    assert f"0.0% of the multiply-adds in {precision} (0 of 3 layers)" in note
    assert note.endswith("; the precision gate fails")


def test_a_lossy_artifact_is_not_debugged_on_edge_values(job: Callable[..., DebugRequest]) -> None:
    """float16 cannot hold a thousand times the usual input: the validator skips these, too."""

    def half(model: Any) -> None:
        converted = onnx_ir.from_proto(model)
        cast_graph(converted, "fp16")
        model.CopyFrom(onnx_ir.to_proto(converted))

    request = job(change=half)
    _manifest(request.artifact, precision="fp16")
    edges = [
        probe.name for probe in Reference.load(request.reference).probes if probe.kind == "edge"
    ]
    result = debug(request)
    assert edges and result.probe not in edges
    assert result.first is None


def test_preprocessing_that_is_not_the_recipes_is_noted(job: Callable[..., DebugRequest]) -> None:
    expected = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.2, 0.2, 0.2))
    request = dataclasses.replace(job(), preprocess=expected)
    _manifest(
        request.artifact,
        preprocess=Preprocess(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)).model_dump(),
    )
    result = debug(request)
    assert result.first is None
    note = next(note for note in result.notes if "preprocessing" in note)
    assert (
        "mean (0.5, 0.5, 0.5) where the recipe has (0.485, 0.456, 0.406)" in note
        and "std" not in note
    )
    _manifest(request.artifact, preprocess=expected.model_dump())
    assert not any("preprocessing" in note for note in debug(request).notes)


def test_the_recipes_preprocessing_is_what_counts(
    job: Callable[..., DebugRequest], small_recipe: Path, tmp_path: Path
) -> None:
    request = job()
    recipe = small_recipe.with_name("prepared.yaml")
    recipe.write_text(
        small_recipe.read_text() + "preprocess: {mean: [0.5, 0.4, 0.3]}\n", encoding="utf-8"
    )
    result = debug_artifact(request.artifact, recipe, 1024, 3, lambda words: None)
    assert result.first is None
    assert any("mean None where the recipe has (0.5, 0.4, 0.3)" in note for note in result.notes)


def test_another_seed_is_refused(job: Callable[..., DebugRequest]) -> None:
    request = job()
    other = dataclasses.replace(
        request, source=dataclasses.replace(request.source, weights=("random:7",))
    )
    with pytest.raises(UsageError, match=r"weights random:0 .*random:7.*--recipe"):
        debug(other)


def test_another_digest_is_refused(job: Callable[..., DebugRequest]) -> None:
    request = job()
    _manifest(
        request.artifact,
        weights={"source": "w.pth", "sha256": "ab" * 32, "random": False, "tried": []},
    )
    with pytest.raises(UsageError, match=r"abab.*--recipe"):
        debug(request)


def test_a_model_that_has_changed_is_refused(job: Callable[..., DebugRequest]) -> None:
    """The same file and seed, but other code: the outputs differ."""
    request = job()
    reference = Reference.load(request.reference)

    def scaled(answer: dict[str, Any]) -> dict[str, Any]:
        return {name: (values * 1.01).astype(values.dtype) for name, values in answer.items()}

    eager = [scaled(answer) for answer in reference.eager]
    truth = [scaled(answer) for answer in reference.truth]
    dataclasses.replace(reference, eager=eager, truth=truth).save(request.reference)
    with pytest.raises(
        UsageError, match="gives other values for logits than when the artifact was built"
    ):
        debug(request)


def test_a_changed_file_is_refused(job: Callable[..., DebugRequest]) -> None:
    request = job()
    path = request.artifact / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="was changed after it was made"):
        debug(request)


@pytest.mark.parametrize(
    ("format", "words"),
    [
        ("torch-export", "it is not made from ONNX.*debug the torchscript or onnx artifact"),
        ("aot-inductor", "it is not made from ONNX.*debug the torchscript or onnx artifact"),
        ("torch-tensorrt", "it is not made from ONNX.*debug the torchscript or onnx artifact"),
    ],
)
def test_another_format_is_refused(
    job: Callable[..., DebugRequest], format: str, words: str
) -> None:
    request = job()
    _manifest(request.artifact, runtime=format, format=format)
    with pytest.raises(
        UsageError,
        match=f"reads onnx, torchscript, openvino and tensorrt artifacts, not {format}: .*{words}",
    ):
        debug(request)
