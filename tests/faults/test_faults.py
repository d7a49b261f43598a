"""No wrong verdict: real faults of converters, put into artifacts, are caught by the right gate."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from converters.exporters.job import Exported, ExportJob
from converters.exporters.onnx.counts import count_nodes
from converters.exporters.onnx.onnx import OnnxExporter, OnnxOptions
from converters.exporters.torch.torchscript import TorchScriptExporter, TorchScriptOptions
from converters.models.facts import ModelFacts, study
from runtimes.artifact.artifact import Artifact, publish
from runtimes.results import Row, Status
from runtimes.spec import DimRange, TensorSpec
from runtimes.validator.probes import synthetic_probes
from runtimes.validator.reference import Reference
from runtimes.validator.validate import Target, validate
from tests.manifests import exported_manifest

INPUTS = {"image": TensorSpec(shape=("batch", 3, 24, 24))}
DIMS = {"batch": DimRange(min=1, max=6)}


class Net(nn.Module):
    """Small, with everything that the faults below break."""

    def __init__(self) -> None:
        super().__init__()
        self.resize = nn.Upsample(size=(20, 20), mode="bilinear", align_corners=False)
        self.register_buffer("mean", torch.tensor([0.5, 0.4, 0.3])[:, None, None])
        self.register_buffer("std", torch.tensor([0.2, 0.3, 0.4])[:, None, None])
        self.conv1, self.bn1, self.act1 = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
        )
        self.conv2, self.bn2, self.act2 = (
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU6(),
        )
        self.dropout, self.pool = nn.Dropout(0.3), nn.AdaptiveAvgPool2d(2)
        self.head, self.twin = nn.Linear(64, 10), nn.Linear(64, 10)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        image = (self.resize(image) - self.mean) / self.std
        image = self.act2(self.bn2(self.conv2(self.act1(self.bn1(self.conv1(image))))))
        return torch.flatten(self.dropout(self.pool(image)), 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = self.features(image)
        return torch.softmax(self.head(rows), 1), torch.tanh(self.twin(rows))


@dataclass(frozen=True)
class Case:
    """A correct model with what judges it."""

    model: Net
    facts: ModelFacts
    reference: Reference


@pytest.fixture(scope="module")
def case() -> Case:
    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():  # statistics of a trained model, not of a fresh one
        for norm in (model.bn1, model.bn2):
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.3)
    model.eval()
    probes = synthetic_probes(INPUTS, DIMS)
    facts, reference = study(
        copy.deepcopy(model), INPUTS, DIMS, probes, ["probabilities", "twin"], None
    )
    return Case(model, facts, reference)


def judged(
    case: Case, folder: Path, exported: Exported, format: str, precision: str = "fp32"
) -> Row:
    """The verdict on files in `folder`, wrapped as an artifact."""
    manifest = exported_manifest(exported, case.facts, format, precision=precision)
    artifact = publish(folder, folder.with_name("published"), manifest)
    return validate([Target(artifact, "cpu")], case.reference, lambda device: None, budget=0)[0]


def export(case: Case, model: nn.Module, folder: Path, format: str, **job: Any) -> Exported:
    folder.mkdir()
    facts = replace(case.facts, **job)
    if format == "onnx":
        return OnnxExporter().export(ExportJob(model, facts, folder), OnnxOptions(format="onnx"))
    options = TorchScriptOptions(format="torchscript", method="trace", optimize_for_inference=False)
    return TorchScriptExporter().export(ExportJob(model, facts, folder), options)


def scale_weight(model: Net) -> None:
    model.conv2.weight.mul_(1.01)


def drop_bias(model: Net) -> None:
    model.head.bias.zero_()


def swap_channels(model: Net) -> None:
    model.conv2.weight.copy_(model.conv2.weight[[1, 0, *range(2, 16)]].clone())


def relu_for_relu6(model: Net) -> None:
    model.act1 = nn.ReLU()


def batch_norm_in_training(model: Net) -> None:
    model.bn1.train()


def wrong_mean(model: Net) -> None:
    model.mean.copy_(torch.tensor([0.485, 0.456, 0.406])[:, None, None])


def wrong_std(model: Net) -> None:
    model.std.copy_(torch.tensor([0.229, 0.224, 0.225])[:, None, None])


def channels_last(model: Net) -> None:
    plain = model.features
    # The pixels of an NHWC buffer read as NCHW.
    model.features = lambda image: plain(image.permute(0, 2, 3, 1).reshape(image.shape))


def dropout_on(model: Net) -> None:
    model.dropout.train()


def outputs_swapped(model: Net) -> None:
    model.head, model.twin = model.twin, model.head


def softmax_twice(model: Net) -> None:
    plain = model.forward
    model.forward = lambda image: (torch.softmax(plain(image)[0], 1), plain(image)[1])


def nearest_resize(model: Net) -> None:
    model.resize = nn.Upsample(size=(20, 20), mode="nearest")


FAULTS: dict[Callable[[Net], None], str] = {
    scale_weight: "parity",
    drop_bias: "parity",
    swap_channels: "parity",
    relu_for_relu6: "parity",
    batch_norm_in_training: "parity",
    wrong_mean: "parity",
    wrong_std: "parity",
    channels_last: "parity",
    outputs_swapped: "parity",
    softmax_twice: "parity",
    nearest_resize: "parity",
    dropout_on: "deterministic",
}


def faulty(case: Case, fault: Callable[[Net], None]) -> Net:
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        fault(model)
    return model


def failed_gates(row: Row) -> list[str]:
    return [result.gate for result in row.gates if result.ok is False]


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_a_correct_artifact_passes(case: Case, tmp_path: Path, format: str) -> None:
    row = judged(case, tmp_path / "a", export(case, case.model, tmp_path / "a", format), format)
    assert (row.status, row.reason) == (Status.PASSED, None)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_in_a_torchscript_artifact_is_caught(
    case: Case, tmp_path: Path, fault: Callable[[Net], None]
) -> None:
    row = judged(
        case,
        tmp_path / "a",
        export(case, faulty(case, fault), tmp_path / "a", "torchscript"),
        "torchscript",
    )
    assert row.status is Status.FAILED
    assert FAULTS[fault] in failed_gates(row)


# The ONNX exporters switch dropout and BatchNorm to inference, so those two are not possible.
@pytest.mark.parametrize(
    "fault",
    [fault for fault in FAULTS if fault not in (dropout_on, batch_norm_in_training)],
    ids=lambda fault: fault.__name__,
)
def test_a_fault_in_an_onnx_artifact_is_caught(
    case: Case, tmp_path: Path, fault: Callable[[Net], None]
) -> None:
    row = judged(
        case, tmp_path / "a", export(case, faulty(case, fault), tmp_path / "a", "onnx"), "onnx"
    )
    assert row.status is Status.FAILED
    assert failed_gates(row)[0] == FAULTS[fault]


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_a_batch_folded_into_the_graph_is_caught_at_another_size(
    case: Case, tmp_path: Path, format: str
) -> None:
    model = copy.deepcopy(case.model)
    plain = model.features
    rows = (
        torch.arange(2.0)[:, None] * 0 + 1
    )  # what constant folding leaves of a batch-shaped tensor at batch 2
    model.features = lambda image: (
        plain(image) * rows if format == "onnx" else plain(image)[: len(rows)]
    )
    static = {"dims": {"batch": DimRange(min=2, max=2)}}
    row = judged(
        case, tmp_path / "a", export(case, model, tmp_path / "a", format, **static), format
    )
    assert row.status in (Status.FAILED, Status.ERROR)
    assert failed_gates(row)[0] in ("runs", "shapes")


def quantized(case: Case, folder: Path) -> Path:
    """An int8 QDQ graph by ONNX Runtime's own quantizer, calibrated on the probes."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = iter(
                [probe.inputs for probe in case.reference.probes if probe.kind == "noise"]
            )

        def get_next(self) -> Any:
            return next(self.rows, None)

    export(case, case.model, folder, "onnx")
    target = folder.with_name("int8")
    target.mkdir()
    quantize_static(
        str(folder / "model.onnx"),
        str(target / "model.onnx"),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return target


def test_a_correct_int8_artifact_passes(case: Case, tmp_path: Path) -> None:
    folder = quantized(case, tmp_path / "a")
    exported = Exported("model.onnx", build=count_nodes(folder / "model.onnx").for_build("int8"))
    row = judged(case, folder, exported, "onnx", precision="int8")
    assert (row.status, row.reason) == (Status.PASSED, None)


def test_an_int8_scale_that_is_off_by_a_power_of_two_is_caught(case: Case, tmp_path: Path) -> None:
    folder = quantized(case, tmp_path / "a")
    model = onnx.load(folder / "model.onnx")
    conv = [node for node in model.graph.node if node.op_type == "Conv"][1]
    dequantize = next(node for node in model.graph.node if conv.input[1] in node.output)
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == dequantize.input[1])
    scale.CopyFrom(
        numpy_helper.from_array(np.asarray(numpy_helper.to_array(scale) * 2), scale.name)
    )
    onnx.save(model, folder / "model.onnx")
    exported = Exported("model.onnx", build=count_nodes(folder / "model.onnx").for_build("int8"))
    row = judged(case, folder, exported, "onnx", precision="int8")
    assert (row.status, failed_gates(row)) == (Status.FAILED, ["parity"])


