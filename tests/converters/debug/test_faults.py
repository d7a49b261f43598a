"""Faults put into correct artifacts: debug names the layer of each, and none without a fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from converters.debug import search
from converters.debug.judge import Limit
from tests.converters.debug.models import net

Edit = Callable[[Path, Callable[[Any], None]], Path]
TINY = 1  # bytes: every layer in a run of its own


def _initializer(model: Any, name: str, change: Callable[[Any], Any]) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))


def _node(model: Any, op: str, reads: str = "") -> Any:
    return next(
        node
        for node in model.graph.node
        if node.op_type == op and (not reads or reads in node.input)
    )


def _scale(name: str) -> Callable[[Any], None]:
    return lambda model: _initializer(
        model, name, lambda values: (values * 1.01).astype(np.float32)
    )


def _swap(name: str) -> Callable[[Any], None]:
    return lambda model: _initializer(
        model, name, lambda values: values[[1, 0, *range(2, len(values))]]
    )


def _drop_bias(name: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        del _node(model, "Conv", name).input[2]

    return change


def _relu_for_clip(model: Any) -> None:
    clip = _node(model, "Clip")
    clip.op_type = "Relu"
    del clip.input[1:]


def _softmax_after_a(model: Any) -> None:
    maker = next(node for node in model.graph.node if "a" in node.output)
    maker.output[0] = "before softmax"
    model.graph.node.append(helper.make_node("Softmax", ["before softmax"], ["a"], axis=-1))


def _swap_outputs(model: Any) -> None:
    for node in model.graph.node:
        renamed = [{"a": "b", "b": "a"}.get(name, name) for name in node.output]
        del node.output[:]
        node.output.extend(renamed)


def _scale_residual(model: Any) -> None:
    add = _node(model, "Add")
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1.01), "factor"))
    position = list(model.graph.node).index(add)
    model.graph.node.insert(
        position, helper.make_node("Mul", [add.input[1], "factor"], ["scaled"], name="extra")
    )
    add.input[1] = "scaled"


FOLDED = "block.conv2 + block.bn2"
ONNX_FAULTS = {
    "a weight scaled by 1.01": (_scale("block.conv2.weight"), FOLDED),
    "two channels swapped": (_swap("block.conv1.weight"), "block.conv1 + block.bn1"),
    "a bias dropped": (_drop_bias("block.conv2.weight"), FOLDED),
    "ReLU6 replaced by ReLU": (_relu_for_clip, "inverted.conv.2"),
    "softmax at the end": (_softmax_after_a, "output a"),
    "outputs swapped": (_swap_outputs, "output a"),
    "a head's weight scaled": (_scale("second.weight"), "second"),
    "a residual scaled": (_scale_residual, "block.relu (call 2 of 2)"),
}


@pytest.mark.parametrize("fault", ONNX_FAULTS)
def test_names_the_layer_in_onnx(small: Any, edit: Edit, fault: str) -> None:
    change, layer = ONNX_FAULTS[fault]
    path = edit(small.onnx, change)
    findings = small.debug(path)
    assert findings.first is not None
    assert findings.first.layer == layer
    assert findings.first.error_before < 1e-5 < findings.first.error_after
    wrong = {layer, "output b"} if fault == "outputs swapped" else {layer}
    assert {report.layer for report in findings.adders(len(wrong))} == wrong
    single_runs = small.debug(path, budget=TINY)
    assert single_runs.first is not None and single_runs.first.layer == layer
    assert single_runs.runs > findings.runs == 1


def test_layers_after_a_fault_add_nothing(small: Any, edit: Edit) -> None:
    """They pass on a large error, but add none: only the two wrong layers matter."""

    def change(model: Any) -> None:
        _scale("block.conv1.weight")(model)
        _scale("second.weight")(model)

    findings = small.debug(edit(small.onnx, change))
    assert {report.layer for report in findings.series if report.added > 1e-4} == {
        "block.conv1 + block.bn1",
        "second",
    }
    assert sum(report.error_after > 1e-4 for report in findings.series) > 8


def test_names_what_lies_between_layers(small: Any, edit: Edit) -> None:
    """The addition of a residual block belongs to no module: the report names the nodes."""
    findings = small.debug(edit(small.onnx, _scale_residual))
    assert "Mul extra" in findings.first.through
    assert any(node.startswith("Add ") for node in findings.first.through)
    assert findings.first.inputs == ("stem", FOLDED)


@pytest.mark.parametrize("artifact", ["onnx", "torchscript"])
def test_a_clean_artifact_names_none(small: Any, artifact: str) -> None:
    findings = small.debug(getattr(small, artifact))
    assert findings.first is None
    assert findings.notes == []
    assert not any(report.diverges for report in findings.series)
    assert max(report.noise for report in findings.series) < 8


def _scaled(model: Any) -> None:
    model.block.conv2.weight.data *= 1.01


def _swapped(model: Any) -> None:
    model.block.conv1.weight.data = model.block.conv1.weight.data[[1, 0, 2, 3, 4, 5, 6, 7]]


def _unbiased(model: Any) -> None:
    model.stem.bias = None


def _relu(model: Any) -> None:
    model.inverted.conv[2] = nn.ReLU()


class _Softmax(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = self.model(image)
        return a.softmax(-1), b


class _Swapped(_Softmax):
    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = self.model(image)
        return b, a


TORCH_FAULTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a weight scaled by 1.01": (_scaled, FOLDED),
    "two channels swapped": (_swapped, "block.conv1 + block.bn1"),
    "a bias dropped": (_unbiased, "stem"),
    "ReLU6 replaced by ReLU": (_relu, "inverted.conv.2"),
    "softmax at the end": (_Softmax, "output a"),
    "outputs swapped": (_Swapped, "output a"),
}


@pytest.mark.parametrize("method", ["script", "trace"])
@pytest.mark.parametrize("fault", TORCH_FAULTS)
def test_names_the_layer_in_torchscript(
    small: Any, write: Callable[..., Path], fault: str, method: str
) -> None:
    change, layer = TORCH_FAULTS[fault]
    model = net()
    path = write((change(model) or model).eval(), "torchscript", method=method)
    findings = small.debug(path)
    assert findings.first is not None
    assert findings.first.layer == layer
    assert findings.first.error_before < 1e-5 < findings.first.error_after
    single_runs = small.debug(path, budget=TINY)
    assert single_runs.first is not None and single_runs.first.layer == layer


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_batch_norm_in_training_mode(small: Any, write: Callable[..., Path], exporter: str) -> None:
    model: Any = net()
    with (
        torch.no_grad()
    ):  # what its statistics become when one batch passes through it in training mode
        norm = model.block.bn1
        norm.running_mean += 0.05
    findings = small.debug(write(model, "onnx", exporter=exporter))
    assert findings.first is not None and findings.first.layer == "block.conv1 + block.bn1"


def test_not_a_number_is_named(small: Any, edit: Edit) -> None:
    def overflow(model: Any) -> None:
        _initializer(model, "block.conv2.weight", lambda values: values * np.float32(np.inf))

    findings = small.debug(edit(small.onnx, overflow))
    assert findings.first is not None and findings.first.layer == FOLDED
    assert findings.first.error_after == float("inf")
    assert [report.layer for report in findings.series if report.added == float("inf")] == [FOLDED]


RESNET_FAULTS = {
    "layer2.0.conv1 + layer2.0.bn1": _scale("layer2.0.conv1.weight"),
    "layer3.0.downsample.0 + layer3.0.downsample.1": _drop_bias("layer3.0.downsample.0.weight"),
}


def test_a_branch_of_resnet(resnet: Any, edit: Edit) -> None:
    layer = "layer3.0.downsample.0 + layer3.0.downsample.1"
    findings = resnet.debug(edit(resnet.onnx, RESNET_FAULTS[layer]))
    assert findings.first is not None and findings.first.layer == layer


@pytest.mark.parametrize("artifact", ["onnx", "torchscript"])
def test_a_clean_resnet(resnet: Any, artifact: str) -> None:
    path = getattr(resnet, artifact)
    findings, comparison = resnet.debug(path), resnet.compare(path)
    assert findings.first is None and findings.notes == []
    assert comparison.unmatched == []
    names = [report.layer for report in findings.series]
    assert names[0] == "conv1 + bn1" and names[-2:] == ["fc", "output logits"]
    assert {"layer1.0.relu (call 1 of 2)", "layer1.0.relu (call 2 of 2)", "avgpool"} <= set(names)


def test_a_small_budget_finds_the_same(resnet: Any, edit: Edit) -> None:
    """Three megabytes are less than all layers need: they are measured in several runs."""
    path = edit(resnet.onnx, RESNET_FAULTS["layer2.0.conv1 + layer2.0.bn1"])
    plenty, little = resnet.debug(path), resnet.debug(path, budget=3_000_000)
    assert plenty.first is not None and plenty.first.layer == "layer2.0.conv1 + layer2.0.bn1"
    assert little.runs > plenty.runs == 1
    assert little.first == plenty.first
    assert little.complete and little.series == plenty.series


@pytest.mark.parametrize("fault", ONNX_FAULTS)
def test_a_search_names_the_same_layer(
    small: Any, edit: Edit, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If measuring all layers takes too many runs, only some are measured."""
    monkeypatch.setattr(search, "FULL_RUNS", 1)
    change, layer = ONNX_FAULTS[fault]
    findings = small.debug(edit(small.onnx, change), budget=TINY)
    assert findings.first is not None and findings.first.layer == layer


