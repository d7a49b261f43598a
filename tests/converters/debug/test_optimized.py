"""Graphs changed after the export: cast to float16, or optimized offline by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from converters.debug.truth import Eager
from converters.graph.cast import cast_graph
from tests.converters.debug.models import make_subject, net, photo_net

LEVELS = ["basic", "extended", "all"]


def _scale(name: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        values = numpy_helper.to_array(tensor) * np.float32(1.01)
        tensor.CopyFrom(numpy_helper.from_array(values, name))

    return change


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["small", "photo", "resnet"])
def test_an_optimized_graph_names_none(
    request: pytest.FixtureRequest, optimize: Callable[..., Path], name: str, level: str
) -> None:
    subject: Any = request.getfixturevalue(name)
    findings = subject.debug(optimize(subject.onnx, level))
    assert findings.first is None and findings.notes == []
    assert max(report.noise for report in findings.series) < 16


@pytest.mark.parametrize("level", ["extended", "all"])
@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_fused_layers_are_compared_as_one(
    small: Any, write: Callable[..., Path], optimize: Callable[..., Path], exporter: str, level: str
) -> None:
    """Conv, BatchNorm and activation in one node; `all` adds the addition and blocks of channels."""
    findings = small.debug(optimize(write(net(), "onnx", exporter=exporter), level))
    names = [report.layer for report in findings.series]
    assert "block.conv1 + block.bn1 + block.relu (call 1 of 2)" in names
    assert "inverted.conv.0 + inverted.conv.1 + inverted.conv.2" in names
    last = "block.conv2 + block.bn2"
    assert (f"{last} + block.relu (call 2 of 2)" if level == "all" else last) in names
    assert findings.first is None and findings.notes == []


FAULTS = {
    "stem.weight": "stem",
    "block.conv1.weight": "block.conv1 + block.bn1 + block.relu (call 1 of 2)",
    "block.conv2.weight": "block.conv2 + block.bn2",
    "inverted.conv.0.weight": "inverted.conv.0 + inverted.conv.1 + inverted.conv.2",
    "second.weight": "second",
}


@pytest.mark.parametrize("level", ["extended", "all"])
@pytest.mark.parametrize("weight", FAULTS)
def test_a_fault_in_a_fused_layer(
    small: Any, edit: Any, optimize: Callable[..., Path], weight: str, level: str
) -> None:
    layer = FAULTS[weight]
    if level == "all" and weight == "block.conv2.weight":
        layer += " + block.relu (call 2 of 2)"
    findings = small.debug(optimize(edit(small.onnx, _scale(weight)), level))
    assert findings.first is not None and findings.first.layer == layer
    assert not findings.first.blameless
    assert findings.adders(1)[0].layer == layer


@pytest.mark.parametrize("level", ["extended", "all"])
def test_preprocessing_before_a_fused_layer(
    photo: Any, write_photo: Callable[..., Path], optimize: Callable[..., Path], level: str
) -> None:
    model = photo_net()
    model.mean.add_(0.05)
    findings = photo.debug(optimize(write_photo(model, "onnx"), level))
    assert findings.first is not None and findings.first.layer == "conv1 + bn1 + act1"
    assert findings.first.blameless and findings.first.inputs == ("resize",)


def test_an_activation_that_is_no_module_hides_its_layer(
    photo: Any, optimize: Callable[..., Path]
) -> None:
    """torch.relu is fused into conv2: its value is not bn2's result, and nothing is reported."""
    comparison = photo.compare(optimize(photo.onnx, "extended"))
    hidden = [call for call in comparison.unmatched if call.name in ("conv2", "bn2")]
    assert hidden and all("too, which is no module" in call.why for call in hidden)


@pytest.mark.parametrize(
    ("level", "following"), [("extended", ""), ("all", " + layer3.1.relu (call 2 of 2)")]
)
def test_a_fault_in_a_fused_resnet(
    resnet: Any, edit: Any, optimize: Callable[..., Path], level: str, following: str
) -> None:
    """Every block has two ReLUs of one module, of which one or both are gone."""
    findings = resnet.debug(optimize(edit(resnet.onnx, _scale("layer3.1.conv2.weight")), level))
    assert (
        findings.first is not None
        and findings.first.layer == f"layer3.1.conv2 + layer3.1.bn2{following}"
    )
    assert findings.adders(1)[0] == findings.first


