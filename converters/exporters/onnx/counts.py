"""Contents of an ONNX graph: its nodes by operator, and the precision of its layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.graph.flow.follow import MOVERS, before
from converters.graph.flow.shapes import load_at_sizes
from converters.graph.flow.work import GraphWork, computing_nodes
from runtimes.precision.judge import ComputingLayer, Work
from runtimes.spec import Dims, best_sizes

if TYPE_CHECKING:
    import onnx_ir as ir

_COMPUTE_IN_INTEGERS = {
    "QLinearConv",
    "QLinearMatMul",
    "QGemm",
    "QAttention",
    "ConvInteger",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
}


@dataclass(frozen=True)
class Contents:
    """Nodes of a graph by operator, and its computing layers."""

    operators: Mapping[str, int]
    layers: tuple[ComputingLayer, ...]

    @property
    def compute_layers(self) -> dict[str, int]:
        """The number of computing layers by precision."""
        return dict(Counter(layer.precision for layer in self.layers))

    def for_build(self, precision: str) -> dict[str, Any]:
        """Return entries for the manifest of a graph that was asked to compute in `precision`."""
        return {
            "operators": dict(self.operators),
            "compute_layers": self.compute_layers,
            "work": Work.of(self.layers, precision).for_build(),
        }


def count_nodes(path: Path, dims: Dims | None = None, fused: bool = False) -> Contents:
    """Count nodes by operator, and list computing nodes with the precision of their weight.

    Args:
        path: of an ONNX file.
        dims: the multiply-adds are those of the best sizes.
        fused: an engine has already fused its integer operators, so that the other nodes compute in
            float.
    """
    model = load_at_sizes(path, best_sizes(dims or {}))
    operators = Counter(node.op_type for node in model.graph)
    layers = []
    for work in computing_nodes(model):
        precision = _precision(work, fused)
        layers.append(
            ComputingLayer(
                str(work.node.name), work.layer, work.kind, precision, work.multiply_adds
            )
        )
    return Contents(dict(operators.most_common()), tuple(layers))


def _precision(work: GraphWork, fused: bool) -> str:
    """Return the precision that a node computes in."""
    import onnx_ir as ir

    node = work.node
    if node.op_type == "MatMulNBits":
        return f"int{node.attributes['bits'].as_int()}"
    if node.op_type in _COMPUTE_IN_INTEGERS:
        return "int8"
    # An engine computes with integers if both sides are dequantized; a float weight makes it float.
    factors = node.inputs[:2]
    if not fused and all(map(_from_integers, factors)):
        return "int8"
    types = {
        ir.DataType.FLOAT: "fp32",
        ir.DataType.FLOAT16: "fp16",
        ir.DataType.BFLOAT16: "bf16",
        ir.DataType.DOUBLE: "fp64",
        ir.DataType.INT8: "int8",
        ir.DataType.UINT8: "int8",
    }
    for value in (*factors[::-1], node.outputs[0]):
        if value is not None and value.dtype is not None:
            return types.get(value.dtype, "other")
    return "unknown"


def _from_integers(value: ir.Value | None) -> bool:
    """Return whether a DequantizeLinear of bytes computes a value, also before it is moved."""
    import onnx_ir as ir

    source = before(value, MOVERS)
    producer = None if source is None else source.producer()
    if producer is None or producer.op_type != "DequantizeLinear":
        return False
    codes = producer.inputs[0]
    kind = None if codes is None else codes.dtype
    return kind in (None, ir.DataType.INT8, ir.DataType.UINT8)
