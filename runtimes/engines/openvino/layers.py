"""Layers of a compiled OpenVINO model: which operations of the model each of them computes, and how.

The plugin's names of layers are its own; a layer lists the names of the operations that it computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_EXECUTED = {
    "f32": "fp32",
    "bf16": "bf16",
    "f16": "fp16",
    "u8": "int8",
    "i8": "int8",
    "f64": "fp64",
}
_CPU_KERNELS = {
    "Convolution",
    "Deconvolution",
    "DeformableConvolution",
    "FullyConnected",
    "MatMul",
    "GatherMatmul",
    "ScaledDotProductAttention",
    "RNNCell",
    "RNNSeq",
}
# Names of the GPU plugin that differ (to_OV_type_name in its graph.cpp).
_GPU_KERNELS = {"Gemm", "scaled_dot_product_attention", "LSTM_Cell", "LSTM_Seq", "gru_seq"}
_KERNELS = _CPU_KERNELS | _GPU_KERNELS
_NO_LAYERS = {"Const", "Input", "Output", "Result"}
_CHAIN = "Subgraph"
"""A layer into which the CPU plugin fuses operations, also whole chains of matrix products."""


@dataclass(frozen=True)
class ExecutedLayer:
    """A layer as the plugin executes it.

    Attributes:
        kind: the plugin's name for it.
        operations: names of the operations of the model that it computes.
        precisions: of its convolutions and matrix products, one each; empty if it has none.
    """

    kind: str
    operations: tuple[str, ...]
    precisions: tuple[str, ...]


def executed_layers(compiled: Any, model: Any) -> list[ExecutedLayer]:
    """Return the layers of a compiled model; those fused into a chain are found by its parts.

    Args:
        compiled: the model as a session compiles it.
        model: the model before it is compiled.
    """
    products = {op.get_friendly_name() for op in model.get_ops() if op.get_type_name() == "MatMul"}
    hint = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    layers = []
    for layer in compiled.get_runtime_model().get_ops():
        facts = layer.get_rt_info()
        kind = str(facts["layerType"].value)
        if kind in _NO_LAYERS:
            continue
        executed = str(facts["runtimePrecision"].value)
        operations = tuple(str(facts["originalLayersNames"].value).split(","))
        precisions: tuple[str, ...] = ()
        if kind == _CHAIN:
            fused = sum(name in products for name in operations)
            precisions = _chain_precisions(layer, fused, executed, hint)
        elif kind in _KERNELS:
            precisions = (_EXECUTED.get(executed, executed),)
        layers.append(ExecutedLayer(kind, operations, precisions))
    return layers


def count_layers(compiled: Any, model: Any) -> dict[str, dict[str, int]]:
    """Count a compiled model's layers by type, and its computing layers by executed precision."""
    operators, compute = Counter[str](), Counter[str]()
    for layer in executed_layers(compiled, model):
        operators[layer.kind] += 1
        compute.update(layer.precisions)
    return {"operators": dict(operators.most_common()), "compute_layers": dict(compute)}


def _chain_precisions(layer: Any, fused: int, executed: str, hint: str) -> tuple[str, ...]:
    """Return the precisions of the products in a chain; the plugin reports that of the last result."""
    inputs = list(_input_precisions(layer))
    integers = min(fused, sum(constant and name in ("i8", "u8") for name, constant in inputs))
    floats = [name for name, _ in inputs if _EXECUTED.get(name, "int8") != "int8"]
    reads_bytes = any(_EXECUTED.get(name) == "int8" for name, _ in inputs)
    if _EXECUTED.get(executed) == "int8" and floats and not reads_bytes:
        executed = floats[0]  # a mask of booleans in fused attention is reported as bytes
    rest = chain_precision(executed, hint)
    return ("int8",) * integers + (rest,) * (fused - integers)


def chain_precision(executed: str, hint: str) -> str:
    """Return the precision of the float products in a chain, from its result's and the hint.

    The plugin enforces a hint of bfloat16 or float16 on the products inside of a chain, and converts
    at its ends (EnforcePrecision in nodes/subgraph.cpp), so that the result is float32.
    """
    if executed == "f32" and hint in ("bf16", "f16"):
        return _EXECUTED[hint]
    return _EXECUTED.get(executed, executed)


def _input_precisions(layer: Any) -> Iterator[tuple[str, bool]]:
    """Yield the precision of each input of a layer, and whether it is a constant."""
    for port in layer.inputs():
        facts = port.get_source_output().get_node().get_rt_info()
        yield str(facts["runtimePrecision"].value), str(facts["layerType"].value) == "Const"