def _strip(model: Any) -> None:
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
        del node.metadata_props[:]
    for number, tensor in enumerate(model.graph.initializer):
        for node in model.graph.node:
            renamed = [f"w{number}" if name == tensor.name else name for name in node.input]
            del node.input[:]
            node.input.extend(renamed)
        tensor.name = f"w{number}"


def test_without_any_name_order_and_shape_tell(small: Any, edit: Edit) -> None:
    def change(model: Any) -> None:
        _scale("block.conv2.weight")(model)
        _strip(model)

    findings = small.debug(edit(small.onnx, change))
    assert findings.first is not None and findings.first.layer == FOLDED


def test_a_layer_without_a_value_is_reported(small: Any, edit: Edit) -> None:
    """The activation of a block was fused into something unlike any other layer."""

    def fuse(model: Any) -> None:
        clip = _node(model, "Clip")
        after = next(node for node in model.graph.node if clip.output[0] in node.input)
        after.input[list(after.input).index(clip.output[0])] = clip.input[0]
        model.graph.node.remove(clip)

    comparison = small.compare(edit(small.onnx, fuse))
    assert [(call.name, call.why) for call in comparison.unmatched] == [
        ("inverted.conv.2", "no value of its own in the artifact: removed, fused or folded")
    ]
    assert "inverted" in [layer.name for layer in comparison.layers]


