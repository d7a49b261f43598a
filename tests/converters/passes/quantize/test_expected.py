"""The error of a quantized graph itself, for the manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.passes.quantize.expected import expected_errors
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference

WEIGHT = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A product whose weights are rounded to a tenth."""
    rounded = numpy_helper.from_array(np.round(WEIGHT, 1), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    model = helper.make_model(
        helper.make_graph([node], "g", [x], [y], [rounded]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, tmp_path / "quantized.onnx")
    return tmp_path / "quantized.onnx"


@pytest.fixture
def reference() -> Reference:
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal((2, 6)).astype(np.float32) for _ in range(12)]
    probes = [Probe(f"sample {index}", {"x": x}, "data") for index, x in enumerate(inputs)]
    truth = [{"y": x.astype(np.float64) @ WEIGHT} for x in inputs]
    return Reference(probes, [{"y": np.float32(arrays["y"])} for arrays in truth], truth)


def test_the_error_is_that_of_the_rounded_weights(graph: Path, reference: Reference) -> None:
    errors, notes = expected_errors(graph, reference, integers=False)
    defect = np.round(WEIGHT, 1).astype(np.float64) - WEIGHT
    differences = [probe.inputs["x"] @ defect for probe in reference.probes]
    squares = np.square(np.concatenate(differences))
    assert notes == []
    assert errors["y"]["whole"] == pytest.approx(squares.mean(), rel=0.01)
    assert errors["y"]["axes"] == [pytest.approx(squares.mean(0).tolist(), rel=0.01)]


def test_of_a_graph_that_does_not_run_nothing_is_known_and_the_note_says_why(
    tmp_path: Path, reference: Reference
) -> None:
    (tmp_path / "quantized.onnx").write_bytes(b"no graph")
    errors, notes = expected_errors(tmp_path / "quantized.onnx", reference, integers=False)
    assert errors == {}
    assert "quantized graph" in notes[0]
