"""Debugging TensorRT engines: TensorRT for RTX really does everything but the run on the device.

For a run, ONNX Runtime replaces the device: it computes the same values of the lowered graph.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from burnish.report.debug import headline
from converters.debug import run, worst
from converters.debug.compare import Comparison, compare
from converters.debug.judge import Limit
from converters.debug.run import DebugRequest, debug
from converters.debug.stops import find_stop
from converters.debug.taps import tensorrt as tensorrt_taps
from converters.debug.taps import tensorrt_graph
from converters.debug.taps.tensorrt import TensorRtTaps
from converters.debug.taps.tensorrt_graph import RebuiltGraph, TappedEngine, rebuild_graph, refuse
from converters.exporters.job import ExportJob
from converters.exporters.tensorrt import tensorrt as exporter
from converters.exporters.tensorrt.network import parse_network
from converters.exporters.tensorrt.tensorrt import Lowered, TensorRtExporter, TensorRtOptions
from converters.models.facts import ModelFacts
from converters.plan.load import load_recipe
from converters.plan.plan import source_of
from converters.sources.load import load_model
from runtimes.artifact.artifact import Artifact, FileEntry, Manifest, sha256
from runtimes.errors import Unavailable, UsageError
from runtimes.files.layout import REFERENCE_FILE
from runtimes.machine.devices import absent
from runtimes.session import Session, load
from runtimes.spec import Arrays, DimRange, TensorSpec

no_gpu = pytest.mark.skipif(absent("cuda") is None, reason="this machine has a GPU")
rtx = pytest.mark.skipif(not find_spec("tensorrt_rtx"), reason="tensorrt-rtx is not installed")

Change = Callable[[onnx.ModelProto], None]


def _manifest(subject: Any, **options: Any) -> Manifest:
    """The manifest of an engine of a subject's model, as a build records it."""
    size = subject.inputs["image"].shape[-1]
    chosen = TensorRtOptions(format="tensorrt", flavor="rtx", **options)
    return Manifest(
        burnish="0",
        name="tensorrt",
        format="tensorrt",
        runtime="tensorrt",
        entry="model.engine",
        devices=("cuda",),
        precision=chosen.asked_precision,
        model="test",
        inputs={"image": TensorSpec(shape=("batch", 3, size, size))},
        outputs={name: TensorSpec(shape=("batch", 1)) for name in subject.outputs},
        dims={"batch": DimRange(min=1, max=8)},
        reference="",
        build={"flavor": "rtx", "options": chosen.model_dump(mode="json", exclude={"gates"})},
    )


@pytest.fixture
def rebuilt(tmp_path: Path) -> Callable[..., RebuiltGraph]:
    """Rebuild the graph of a subject's engine: `rebuilt(subject, precision="fp16")`."""

    def make(subject: Any, **options: Any) -> RebuiltGraph:
        return rebuild_graph(_manifest(subject, **options), subject.eager._single, tmp_path, None)

    return make


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Install a fault in the exporter's lowering of all graphs."""
    right = exporter.lower

    def install(change: Change) -> None:
        def wrong(graph: Path, job: ExportJob, options: TensorRtOptions) -> Lowered:
            lowered = right(graph, job, options)
            model = onnx.load(str(lowered.path))
            change(model)
            onnx.save(model, str(lowered.path))
            return lowered

        monkeypatch.setattr(exporter, "lower", wrong)

    return install


def _scaled(weight: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == weight)
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.1), tensor.name)
        )

    return change


def _bake_batch(model: onnx.ModelProto) -> None:
    """A reshape that is right for a batch of two, and for no other."""
    flatten = next(node for node in model.graph.node if node.op_type in ("Flatten", "Reshape"))
    maker, name = flatten.input[0], flatten.output[0]
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 8], np.int64), "baked"))
    flatten.CopyFrom(
        onnx.helper.make_node("Reshape", [maker, "baked"], [name], name="baked reshape")
    )