class _Residual(nn.Module):
    """A residual block that ends in its addition."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


class _Gates(nn.Module):
    """With an activation that is two operators of ONNX."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.act = nn.Conv2d(3, 16, 3, padding=1), nn.SiLU()
        self.block, self.last = _Residual(), nn.Conv2d(16, 16, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.last(self.block(self.act(self.stem(image))))


@pytest.fixture(scope="module")
def gates(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.manual_seed(0)
    return make_subject(_Gates().eval(), ["y"], 12, tmp_path_factory.mktemp("gates"))


@pytest.mark.parametrize("level", LEVELS)
def test_an_addition_that_is_fused_into_a_convolution(
    gates: Any, edit: Any, optimize: Callable[..., Path], level: str
) -> None:
    """Its value is the block's, not the BatchNorm's; SiLU is the product, not the sigmoid in it."""
    findings = gates.debug(optimize(gates.onnx, level))
    assert findings.first is None and findings.notes == []
    names = [report.layer for report in findings.series]
    block = (
        ["block.inner.0 + block.inner.1 + block"]
        if level == "all"
        else ["block.inner.0 + block.inner.1", "block"]
    )
    assert set(block) <= set(names)
    broken = gates.debug(optimize(edit(gates.onnx, _scale("block.inner.0.weight")), level))
    assert broken.first is not None and broken.first.layer == block[0]


def test_integer_kernels_of_a_gated_net(
    gates: Any, quantize: Callable[..., Path], optimize: Callable[..., Path], tmp_path: Path
) -> None:
    """The quantizer and the optimization have removed all names: the product counts as SiLU."""
    findings = gates.debug(
        optimize(quantize(gates, gates.onnx, tmp_path / "int8.onnx"), "extended"), precision="int8"
    )
    assert findings.first is None and findings.notes == []
    assert {report.layer: report.op for report in findings.series}["act"] == "QLinearMul"


def _cast(path: Path, target: Path) -> Path:
    model = onnx_ir.load(path)
    cast_graph(model, "fp16")
    onnx_ir.save(model, target)
    return target


def test_a_correct_float16_graph_names_none(photo: Any, tmp_path: Path) -> None:
    findings = photo.debug(_cast(photo.onnx, tmp_path / "half.onnx"), precision="fp16")
    assert findings.first is None and findings.notes == []
    assert {report.dtype for report in findings.series if report.op == "Conv"} == {"float16"}


def test_a_fault_in_a_float16_graph(photo: Any, edit: Any, tmp_path: Path) -> None:
    def change(model: Any) -> None:
        for _ in range(10):
            _scale("conv2.weight")(model)

    findings = photo.debug(
        _cast(edit(photo.onnx, change), tmp_path / "half.onnx"), precision="fp16"
    )
    assert findings.first is not None and findings.first.layer == "conv2 + bn2"


def test_an_overflow_of_float16_is_named(
    photo: Any, write_photo: Callable[..., Path], tmp_path: Path
) -> None:
    """The model is right: its activations exceed 65504 in one layer, and are small after it."""
    model = photo_net()
    with torch.no_grad():
        model.bn2.weight.mul_(1e5)
        model.head.weight.mul_(1e-5)
        model.twin.weight.mul_(1e-5)
    overflowing = replace(photo, eager=Eager(model, photo.outputs, exact=True))
    exact = write_photo(model, "onnx")
    assert overflowing.debug(exact).first is None
    findings = overflowing.debug(_cast(exact, tmp_path / "half.onnx"), precision="fp16")
    assert findings.first is not None and findings.first.layer == "conv2 + bn2"
    assert findings.first.error_after == float("inf") > findings.first.error_before
    text = findings.first.looks[0]
    assert "values are Inf or NaN" in text and "float16 holds up to 6.55e+04" in text
