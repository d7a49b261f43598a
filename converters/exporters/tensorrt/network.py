"""What the layers of a TensorRT network compute in: precision is counted before anything is built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from converters.graph.unfused.tensorrt import node_names

_PRECISIONS = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8", "FP8": "fp8"}
_COMPUTE = {"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM", "ATTENTION_INPUT"}


def count_layers(network: Any, trt: Any) -> dict[str, dict[str, int]]:
    """Layers by type, and by the precision of their output: all that output floats, and those that compute."""
    operators, every, compute = Counter[str](), Counter[str](), Counter[str]()
    found = [network.get_layer(index) for index in range(network.num_layers)]
    integers = _dequantized(found, trt)
    for layer in found:
        if layer.type == trt.LayerType.CONSTANT or not layer.num_outputs:
            continue
        operators[layer.type.name] += 1
        kind = _PRECISIONS.get(layer.get_output_type(0).name)
        if kind is None:
            continue
        every[kind] += 1
        if layer.type.name in _COMPUTE:
            compute["int8" if _reads_integers(layer, integers) else kind] += 1
    return {
        "operators": dict(operators.most_common()),
        "layers": dict(every),
        "compute_layers": dict(compute),
    }


def integer_layers(network: Any, trt: Any) -> dict[str, str]:
    """The types of the computing layers whose inputs and weights are both dequantized, by their ONNX nodes."""
    found = [network.get_layer(index) for index in range(network.num_layers)]
    integers = _dequantized(found, trt)
    computing = [one for one in found if one.type.name in _COMPUTE and _reads_integers(one, integers)]
    return {name: one.type.name for one in computing for name in node_names(one.metadata)}


def _dequantized(layers: Sequence[Any], trt: Any) -> set[str]:
    """Tensors that come out of a dequantization, also through layers that only move or choose values."""
    found: set[str] = set()
    for layer in layers:
        moves = _moves(layer, trt) and layer.get_input(0).name in found
        if moves or layer.type == trt.LayerType.DEQUANTIZE:
            found.add(layer.get_output(0).name)
    return found


def _moves(layer: Any, trt: Any) -> bool:
    if layer.type == trt.LayerType.POOLING:
        return bool(_pooling(layer, trt) == trt.PoolingType.MAX)
    return bool(layer.type == trt.LayerType.SHUFFLE)


def _pooling(layer: Any, trt: Any) -> Any:
    """The type of a pooling; the binding gives every layer its base class, which does not know it."""
    base = layer.__class__
    layer.__class__ = trt.IPoolingLayer
    kind = layer.type
    layer.__class__ = base
    return kind


def _reads_integers(layer: Any, integers: set[str]) -> bool:
    """Whether a layer's input and weight are both dequantized: TensorRT computes it with integers."""
    names = [layer.get_input(index).name for index in range(min(2, layer.num_inputs))]
    return len(names) == 2 and all(name in integers for name in names)