@pytest.fixture
def on_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run on ONNX Runtime instead of engines."""

    def run(rebuilt: RebuiltGraph, tapped: TappedEngine, inputs: Arrays) -> Arrays:
        assert len(tapped.plan) > 1000, "the engine was really built"
        model = onnx.load(str(rebuilt.lowered.path))
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tapped.outputs)
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return dict(zip(tapped.outputs, session.run(list(tapped.outputs), inputs), strict=True))

    monkeypatch.setattr(tensorrt_taps, "run_on_device", run)


@pytest.fixture
def compared(on_host: None) -> Callable[[Any, RebuiltGraph], Comparison]:
    """Match an engine's layers with a subject's."""

    def match(subject: Any, rebuilt: RebuiltGraph) -> Comparison:
        taps = TensorRtTaps(rebuilt, subject.eager.paths, subject.inputs)
        return compare(subject.eager, taps, subject.inputs, subject.outputs)

    return match


@rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_layer_of_a_correct_engine_is_matched_by_name(
    small: Any,
    rebuilt: Callable[..., RebuiltGraph],
    compared: Callable[..., Comparison],
    precision: str,
) -> None:
    comparison = compared(small, rebuilt(small, precision=precision))
    assert [layer.name for layer in comparison.layers][:7] == [
        "stem",
        "block.conv1 + block.bn1",
        "block.relu (call 1 of 2)",
        "block.conv2 + block.bn2",
        "block.relu (call 2 of 2)",
        "inverted.conv.0 + inverted.conv.1",
        "inverted.conv.2",
    ]
    findings = comparison.search(Limit.of(precision), 10**9, 3)
    assert findings.first is None and comparison.unmatched == []
    assert {report.layer for report in findings.series} >= {
        "stem",
        "pool",
        "first",
        "second",
        "output a",
        "output b",
    }


@rtx
@pytest.mark.parametrize("taps", [64, 2])
def test_a_fault_of_the_lowering_is_found(
    small: Any,
    rebuilt: Callable[..., RebuiltGraph],
    compared: Callable[..., Comparison],
    faulty: Callable[[Change], None],
    monkeypatch: pytest.MonkeyPatch,
    taps: int,
) -> None:
    """However few values an engine gives."""
    monkeypatch.setattr(tensorrt_taps, "TAPS", taps)
    faulty(_scaled("inverted.conv.0.weight"))
    first = compared(small, rebuilt(small)).search(Limit.of("fp32"), 10**9, 3).first
    assert first is not None and first.layer == "inverted.conv.0 + inverted.conv.1"


@rtx
def test_where_a_graph_stops_at_a_size_is_found(
    small: Any,
    rebuilt: Callable[..., RebuiltGraph],
    compared: Callable[..., Comparison],
    faulty: Callable[[Change], None],
) -> None:
    faulty(_bake_batch)
    comparison = compared(small, rebuilt(small))
    assert find_stop(comparison, small.inputs) is None
    report = find_stop(comparison, {"image": np.repeat(small.inputs["image"], 2, 0)[:3]})
    assert report is not None and report.node == "baked reshape" and not report.runs


@rtx
@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", "FLOAT"), ("fp16", "HALF"), ("bf16", "FLOAT")]
)
def test_values_become_outputs_beside_the_models_own(
    small: Any, rebuilt: Callable[..., RebuiltGraph], precision: str, dtype: str
) -> None:
    """NumPy has no bfloat16: such a value is read as float32."""
    graph = rebuilt(small, precision=precision)
    shapes = graph.shapes(small.inputs)
    assert shapes["a"] == (2, 6)
    inner = [name for name, shape in shapes.items() if shape == (2, 8, 8, 8)]
    trt = graph.trt
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = parse_network(trt, builder, graph.lowered.path, {})
    outputs = tensorrt_graph._mark(trt, network, [*inner, "a", inner[0]])
    marked = [network.get_output(index) for index in range(network.num_outputs)]
    network_outputs = {tensor.name: tensor for tensor in marked}
    assert list(outputs) == [*inner, "a"], "each once"
    assert len(network_outputs) == network.num_outputs == len(inner) + 2, (
        "an output that is read stays one"
    )
    assert set(outputs.values()) | {"a", "b"} == set(network_outputs)
    assert {network_outputs[outputs[name]].dtype.name for name in inner} == {dtype}
    tapped = graph.tapped(inner)
    assert len(tapped.plan) > 1000 and tapped.outputs == {name: outputs[name] for name in inner}


@rtx
def test_a_value_that_no_engine_gives_is_not_read(
    photo: Any, rebuilt: Callable[..., RebuiltGraph]
) -> None:
    """Inner integers are shapes: the graph has their nodes, and their values are not read."""
    taps = TensorRtTaps(rebuilt(photo), photo.eager.paths, photo.inputs)
    assert taps.graph.outputs == ["probabilities", "twin"]
    assert all(node.shape is not None for node in taps.graph.nodes if node.value)
    unread = [node.outputs[0] for node in taps.graph.nodes if not node.value]
    assert taps.read(photo.inputs, unread) == {}
    assert any("rebuilt" in note for note in taps.notes)


@rtx
def test_a_real_artifact_is_rebuilt_as_it_was(
    small_build: Path, small_recipe: Path, tmp_path: Path
) -> None:
    manifest = Artifact.open(small_build / "tensorrt").manifest
    module = load_model(source_of(load_recipe(small_recipe))).module
    graph = rebuild_graph(manifest, module, tmp_path, None)
    assert graph.differences(manifest) == []
    build = {**manifest.build, "version": "0.1", "layers": {"fp16": 7}}
    words = graph.differences(manifest.model_copy(update={"build": build}))
    assert len(words) == 2 and "the manifest has 0.1" in words[0] and "{'fp16': 7}" in words[1]


def test_the_options_are_the_manifests_on_this_machines_devices(small: Any) -> None:
    recorded = {
        "precision": "fp16",
        "workspace_mb": 64,
        "compute_capabilities": ("12.0",),
        "optimization_level": 1,
    }
    passes = [{"prune": {"pattern": "2:4"}}, {"recover": "logits"}]
    manifest = _manifest(small, **recorded, passes=passes)
    options = tensorrt_graph._options(Manifest.model_validate_json(manifest.model_dump_json()))
    assert (options.precision, options.workspace_mb, options.optimization_level) == ("fp16", 64, 1)
    assert (options.flavor, options.compute_capabilities, options.sparse) == ("rtx", (), True)
    unstructured = _manifest(small, passes=[{"prune": {"structured": 0.5}}])
    assert not tensorrt_graph._options(unstructured).sparse


def test_options_of_another_version_are_an_error(small: Any) -> None:
    manifest = _manifest(small)
    manifest.build["options"]["tactics"] = "some"
    with pytest.raises(UsageError, match=r"another version of Burnish.*build it again"):
        tensorrt_graph._options(manifest)


def test_a_quantized_engine_is_refused(small: Any) -> None:
    with pytest.raises(
        UsageError, match=r"quantized TensorRT engines.*Debug an onnx artifact with the same passes"
    ):
        refuse(_manifest(small, passes=[{"quantize": {"to": "int8"}}]))


@rtx
@pytest.mark.usefixtures("own_imports")
@pytest.mark.parametrize(
    ("build", "name", "error", "words"),
    [
        (
            "small_build",
            "tensorrt",
            Unavailable,
            "no NVIDIA GPU.*Debug the onnx artifact of the same recipe here",
        ),
        ("quantized_build", "tensorrt-int8", UsageError, "quantized TensorRT engines"),
    ],
)
@no_gpu
def test_a_refusal_names_what_can_be_debugged(
    request: pytest.FixtureRequest,
    small_recipe: Path,
    build: str,
    name: str,
    error: type[Exception],
    words: str,
) -> None:
    folder = request.getfixturevalue(build)
    with pytest.raises(error, match=words):
        debug(
            DebugRequest(
                folder / name,
                folder / REFERENCE_FILE,
                source_of(load_recipe(small_recipe)),
                10**9,
                3,
            )
        )


@rtx
@pytest.mark.usefixtures("own_imports", "on_host")
@pytest.mark.parametrize(
    ("change", "engine", "blamed", "note"),
    [
        (None, 1.0, None, "rebuilt from the model"),
        (_scaled("3.weight"), 1.0, "3 + 4", "rebuilt from the model"),
        (None, 1.1, None, "every output of the rebuilt engine is right"),
    ],
    ids=["clean", "lowering", "engine"],
)
def test_a_whole_artifact(
    small_build: Path,
    small_recipe: Path,
    faulty: Callable[[Change], None],
    monkeypatch: pytest.MonkeyPatch,
    change: Change | None,
    engine: float,
    blamed: str | None,
    note: str,
) -> None:
    """The onnx artifact replaces the engine, times a factor that is in no layer."""

    def opened(path: Path, device: str, *more: Any) -> Session:
        assert device == "cuda"
        session = load(path.with_name("onnx"), "cpu")
        right = session._run
        session._run = lambda inputs: {  # type: ignore[method-assign]
            name: values * np.float32(engine) for name, values in right(inputs).items()
        }
        return session

    monkeypatch.setattr(run, "refuse", lambda manifest: None)
    monkeypatch.setattr(worst, "load", opened)
    if change:
        faulty(change)
    source = source_of(load_recipe(small_recipe))
    result = debug(
        DebugRequest(small_build / "tensorrt", small_build / REFERENCE_FILE, source, 10**9, 3)
    )
    assert (result.first.layer if result.first else None) == blamed
    assert (result.format, result.complete, result.unmatched) == ("tensorrt", True, [])
    assert any(note in text for text in result.notes)


@pytest.mark.gpu
@pytest.mark.usefixtures("own_imports")
def test_an_engine_on_the_gpu(
    gpu_build: Path, small_recipe: Path, tmp_path: Path, faulty: Callable[[Change], None]
) -> None:
    """A correct one, and one whose lowering was wrong when it was built and is so still."""
    source = source_of(load_recipe(small_recipe))
    clean = debug(
        DebugRequest(gpu_build / "tensorrt", gpu_build / REFERENCE_FILE, source, 10**9, 3)
    )
    assert clean.first is None, headline(clean)
    assert {"0 + 1", "3 + 4", "8", "output logits"} <= {report.layer for report in clean.series}
    faulty(_scaled("3.weight"))
    broken = _rebuilt_artifact(gpu_build / "tensorrt", gpu_build / "onnx" / "model.onnx", tmp_path)
    result = debug(DebugRequest(broken, gpu_build / REFERENCE_FILE, source, 10**9, 3, trust=True))
    assert result.first is not None and result.first.layer == "3 + 4", headline(result)
    assert any("rebuilt" in note for note in result.notes)


def _rebuilt_artifact(artifact: Path, graph: Path, folder: Path) -> Path:
    """Copy an artifact with the engine that the exporter builds now."""
    copy = shutil.copytree(artifact, folder / "tensorrt")
    manifest = Artifact.open(copy).manifest
    facts = ModelFacts(manifest.inputs, manifest.outputs, manifest.dims, False, 0)
    TensorRtExporter().export(
        ExportJob(None, facts, copy, graph), tensorrt_graph._options(manifest)
    )
    engine = copy / "model.engine"
    entry = FileEntry(sha256=sha256(engine), size=engine.stat().st_size).model_dump()
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    (copy / "manifest.json").write_text(
        json.dumps(manifest | {"files": {"model.engine": entry}}), encoding="utf-8"
    )
    return copy
