"""Layers of a QDQ graph that OpenVINO does not fuse, from the model as its CPU plugin executes it.

The plugin's layers list the operations of the model that each of them computes. A layer that only
quantizes and dequantizes, and gives floats, was fused with nothing: its readers compute in float.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from converters.graph.unfused.report import Unfused

_INTEGERS = ("u8", "i8")
_FLOATS = ("f32", "bf16", "f16")
_WEIGHTED = (
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "GroupConvolutionBackpropData",
    "MatMul",
)


@dataclass(frozen=True)
class _Layer:
    """A layer as it is executed.

    Attributes:
        name, kind: the plugin's.
        gives: the type of its result.
        operations: the names of the model's operations that it computes.
        reads: the names of the layers that it reads.
    """

    name: str
    kind: str
    gives: str
    operations: tuple[str, ...]
    reads: tuple[str, ...]


def find_unfused_in_openvino(
    compiled: Any, model: Any, modules: Mapping[str, str]
) -> list[Unfused]:
    """Return the layers of a compiled model that read dequantized values and compute in float.

    Layers with float weights are not among them, since they stay float on purpose, nor are the
    model's inputs and outputs.

    Args:
        compiled: the model as a session compiles it.
        model: the model before it is compiled.
        modules: the module path of each of its operations, by name.
    """
    operations = {operation.get_friendly_name(): operation for operation in model.get_ops()}
    pairs = set(_pairs(model))
    layers = list(map(_read, compiled.get_runtime_model().get_ordered_ops()))
    unfused = {}
    for layer in _readers(_unfused_pairs(layers, pairs), layers):
        names = [name for name in layer.operations if name not in pairs]
        kept_float = any(_has_float_weight(operations.get(name), pairs) for name in names)
        if layer.kind == "Output" or not names or kept_float:
            continue
        path = next((modules[name] for name in names if modules.get(name)), names[0])
        unfused[layer.name] = Unfused(path, layer.kind, f"it is executed in {layer.gives}")
    return list(unfused.values())


def _read(layer: Any) -> _Layer:
    info = layer.get_rt_info()
    names = str(info["originalLayersNames"].value).split(",")
    sources = []
    for port in layer.inputs():
        sources.append(port.get_source_output().get_node().get_friendly_name())
    return _Layer(
        name=layer.get_friendly_name(),
        kind=str(info["layerType"].value),
        gives=str(info["outputPrecisions"].value),
        operations=tuple(filter(None, names)),
        reads=tuple(sources),
    )


def _unfused_pairs(layers: list[_Layer], pairs: set[str]) -> list[_Layer]:
    """Return the layers that only quantize and dequantize, and give floats."""
    unfused = []
    for layer in layers:
        only_pairs = bool(layer.operations) and pairs.issuperset(layer.operations)
        if only_pairs and layer.gives in _FLOATS:
            unfused.append(layer)
    return unfused


def _readers(sources: list[_Layer], layers: list[_Layer]) -> Iterator[_Layer]:
    """Yield the layers that read the outputs of `sources`, also after a change of layout."""
    readers: dict[str, list[_Layer]] = defaultdict(list)
    for layer in layers:
        for name in layer.reads:
            readers[name].append(layer)
    pending = list(sources)
    while pending:
        for reader in readers[pending.pop(0).name]:
            if reader.kind == "Reorder":
                pending.append(reader)
            else:
                yield reader


def _pairs(model: Any) -> Iterator[str]:
    """Yield the names of the operations that quantize or dequantize a computed value."""
    for operation in model.get_ops():
        kind = operation.get_type_name()
        is_convert = kind == "Convert"
        if kind == "FakeQuantize" or (is_convert and _type(operation.output(0)) in _INTEGERS):
            yield operation.get_friendly_name()
        elif is_convert and _type(operation.input_value(0)) in _INTEGERS:
            yield from _dequantization(operation)


def _dequantization(convert: Any) -> Iterator[str]:
    """Yield the names of a dequantization's operations.

    They are a Convert, a Subtract if there is a zero point, and a Multiply.
    """
    following = {"Convert": ("Subtract", "Multiply"), "Subtract": ("Multiply",)}
    current = convert
    while current is not None:
        yield current.get_friendly_name()
        kinds = following.get(current.get_type_name(), ())
        users = [port.get_node() for port in current.output(0).get_target_inputs()]
        current = next((user for user in users if user.get_type_name() in kinds), None)


def _has_float_weight(operation: Any, pairs: set[str]) -> bool:
    """Whether an operation is a layer whose weight no dequantization computes."""
    if operation is None or operation.get_type_name() not in _WEIGHTED:
        return False
    weight = operation.input_value(1).get_node()
    while weight.get_type_name() in ("Reshape", "Transpose"):
        weight = weight.input_value(0).get_node()
    return weight.get_friendly_name() not in pairs


def _type(port: Any) -> str:
    return str(port.get_element_type().get_type_name())
