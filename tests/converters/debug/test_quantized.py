"""Real int8 graphs: quantize-dequantize pairs by ONNX Runtime's quantizer, per channel, biases in int32."""

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

SYMMETRIC = {  # what TensorRT asks for: clamps stay, biases stay float
    "activation_type": QuantType.QInt8,
    "extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "per channel": {},
    "per tensor": {"per_channel": False, "weight_type": QuantType.QUInt8},
    "symmetric": SYMMETRIC,
}


@pytest.fixture(scope="module")
def graphs(photo: Any, quantize: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The photo net, quantized in each way."""
    folder = tmp_path_factory.mktemp("quantized")
    return {
        name: quantize(photo, photo.onnx, folder / f"{name}.onnx", **options) for name, options in VARIANTS.items()
    }


def _added(found: Findings) -> dict[str, float]:
    return {one.layer: one.added for one in found.series}


def _computing(model: Any) -> list[Any]:
    return [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]


def _scale_of(model: Any, value: str) -> Any:
    """The scale by which the node that makes a value turns integers into it."""
    maker = next(node for node in model.graph.node if value in node.output)
    return next(tensor for tensor in model.graph.initializer if tensor.name == maker.input[1])


def _times(tensor: Any, factor: float) -> None:
    values = (numpy_helper.to_array(tensor) * factor).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values), tensor.name))


def _strip(model: Any) -> None:
    """No metadata, and no name that tells anything."""
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
def test_a_correct_graph_names_none(photo: Any, graphs: Any, edit: Any, variant: str, stripped: bool) -> None:
    path = edit(graphs[variant], _strip) if stripped else graphs[variant]
    found = photo.debug(path, precision="int8")
    assert found.first is None and found.notes == []
    assert {"conv1 + bn1", "act1", "conv2 + bn2", "head", "twin"} <= set(_added(found))
    assert min(one.sqnr_db for one in found.series) > 15
    assert found.adders(1)[0].added > 1e-3  # the rounding to eight bits is somebody's, and is told


@pytest.mark.parametrize("stripped", [False, True])
@pytest.mark.parametrize(("number", "layer"), list(enumerate(["conv1 + bn1", "conv2 + bn2", "head", "twin"])))
@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_weights_scale_that_is_off_by_a_power_of_two(
    photo: Any, graphs: Any, edit: Any, number: int, layer: str, factor: float, stripped: bool
) -> None:
    def change(model: Any) -> None:
        _times(_scale_of(model, _computing(model)[number].input[1]), factor)
        if stripped:
            _strip(model)

    found = photo.debug(edit(graphs["per channel"], change), precision="int8")
    right = photo.debug(graphs["per channel"], precision="int8")
    assert _added(found)[layer] > 10 * _added(right)[layer]
    assert found.adders(1)[0].layer == layer
    if found.first is None:  # within the gate: the fault is in the table, and beyond the limit in a note
        assert next(one for one in found.series if one.layer.startswith("output")).sqnr_db >= 10
    else:
        assert found.first.layer == layer and not found.first.blameless


def test_an_activations_scale_belongs_to_the_layer_before(photo: Any, graphs: Any, edit: Any) -> None:
    """What a layer is rounded to is what all others are given: it saturates there."""

    def change(model: Any) -> None:
        _times(_scale_of(model, _computing(model)[1].input[0]), 0.125)

    found = photo.debug(edit(graphs["symmetric"], change), precision="int8")
    assert found.first is not None and found.first.layer == "act1"
    assert any("it ends at" in one and "its scale is too small" in one for one in found.first.looks)


def test_the_inputs_scale_is_no_layers_fault(photo: Any, graphs: Any, edit: Any) -> None:
    """The quantizer before the first convolution: what enters that is wrong."""

    def change(model: Any) -> None:
        _times(_scale_of(model, _computing(model)[0].input[0]), 0.0625)

    found = photo.debug(edit(graphs["per channel"], change), precision="int8")
    assert found.first is not None and found.first.layer == "conv1 + bn1" and found.first.blameless
    assert any(one.startswith("QuantizeLinear") for one in found.first.through)


def test_a_quantizer_that_replaces_an_activation_without_a_module(photo: Any, graphs: Any) -> None:
    """torch.relu behind bn2 is gone, zero is the least that its quantizer knows: bn2 is compared before that."""
    series = {one.layer: one for one in photo.debug(graphs["per channel"], precision="int8").series}
    assert series["conv2 + bn2"].op == "Conv" and series["conv2 + bn2"].sqnr_db > 15
    model = onnx.load(str(graphs["per channel"]))
    assert not any(node.op_type == "Relu" for node in model.graph.node)


def test_only_a_clamp_at_zero_is_an_activation() -> None:
    layer = Layer("conv", ("conv", 0), (2,), nodes=(3, 5), made_by=(3, 3))
    raw, rounded = np.array([-1.0, 2.0]), np.array([-1.0, 1.9])
    assert last_of_each(layer, [raw, rounded], raw) == [1]
    assert last_of_each(layer, [raw, np.maximum(rounded, 0)], raw) == [0]
    assert last_of_each(layer, [np.abs(raw), np.abs(rounded)], np.abs(raw)) == [1]


def test_beyond_the_limit_inside_and_within_it_outside_is_said(photo: Any, graphs: Any, edit: Any) -> None:
    def change(model: Any) -> None:
        _times(_scale_of(model, _computing(model)[2].input[1]), 2.0)  # in front of a softmax

    found = photo.debug(edit(graphs["symmetric"], change), precision="int8")
    assert found.first is None
    said = "further from the truth than the limit, while the outputs made of them are within it"
    assert found.notes == [f"{said}: head"]
    assert found.adders(1)[0].layer == "head"


@pytest.fixture(scope="module")
def quantized_resnet(resnet: Any, quantize: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantize(resnet, resnet.onnx, tmp_path_factory.mktemp("quantized_resnet") / "int8.onnx")


def test_a_quantized_resnet(resnet: Any, quantized_resnet: Path, edit: Any) -> None:
    """Every ReLU is gone, the quantizers do their work; an addition in place lies before each second one."""
    found, comparison = resnet.debug(quantized_resnet, precision="int8"), resnet.compare(quantized_resnet)
    assert found.first is None and found.notes == [] and comparison.unmatched == []
    assert not any(node.op == "Relu" for node in comparison.taps.graph.nodes)

    def change(model: Any) -> None:
        conv = next(node for node in _computing(model) if node.input[1].startswith("layer2.1.conv2"))
        _times(_scale_of(model, conv.input[1]), 2.0)

    broken = resnet.debug(edit(quantized_resnet, change), precision="int8")
    assert broken.first is not None and broken.first.layer == "layer2.1.conv2 + layer2.1.bn2"


@pytest.fixture
def offline(photo: Any, graphs: Any, optimize: Callable[..., Path]) -> Iterator[Callable[..., Findings]]:
    """What is found in a quantized graph that ONNX Runtime has optimized offline, to integer kernels."""

    def debug(path: Path, level: str) -> Findings:
        found: Findings = photo.debug(optimize(path, level), precision="int8")
        return found

    yield debug


@pytest.mark.parametrize("level", ["extended", "all"])
def test_integer_kernels_of_a_correct_graph(offline: Any, graphs: Any, level: str) -> None:
    """Their values are integers, with the channels last under `all`; both are read as what they mean."""
    found = offline(graphs["per channel"], level)
    assert found.first is None and found.notes == []
    series = {one.layer: one for one in found.series}
    assert series["conv1 + bn1 + act1"].op == "QLinearConv"
    assert min(one.sqnr_db for one in found.series) > 15


@pytest.mark.parametrize("level", ["extended", "all"])
def test_a_wrong_scale_among_integer_kernels(offline: Any, graphs: Any, edit: Any, level: str) -> None:
    def change(model: Any) -> None:
        _times(_scale_of(model, _computing(model)[3].input[1]), 2.0)

    found = offline(edit(graphs["per channel"], change), level)
    assert found.first is not None and found.first.layer == "twin" and not found.first.blameless
