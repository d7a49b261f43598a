"""Debugging OpenVINO models: correct ones in all precisions, and ones with faults in the IR."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.debug.compare import Comparison, Findings, compare
from converters.debug.judge import Limit
from converters.debug.run import DebugRequest, debug
from converters.debug.taps.openvino import OpenVinoTaps
from converters.exporters.job import ExportJob
from converters.exporters.openvino import OpenVinoExporter, OpenVinoOptions
from converters.models.facts import ModelFacts
from converters.plan.load import load_recipe
from converters.plan.plan import source_of
from runtimes.errors import ArtifactError
from runtimes.files.layout import REFERENCE_FILE
from runtimes.spec import DimRange, TensorSpec

openvino = pytest.importorskip("openvino")


class Irs:
    """IRs of one subject, as the exporter writes them, and how to change and debug them."""

    def __init__(self, subject: Any, folder: Path) -> None:
        self._subject, self._folder = subject, folder

    def export(self, graph: Path | None = None, **options: Any) -> Path:
        """Export the IR of an ONNX graph."""
        folder = self._folder / f"ir{len(list(self._folder.iterdir()))}"
        folder.mkdir()
        size = self._subject.inputs["image"].shape[-1]
        facts = ModelFacts(
            {"image": TensorSpec(shape=("batch", 3, size, size))},
            {name: TensorSpec(shape=("batch", 1)) for name in self._subject.outputs},
            {"batch": DimRange(min=1, max=4)},
            False,
            0,
        )
        job = ExportJob(None, facts, folder, graph=graph or self._subject.onnx)
        chosen = OpenVinoOptions(format="openvino", **options)
        return folder / OpenVinoExporter().export(job, chosen).entry

    def edit(self, path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
        """Write a changed copy; `change` receives the operations by name."""
        model = openvino.Core().read_model(path)
        change({operation.get_friendly_name(): operation for operation in model.get_ordered_ops()})
        model.validate_nodes_and_infer_types()
        openvino.save_model(model, path.with_name("changed.xml"), compress_to_fp16=False)
        return path.with_name("changed.xml")

    def compare(self, path: Path, precision: str = "fp32") -> Comparison:
        """Match an IR with the eager model."""
        subject = self._subject
        taps = OpenVinoTaps(
            path, subject.eager.paths, subject.inputs, {"inference_precision": precision}
        )
        return compare(subject.eager, taps, subject.inputs, subject.outputs)

    def debug(self, path: Path, precision: str = "fp32", limit: str = "") -> Findings:
        """Debug an IR."""
        return self.compare(path, precision).search(Limit.of(limit or precision), 10**9, 3)


@pytest.fixture
def irs(small: Any, tmp_path: Path) -> Irs:
    return Irs(small, tmp_path)


def _times(factor: float, name: str) -> Callable[[dict[str, Any]], None]:
    """Multiply a constant."""
    from openvino import opset13

    def change(operations: dict[str, Any]) -> None:
        old = operations[name]
        values = (old.data * factor).astype(old.data.dtype)
        for user in old.output(0).get_target_inputs():
            user.replace_source_output(opset13.constant(values).output(0))

    return change


def _layer(findings: Findings) -> str:
    assert findings.first is not None
    return findings.first.layer


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_correct_model_accuses_nothing(irs: Irs, precision: str) -> None:
    comparison = irs.compare(irs.export(precision=precision), precision)
    names = [layer.name for layer in comparison.layers]
    heads = [name for name in names if name in ("first", "second")]
    assert len(heads) == 2  # OpenVINO may order what does not depend on each other
    assert names == [
        "stem",
        "block.conv1 + block.bn1",
        "block.relu (call 1 of 2)",
        "block.conv2 + block.bn2",
        "block.relu (call 2 of 2)",
        "inverted.conv.0 + inverted.conv.1",
        "inverted.conv.2",
        "inverted",
        "pool",
        *heads,
        "output a",
        "output b",
    ]
    assert comparison.unmatched == []
    findings = comparison.search(Limit.of(precision), 10**9, 3)
    assert findings.first is None and findings.complete
    assert not any("wrong value" in note for note in findings.notes)


def test_a_correct_int8_model_accuses_nothing(
    irs: Irs, small: Any, quantize: Any, tmp_path: Path
) -> None:
    path = irs.export(
        quantize(small, small.onnx, tmp_path / "q.onnx"), passes=[{"quantize": "int8"}]
    )
    findings = irs.debug(path, limit="int8")
    assert findings.first is None
    assert {"stem", "first", "second"} <= {report.layer for report in findings.series}


@pytest.mark.parametrize("name", ["stem.weight", "inverted.conv.0.weight", "first.weight"])
def test_a_scaled_weight(irs: Irs, name: str) -> None:
    findings = irs.debug(irs.edit(irs.export(), _times(1.01, name)))
    assert _layer(findings).split(" + ")[0] == name.removesuffix(".weight")


def test_a_dropped_bias(irs: Irs) -> None:
    def drop(operations: dict[str, Any]) -> None:
        add = next(
            operation
            for name, operation in operations.items()
            if f"{name}/WithoutBiases" in operations
        )
        for user in add.output(0).get_target_inputs():
            user.replace_source_output(add.input_value(0))

    assert _layer(irs.debug(irs.edit(irs.export(), drop))) == "stem"


def test_relu6_that_became_relu(irs: Irs) -> None:
    from openvino import opset13

    def replace(operations: dict[str, Any]) -> None:
        clamp = next(
            operation
            for operation in operations.values()
            if operation.get_type_name() in ("Minimum", "Clamp")
        )
        source = clamp.input_value(0 if clamp.get_type_name() == "Clamp" else 1)
        relu = opset13.relu(source, name=clamp.get_friendly_name())
        for user in clamp.output(0).get_target_inputs():
            user.replace_source_output(relu.output(0))

    assert _layer(irs.debug(irs.edit(irs.export(), replace))) == "inverted.conv.2"


@pytest.mark.parametrize(
    ("scale", "layer"),
    [("stem.weight_scale", "stem"), ("conv2d_scale", "stem"), ("add_66_scale", "inverted")],
)
def test_an_int8_scale_off_by_a_power_of_two(
    irs: Irs, small: Any, quantize: Any, tmp_path: Path, scale: str, layer: str
) -> None:
    """A scale of weights, or of a layer's value, which is compared after the dequantizer."""
    path = irs.export(
        quantize(small, small.onnx, tmp_path / "q.onnx"), passes=[{"quantize": "int8"}]
    )
    findings = irs.debug(irs.edit(path, _times(8, scale)), limit="int8")
    assert _layer(findings) == layer


