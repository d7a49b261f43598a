"""Typical faults of converters, put into the exported model: debug names the layer and its looks.

The artifacts are real exports. If no layer is wrong, debug says that none is to blame, and names
the nodes before the first layer that gets a wrong input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from torch import nn

from burnish.report.debug import details, headline
from converters.debug.compare import Findings
from converters.debug.judge import Limit
from converters.debug.result import DebugResult
from converters.debug.stops import find_stop
from tests.converters.debug.models import photo_net

Change = Callable[[Any], None]


def words(findings: Findings) -> str:
    """Return the text that debug prints above its table."""
    result = DebugResult(
        "made",
        "onnx",
        "fp32",
        "m",
        "noise 0",
        "",
        findings.first,
        [],
        findings.series,
        True,
        [],
        1,
        findings.notes,
    )
    return "\n".join([headline(result), *details(result.first)])


def _scale_weight(model: Any) -> None:
    model.conv2.weight.mul_(1.01)


def _drop_bias(model: Any) -> None:
    model.head.bias.zero_()


def _swap_channels(model: Any) -> None:
    model.conv2.weight.copy_(model.conv2.weight[[1, 0, *range(2, 16)]].clone())
    model.conv2.bias.copy_(model.conv2.bias[[1, 0, *range(2, 16)]].clone())


def _relu_for_relu6(model: Any) -> None:
    model.act1 = nn.ReLU()


def _wrong_mean(model: Any) -> None:
    model.mean.copy_(torch.tensor([0.485, 0.456, 0.406])[:, None, None])


def _wrong_std(model: Any) -> None:
    model.std.copy_(torch.tensor([0.229, 0.224, 0.225])[:, None, None])


def _channels_last(model: Any) -> None:
    plain = model.prepared
    # The pixels of an NHWC buffer read as NCHW.
    model.prepared = lambda image: plain(image.permute(0, 2, 3, 1).reshape(image.shape))


def _nearest(model: Any) -> None:
    model.resize = nn.Upsample(size=(14, 14), mode="nearest")


def _dropout_on(model: Any) -> None:
    model.dropout.train()


def _swap_outputs(model: Any) -> None:
    plain = model.forward
    model.forward = lambda image: plain(image)[::-1]


def _swap_heads(model: Any) -> None:
    model.head, model.twin = model.twin, model.head


def _softmax_twice(model: Any) -> None:
    plain = model.forward

    def forward(self: Any, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        probabilities, twin = plain(image)
        return torch.softmax(probabilities, 1), twin

    model.forward = MethodType(forward, model)


# The fault, the layer that is named, and the text of the report.
LAYERS: dict[Change, tuple[str, str]] = {
    _scale_weight: ("conv2 + bn2", "each channel is off by a factor and a constant"),
    _drop_bias: ("head", "each channel is off by a constant: a bias or a mean"),
    _swap_channels: ("conv2 + bn2", "of 16 channels only 0, 1 differ"),
    _relu_for_relu6: ("act1", "it goes above 6, where the truth ends: a clamp is missing"),
    _nearest: ("resize", "is the first layer that diverges"),
    _dropout_on: ("dropout", "two runs differ: it is random, as a dropout that was left on"),
    _swap_outputs: ("output probabilities", "it holds what output twin should hold"),
    _swap_heads: ("head", "it holds what twin should hold"),
    _softmax_twice: (
        "output probabilities",
        "the fault may also be in nodes before it that belong to no layer",
    ),
}


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
@pytest.mark.parametrize("fault", LAYERS, ids=lambda fault: fault.__name__)
def test_names_the_layer(
    photo: Any, write_photo: Callable[..., Path], fault: Change, format: str
) -> None:
    model, (layer, text) = photo_net(), LAYERS[fault]
    with torch.no_grad():
        fault(model)
    options = (
        {"method": "trace", "optimize_for_inference": False} if format == "torchscript" else {}
    )
    findings = photo.debug(write_photo(model, format, **options))
    assert findings.first is not None
    assert findings.first.layer == layer
    assert not findings.first.blameless
    assert f"{layer} is the first layer that diverges" in words(findings) and text in words(
        findings
    )


# The fault, the layer whose input is wrong, the layers before it, a node that computes the input,
# and the text of the report.
BETWEEN: dict[Change, tuple[str, tuple[str, ...], str, str]] = {
    _wrong_mean: (
        "conv1 + bn1",
        ("resize",),
        "sub",
        "each channel is off by a constant: a bias or a mean",
    ),
    _wrong_std: (
        "conv1 + bn1",
        ("resize",),
        "div",
        "each channel is off by a factor and a constant",
    ),
    _channels_last: (
        "resize",
        (),
        "reshape",
        "the right values in another order: channels or axes (NHWC, NCHW)",
    ),
}


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
@pytest.mark.parametrize("fault", BETWEEN, ids=lambda fault: fault.__name__)
def test_no_layer_is_to_blame_for_what_lies_before_it(
    photo: Any, write_photo: Callable[..., Path], fault: Change, format: str
) -> None:
    model, (layer, inputs, node, text) = photo_net(), BETWEEN[fault]
    with torch.no_grad():
        fault(model)
    options = (
        {"method": "trace", "optimize_for_inference": False} if format == "torchscript" else {}
    )
    findings = photo.debug(write_photo(model, format, **options))
    assert findings.first is not None and findings.first.blameless
    assert (findings.first.layer, findings.first.inputs) == (layer, inputs)
    assert any(node in step.lower() for step in findings.first.through)
    assert findings.first.error_entering > 0.01 > findings.first.error_before
    printed = words(findings)
    assert (
        f"no layer is to blame on the probe 'noise 0': the input of {layer} is wrong already"
        in printed
    )
    assert text in printed and f"between {' and '.join(inputs) or 'the input'} and it" in printed


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_a_layer_after_correct_preprocessing_is_to_blame(
    photo: Any, write_photo: Callable[..., Path], format: str
) -> None:
    """The nodes before it have no truth of their own, but the layer's input has: it is right."""
    model = photo_net()
    model.conv1.weight.data *= 1.01
    findings = photo.debug(write_photo(model, format))
    assert findings.first is not None and findings.first.layer == "conv1 + bn1"
    assert not findings.first.blameless and findings.first.error_entering < 1e-5
    assert "it adds the remainder; before it: " in words(findings)


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_a_correct_artifact_names_none(photo: Any, format: str) -> None:
    findings = photo.debug(getattr(photo, format))
    assert findings.first is None and findings.notes == []
    assert "no layer diverges" in words(findings)


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_a_batch_folded_into_a_slice(
    photo: Any, write_photo: Callable[..., Path], format: str
) -> None:
    """Constant folding of a batch-shaped tensor leaves fewer rows after it, without an error."""
    model = photo_net()
    model.pool = _Cut(model.pool)
    findings = photo.debug(write_photo(model, format))
    assert findings.first is not None and findings.first.layer in ("pool", "head")
    assert findings.first.layer == "pool" or findings.first.blameless
    assert findings.first.error_after == float("inf") > findings.first.error_before
    assert "[2, 16" in words(findings) and "[4, 16" in words(findings)