def test_another_number_of_calls_is_reported(small: Any, edit: Edit) -> None:
    """After a pass drops one of two calls, it is unknown which is left."""

    def drop(model: Any) -> None:
        relu = _node(model, "Relu")
        after = next(node for node in model.graph.node if relu.output[0] in node.input)
        after.input[list(after.input).index(relu.output[0])] = relu.input[0]
        model.graph.node.remove(relu)

    comparison = small.compare(edit(small.onnx, drop))
    assert {call.name: call.why for call in comparison.unmatched} == {
        "block.relu (call 1 of 2)": "the module ran 2 times, its nodes form 1 runs",
        "block.relu (call 2 of 2)": "the module ran 2 times, its nodes form 1 runs",
    }
    findings = comparison.search(Limit.of("fp32"), 10**9, 1)
    assert findings.first is not None and findings.first.layer == FOLDED  # its input is wrong


def test_float16_is_judged_by_sqnr(small: Any, edit: Edit) -> None:
    """Rounding to eleven bits is 60 to 70 dB below the signal: fp16's limit allows it, not fp32's."""

    def round_weights(model: Any) -> None:
        for name in ("stem.weight", "block.conv1.weight", "block.conv2.weight"):
            _initializer(model, name, lambda values: values.astype(np.float16).astype(np.float32))

    path = edit(small.onnx, round_weights)
    assert small.debug(path, precision="fp16").first is None
    exact = small.debug(path, precision="fp32")
    assert exact.first is not None and exact.first.layer == "stem"
    broken = edit(
        path, lambda model: _initializer(model, "block.conv2.weight", lambda values: values * 2)
    )
    lossy = small.debug(broken, precision="fp16")
    assert lossy.first is not None and lossy.first.layer == FOLDED