def test_values_are_those_of_the_model(irs: Irs, small: Any) -> None:
    taps = irs.compare(irs.export()).taps
    relu = next(node for node in taps.graph.nodes if node.op == "Relu")
    values = taps.read(small.inputs, [relu.value, relu.inputs[0], relu.value])
    np.testing.assert_array_equal(values[relu.value], np.maximum(values[relu.inputs[0]], 0))


def test_a_model_that_does_not_run(irs: Irs, small: Any) -> None:
    taps = irs.compare(irs.export()).taps
    with pytest.raises(ArtifactError, match="OpenVINO cannot run the graph"):
        taps.read({"image": small.inputs["image"][:, :2]}, taps.graph.outputs)
    assert not taps.runs_to({"image": small.inputs["image"][:, :2]}, 0)
    assert taps.runs_to({"image": small.inputs["image"][:1]}, len(taps.graph.nodes) - 1)


def test_an_ir_without_notes_is_matched_by_its_weights(irs: Irs) -> None:
    path = irs.export()
    text = path.read_text(encoding="utf-8")
    assert "<burnish>" in text
    start, end = text.index("<burnish>"), text.index("</burnish>")
    path.write_text(text[:start] + text[end + len("</burnish>") :], encoding="utf-8")
    assert _layer(irs.debug(irs.edit(path, _times(1.01, "stem.weight")))) == "stem"


@pytest.mark.usefixtures("own_imports")
def test_a_quantized_artifact(quantized_build: Path, small_recipe: Path, tmp_path: Path) -> None:
    """Quantized by Burnish, run by its own session: no layer is blamed, and all are compared."""
    folder = shutil.copytree(quantized_build / "openvino-int8", tmp_path / "openvino-int8")
    shutil.copy(quantized_build / REFERENCE_FILE, tmp_path / REFERENCE_FILE)
    result = debug(
        DebugRequest(
            folder, tmp_path / REFERENCE_FILE, source_of(load_recipe(small_recipe)), 10**9, 3
        )
    )
    assert (result.format, result.precision, result.first) == ("openvino", "int8", None)
    assert {"0 + 1", "3 + 4", "8", "output logits"} <= {report.layer for report in result.series}
    assert any("this judges the graph" in note for note in result.notes)