class _Cut(nn.Module):
    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(x)[:2]


@pytest.mark.parametrize(
    ("format", "place"),
    [
        ("onnx", "in resize (Resize "),
        ("torchscript", "before head (aten::add"),
    ],  # ONNX: sizes baked at two already
)
def test_a_batch_folded_into_the_graph_stops_it(
    photo: Any, write_photo: Callable[..., Path], format: str, place: str
) -> None:
    """Rows for a batch of two are added before the heads: that node runs at no other size."""
    model = photo_net()
    plain, rows = model.dropout.forward, torch.zeros(2, 16, 1, 1)
    model.dropout.forward = lambda x: plain(x) + rows
    options = {"method": "trace"} if format == "torchscript" else {}
    two = {name: values[:2] for name, values in photo.inputs.items()}
    path = write_photo(model, format, rows=2, **options)
    comparison = replace(photo, inputs=two).compare(path)
    assert comparison.search(Limit.of("fp32"), 10**9, 1).first is None
    report = find_stop(comparison, photo.inputs)
    assert report is not None and not report.runs
    assert find_stop(comparison, two) is None
    result = DebugResult("made", "onnx", "fp32", "m", "size 4", "", report, [], [], True, [], 1, [])
    assert f"the graph stops on the probe 'size 4', {place}" in headline(result)


def _graph_in_training(model: nn.Module, path: Path, example: torch.Tensor) -> Path:
    """Export a model in training mode, as other exporters do."""
    if path.suffix == ".pt":
        traced = torch.jit.trace(model, (example,), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(path))  # type: ignore[no-untyped-call]
        return path
    torch.onnx.export(
        model,
        (example,),
        str(path),
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        input_names=["image"],
        output_names=["probabilities", "twin"],
    )
    return path


@pytest.mark.parametrize("name", ["m.onnx", "m.pt"])
def test_batch_norm_left_in_training_mode(photo: Any, tmp_path: Path, name: str) -> None:
    model = photo_net()
    model.bn1.train()
    model.bn1.momentum = 0.0  # the statistics that inference would use stay right
    findings = photo.debug(
        _graph_in_training(model, tmp_path / name, torch.from_numpy(photo.inputs["image"]))
    )
    assert findings.first is not None and findings.first.layer == "bn1"
    assert "a factor and a constant: weights or a normalization's statistics" in words(findings)


@pytest.mark.parametrize("name", ["m.onnx", "m.pt"])
def test_a_dropout_that_others_leave_on(photo: Any, tmp_path: Path, name: str) -> None:
    model = photo_net()
    model.dropout.train()
    findings = photo.debug(
        _graph_in_training(model, tmp_path / name, torch.from_numpy(photo.inputs["image"]))
    )
    assert findings.first is not None and findings.first.layer == "dropout"
    assert "two runs differ" in words(findings)
