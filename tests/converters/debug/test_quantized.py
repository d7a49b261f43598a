"""Real int8 graphs: QDQ pairs by ONNX Runtime's quantizer, per channel, biases in int32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import QuantType

from converters.debug.compare import Findings
from converters.debug.match.fuse import last_of_each
from converters.debug.match.layer import Layer

SYMMETRIC = {  # TensorRT's requirements: clamps stay, biases stay float
    "activation_type": QuantType.QInt8,
    "extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "per channel": {},
    "per tensor": {"per_channel": False, "weight_type": QuantType.QUInt8},
    "symmetric": SYMMETRIC,
}


@pytest.fixture(scope="module")
def graphs(
    photo: Any, quantize: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The photo net, quantized in each way."""
    folder = tmp_path_factory.mktemp("quantized")
    return {
        name: quantize(photo, photo.onnx, folder / f"{name}.onnx", **options)
        for name, options in VARIANTS.items()
    }


def _added(findings: Findings) -> dict[str, float]:
    return {report.layer: report.added for report in findings.series}


def _computing(model: Any) -> list[Any]:
    return [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]


def _scale_of(model: Any, value: str) -> Any:
    """Return the scale with which a value is dequantized."""
    maker = next(node for node in model.graph.node if value in node.output)
    return next(tensor for tensor in model.graph.initializer if tensor.name == maker.input[1])


def _times(tensor: Any, factor: float) -> None:
    values = (numpy_helper.to_array(tensor) * factor).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values), tensor.name))


def _strip(model: Any) -> None:
    """Remove the metadata, and all telling names."""
    names: dict[str, str] = {}
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
        del node.metadata_props[:]
        for values in (node.input, node.output):
            for at, name in enumerate(values):
                if name and name not in kept:
                    values[at] = names.setdefault(name, f"v{len(names)}")
    for tensor in model.graph.initializer:
        tensor.name = names.setdefault(tensor.name, f"v{len(names)}")
    del model.graph.value_info[:]


