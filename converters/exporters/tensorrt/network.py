"""A TensorRT network: read from a graph, its layers counted before anything is built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from converters.errors import ExportError
from converters.graph.flow.shapes import load_at_sizes
from converters.graph.flow.work import computing_nodes
from converters.graph.unfused.tensorrt import node_names
from runtimes.engines.tensorrt import quiet_logger
from runtimes.precision.judge import ComputingLayer
from runtimes.precision.table import Kind
from runtimes.spec import Dims, best_sizes

_PRECISIONS = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8", "FP8": "fp8"}
_COMPUTE = {"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM", "ATTENTION_INPUT"}


def parse_network(trt: Any, builder: Any, path: Path, names: Mapping[str, str]) -> Any:
    """Parse an ONNX file into a strongly typed network. Raises ExportError as `parse` does."""
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parse(trt, network, path, names)
    return network


def parse(trt: Any, network: Any, path: Path, names: Mapping[str, str]) -> None:
    """Parse an ONNX file into `network`.

    Raises ExportError with the parser's message, node and layer.
    """
    parser = trt.OnnxParser(network, quiet_logger(trt))
    if parser.parse_from_file(str(path)):
        return
    lines = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        name = error.node_name()
        layer = f" (layer {names[name]})" if names.get(name) else ""
        lines.append(
            f"  {error.node_operator()} node {name!r}{layer}: {error.code().name}: {error.desc()}"
        )
    reasons = "\n".join(lines or ["  it does not say why"])
    raise ExportError(f"TensorRT's parser refuses the graph:\n{reasons}")


def count_layers(network: Any, trt: Any) -> dict[str, dict[str, int]]:
    """Count layers by type, and by output precision: all with float outputs, and computing ones."""
    operators, precisions, compute = Counter[str](), Counter[str](), Counter[str]()
    layers = _layers(network)
    integers = _dequantized(layers, trt)
    for layer in layers:
        if layer.type == trt.LayerType.CONSTANT or not layer.num_outputs:
            continue
        operators[layer.type.name] += 1
        precision = _PRECISIONS.get(layer.get_output_type(0).name)
        if precision is None:
            continue
        precisions[precision] += 1
        if layer.type.name in _COMPUTE:
            compute["int8" if _reads_integers(layer, integers) else precision] += 1
    return {
        "operators": dict(operators.most_common()),
        "layers": dict(precisions),
        "compute_layers": dict(compute),
    }


def computing_layers(network: Any, trt: Any, graph: Path, dims: Dims) -> list[ComputingLayer]:
    """Return the computing layers of a network that was parsed from the ONNX file `graph`."""
    nodes = {}
    for work in computing_nodes(load_at_sizes(graph, best_sizes(dims))):
        nodes[str(work.node.name)] = work
    layers, integers = _layers(network), _dequantized(_layers(network), trt)
    seen: set[str] = set()
    result = []
    for layer in layers:
        if layer.type.name not in _COMPUTE or not layer.num_outputs:
            continue
        precision = _PRECISIONS.get(layer.get_output_type(0).name)
        if precision is None:
            continue
        if _reads_integers(layer, integers):
            precision = "int8"
        name = next((name for name in node_names(layer.metadata) if name in nodes), None)
        if name is None:
            kind: Kind = "convolution" if "CONVOLUTION" in layer.type.name else "product"
            result.append(ComputingLayer(layer.name, layer.name, kind, precision))
            continue
        work = nodes[name]
        # A recurrent layer becomes a loop of several products.
        amount = 0 if name in seen else work.multiply_adds
        seen.add(name)
        result.append(ComputingLayer(name, work.layer, work.kind, precision, amount))
    return result


def integer_layers(network: Any, trt: Any) -> dict[str, str]:
    """Return the types of layers that compute with integers, by ONNX node."""
    layers = _layers(network)
    integers = _dequantized(layers, trt)
    types: dict[str, str] = {}
    for layer in layers:
        kind = layer.type.name
        if kind in _COMPUTE and _reads_integers(layer, integers):
            types.update(dict.fromkeys(node_names(layer.metadata), kind))
    return types


def _layers(network: Any) -> list[Any]:
    return list(map(network.get_layer, range(network.num_layers)))


def _dequantized(layers: Sequence[Any], trt: Any) -> set[str]:
    """Return the results of dequantizations, also after layers that only move or choose values."""
    tensors: set[str] = set()
    for layer in layers:
        moves = _moves(layer, trt) and layer.get_input(0).name in tensors
        if moves or layer.type == trt.LayerType.DEQUANTIZE:
            tensors.add(layer.get_output(0).name)
    return tensors


def _moves(layer: Any, trt: Any) -> bool:
    if layer.type == trt.LayerType.POOLING:
        return bool(_pooling(layer, trt) == trt.PoolingType.MAX)
    return bool(layer.type == trt.LayerType.SHUFFLE)


def _pooling(layer: Any, trt: Any) -> Any:
    """Return the type of a pooling, which the binding's base class does not know."""
    base = layer.__class__
    layer.__class__ = trt.IPoolingLayer
    kind = layer.type
    layer.__class__ = base
    return kind


def _reads_integers(layer: Any, integers: set[str]) -> bool:
    """Return whether input and weight are both dequantized: then TensorRT uses integers."""
    if layer.num_inputs < 2:
        return False
    return layer.get_input(0).name in integers and layer.get_input(1).name in integers
