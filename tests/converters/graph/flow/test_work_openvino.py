"""The layers that OpenVINO executes: their kinds, multiply-adds and precisions, in a real model."""

from __future__ import annotations

import numpy as np
import openvino
from openvino import opset13

from converters.graph.flow.work_openvino import computing_layers
from runtimes.engines.openvino.layers import ExecutedLayer, executed_layers


def weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def model() -> openvino.Model:
    """Convolve a picture of 8x8 pixels, then mix its rows by a product with themselves."""
    x = opset13.parameter([1, 3, 8, 8], np.float32, name="x")
    ends = ([1, 1], [0, 0], [0, 0], [1, 1])
    features = opset13.convolution(x, weight(4, 3, 3, 3), *ends, name="conv")
    rows = opset13.reshape(features, np.array([4, 36]), False)
    hidden = opset13.matmul(rows, weight(36, 5), False, False, name="layer")
    biased = opset13.relu(opset13.add(hidden, weight(1, 5)))
    scores = opset13.matmul(biased, biased, False, True, name="scores")
    return openvino.Model([opset13.softmax(scores, 1)], [x], "model")


def test_each_layer_is_listed_once_with_its_multiply_adds() -> None:
    network = model()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(network, "CPU", settings)
    layers = computing_layers(network, executed_layers(compiled, network), {"layer": "head"})
    listed = {layer.name: (layer.layer, layer.kind, layer.multiply_adds) for layer in layers}
    assert listed == {
        "conv": ("conv", "convolution", 4 * 36 * 27),
        "layer": ("head", "linear", 4 * 36 * 5),
        "scores": ("scores", "product", 4 * 4 * 5),
    }
    assert {layer.precision for layer in layers} == {"fp32"}


def test_a_layer_that_no_operation_is_known_for_is_listed_all_the_same() -> None:
    network = model()
    strange = ExecutedLayer("FullyConnected", ("made up",), ("fp32",))
    [layer] = computing_layers(network, [strange], {})
    assert (layer.name, layer.kind, layer.multiply_adds) == ("made up", "linear", None)