@pytest.mark.parametrize("stripped", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_correct_graph_names_none(
    photo: Any, graphs: Any, edit: Any, variant: str, stripped: bool
) -> None:
    path = edit(graphs[variant], _strip) if stripped else graphs[variant]
    findings = photo.debug(path, precision="int8")
    assert findings.first is None and findings.notes == []
    assert {"conv1 + bn1", "act1", "conv2 + bn2", "head", "twin"} <= set(_added(findings))
    assert min(report.sqnr_db for report in findings.series) > 15
    assert (
        findings.adders(1)[0].added > 1e-3
    )  # the report shows whose the rounding to eight bits is


@pytest.mark.parametrize("stripped", [False, True])
@pytest.mark.parametrize(
    ("number", "layer"), list(enumerate(["conv1 + bn1", "conv2 + bn2", "head", "twin"]))
)
@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_weights_scale_that_is_off_by_a_power_of_two(
    photo: Any, graphs: Any, edit: Any, number: int, layer: str, factor: float, stripped: bool
) -> None:
    def change(model: Any) -> None:
        _times(_scale_of(model, _computing(model)[number].input[1]), factor)
        if stripped:
            _strip(model)

    findings = photo.debug(edit(graphs["per channel"], change), precision="int8")
    right = photo.debug(graphs["per channel"], precision="int8")
    assert _added(findings)[layer] > 10 * _added(right)[layer]
    assert findings.adders(1)[0].layer == layer
    if (
        findings.first is None
    ):  # within the gate: the fault is in the table, and beyond the limit in a note
        assert (
            next(report for report in findings.series if report.layer.startswith("output")).sqnr_db
            >= 10
        )
    else:
        assert findings.first.layer == layer and not findings.first.blameless


def test_an_activations_scale_belongs_to_the_layer_before(
    photo: Any, graphs: Any, edit: Any
) -> None:
    """The rounded value of a layer is the input of all others: it saturates there."""

    def change(model: Any) -> None:
        _times(_scale_of(model, _computing(model)[1].input[0]), 0.125)

    findings = photo.debug(edit(graphs["symmetric"], change), precision="int8")
    assert findings.first is not None and findings.first.layer == "act1"
    assert any(
        "it ends at" in text and "its scale is too small" in text for text in findings.first.looks
    )


def test_the_inputs_scale_is_no_layers_fault(photo: Any, graphs: Any, edit: Any) -> None:
    """The quantizer before the first convolution: the input of that is wrong."""

    def change(model: Any) -> None:
        _times(_scale_of(model, _computing(model)[0].input[0]), 0.0625)

    findings = photo.debug(edit(graphs["per channel"], change), precision="int8")
    assert (
        findings.first is not None
        and findings.first.layer == "conv1 + bn1"
        and findings.first.blameless
    )
    assert any(node.startswith("QuantizeLinear") for node in findings.first.through)


def test_a_quantizer_that_replaces_an_activation_without_a_module(photo: Any, graphs: Any) -> None:
    """torch.relu after bn2 is gone, its quantizer starts at zero: bn2 is compared before that."""
    series = {
        report.layer: report
        for report in photo.debug(graphs["per channel"], precision="int8").series
    }
    assert series["conv2 + bn2"].op == "Conv" and series["conv2 + bn2"].sqnr_db > 15
    model = onnx.load(str(graphs["per channel"]))
    assert not any(node.op_type == "Relu" for node in model.graph.node)


def test_only_a_clamp_at_zero_is_an_activation() -> None:
    layer = Layer("conv", ("conv", 0), (2,), nodes=(3, 5), made_by=(3, 3))
    raw, rounded = np.array([-1.0, 2.0]), np.array([-1.0, 1.9])
    assert last_of_each(layer, [raw, rounded], raw) == [1]
    assert last_of_each(layer, [raw, np.maximum(rounded, 0)], raw) == [0]
    assert last_of_each(layer, [np.abs(raw), np.abs(rounded)], np.abs(raw)) == [1]


def test_beyond_the_limit_inside_and_within_it_outside_is_noted(
    photo: Any, graphs: Any, edit: Any
) -> None:
    def change(model: Any) -> None:
        _times(_scale_of(model, _computing(model)[2].input[1]), 2.0)  # in front of a softmax

    findings = photo.debug(edit(graphs["symmetric"], change), precision="int8")
    assert findings.first is None
    note = "further from the truth than the limit, while the outputs made of them are within it"
    assert findings.notes == [f"{note}: head"]
    assert findings.adders(1)[0].layer == "head"


@pytest.fixture(scope="module")
def quantized_resnet(
    resnet: Any, quantize: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return quantize(resnet, resnet.onnx, tmp_path_factory.mktemp("quantized_resnet") / "int8.onnx")


def test_a_quantized_resnet(resnet: Any, quantized_resnet: Path, edit: Any) -> None:
    """Quantizers replace all ReLUs; an addition in place lies before each second one."""
    findings, comparison = (
        resnet.debug(quantized_resnet, precision="int8"),
        resnet.compare(quantized_resnet),
    )
    assert findings.first is None and findings.notes == [] and comparison.unmatched == []
    assert not any(node.op == "Relu" for node in comparison.taps.graph.nodes)

    def change(model: Any) -> None:
        conv = next(
            node for node in _computing(model) if node.input[1].startswith("layer2.1.conv2")
        )
        _times(_scale_of(model, conv.input[1]), 2.0)

    broken = resnet.debug(edit(quantized_resnet, change), precision="int8")
    assert broken.first is not None and broken.first.layer == "layer2.1.conv2 + layer2.1.bn2"


@pytest.fixture
def offline(
    photo: Any, graphs: Any, optimize: Callable[..., Path]
) -> Iterator[Callable[..., Findings]]:
    """Debug a quantized graph that ONNX Runtime has optimized offline, to integer kernels."""

    def debug(path: Path, level: str) -> Findings:
        findings: Findings = photo.debug(optimize(path, level), precision="int8")
        return findings

    yield debug


@pytest.mark.parametrize("level", ["extended", "all"])
def test_integer_kernels_of_a_correct_graph(offline: Any, graphs: Any, level: str) -> None:
    """Their values are integers, with the channels last under `all`; both are decoded."""
    findings = offline(graphs["per channel"], level)
    assert findings.first is None and findings.notes == []
    series = {report.layer: report for report in findings.series}
    assert series["conv1 + bn1 + act1"].op == "QLinearConv"
    assert min(report.sqnr_db for report in findings.series) > 15


@pytest.mark.parametrize("level", ["extended", "all"])
def test_a_wrong_scale_among_integer_kernels(
    offline: Any, graphs: Any, edit: Any, level: str
) -> None:
    def change(model: Any) -> None:
        _times(_scale_of(model, _computing(model)[3].input[1]), 2.0)

    findings = offline(edit(graphs["per channel"], change), level)
    assert (
        findings.first is not None
        and findings.first.layer == "twin"
        and not findings.first.blameless
    )