def test_an_int8_artifact_that_computes_in_float32_is_caught(case: Case, tmp_path: Path) -> None:
    exported = export(case, case.model, tmp_path / "a", "onnx")
    row = judged(case, tmp_path / "a", exported, "onnx", precision="int8")
    assert (row.status, failed_gates(row)[0]) == (Status.FAILED, "precision")


def test_float16_that_overflows_is_caught(case: Case, tmp_path: Path) -> None:
    import onnx_ir

    from converters.graph.cast import cast_graph

    export(case, case.model, tmp_path / "a", "onnx")
    path = tmp_path / "a" / "model.onnx"
    graph = onnx_ir.load(path)
    cast_graph(graph, "fp16")
    onnx_ir.save(graph, path)
    model = onnx.load(path)
    weight = next(
        tensor for tensor in model.graph.initializer if tensor.name.startswith("head.weight")
    )
    with np.errstate(over="ignore"):  # what a plain astype(float16) makes of large weights
        broken = (numpy_helper.to_array(weight).astype(np.float32) * 1e7).astype(np.float16)
    weight.CopyFrom(numpy_helper.from_array(broken, weight.name))
    onnx.save(model, path)
    exported = Exported("model.onnx", build=count_nodes(path).for_build("fp16"))
    row = judged(case, tmp_path / "a", exported, "onnx", precision="fp16")
    assert (row.status, failed_gates(row)[0]) == (Status.FAILED, "finite")


def test_a_correct_float16_artifact_passes(case: Case, tmp_path: Path) -> None:
    import onnx_ir

    from converters.graph.cast import cast_graph

    export(case, case.model, tmp_path / "a", "onnx")
    graph = onnx_ir.load(tmp_path / "a" / "model.onnx")
    cast_graph(graph, "fp16")
    onnx_ir.save(graph, tmp_path / "a" / "model.onnx")
    exported = Exported(
        "model.onnx", build=count_nodes(tmp_path / "a" / "model.onnx").for_build("fp16")
    )
    row = judged(case, tmp_path / "a", exported, "onnx", precision="fp16")
    assert (row.status, row.reason) == (Status.PASSED, None)


def test_an_artifact_of_another_build_is_not_taken_for_this_one(case: Case, tmp_path: Path) -> None:
    exported = export(case, case.model, tmp_path / "a", "onnx")
    judged(case, tmp_path / "a", exported, "onnx")
    (tmp_path / "published" / "model.onnx").write_bytes(b"something else")
    row = validate(
        [Target(Artifact.open(tmp_path / "published"), "cpu")],
        case.reference,
        lambda d: None,
        budget=0,
    )[0]
    assert row.status is Status.ERROR and "changed after it was made" in str(row.reason)
