"""Operators of a QDQ graph that ONNX Runtime does not fuse, from the graph that it optimized."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from converters.errors import ExportError
from converters.graph.flow.follow import MOVERS
from converters.graph.names import metadata_of, module_path, value_names
from converters.graph.qdq import COMPUTE
from converters.graph.unfused.report import Unfused
from runtimes.machine.machine import Cpu

if TYPE_CHECKING:
    import onnx

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_READ_NO_VALUE = ("Shape", "Size")
# The others are only fused with a QuantizeLinear after them.
_WITH_FLOAT_RESULT = ("MatMul", "Gemm")
_FLOAT_INPUT = "it also reads values that are not quantized"
_FLOAT_RESULT = "its result is not quantized"
_NO_KERNEL = "there is no integer kernel for it"


def find_unfused_in_onnxruntime(path: Path, cpu: Cpu) -> list[Unfused]:
    """Return the operators of a QDQ graph that compute in float after a DequantizeLinear.

    Layers with float weights are not among them, since they stay float on purpose, nor are the
    graph's inputs and outputs.

    Args:
        path: a graph that was lowered.
        cpu: the target. The fusions are those of that CPU, whatever machine this runs on.

    Raises ExportError if ONNX Runtime cannot load the graph.
    """
    graph = _Graph(_optimized(path, cpu))
    paths = _module_paths(path)
    unfused = []
    for node in graph.nodes:
        if graph.computes_in_float(node):
            labels = [paths[name] for name in (node.name, *node.output) if paths.get(name)]
            layer = labels[0] if labels else node.name
            unfused.append(Unfused(layer, node.op_type, graph.reason(node)))
    return unfused


def _optimized(path: Path, cpu: Cpu) -> onnx.GraphProto:
    """Return the graph with all of ONNX Runtime's fusions, without its weights.

    The highest level would also change layouts, and with them the names of operators, and fuse no
    pair.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    # The default depends on the CPU of this machine: int8 activations on Arm only.
    options.add_session_config_entry("session.qdqisint8allowed", "1" if cpu == "arm" else "0")
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", "weights"
    )
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, "optimized.onnx"))
        try:
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise ExportError(f"ONNX Runtime cannot load the lowered graph: {error}") from error
        return onnx.load(options.optimized_model_filepath, load_external_data=False).graph


def _module_paths(path: Path) -> dict[str, str]:
    """Return the module path of each node of the graph, by its name and by its outputs' names."""
    import onnx

    paths: dict[str, str] = {}
    for node in onnx.load(str(path), load_external_data=False).graph.node:
        path_of_node = module_path(metadata_of(node))
        paths.update(dict.fromkeys((node.name, *node.output), path_of_node))
    return paths


class _Graph:
    """A graph with the producer and the readers of each value."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = list(graph.node)
        self._constants = set(value_names(graph.initializer))
        typed = (*graph.value_info, *graph.input, *graph.output)
        self._types = {value.name: value.type.tensor_type.elem_type for value in typed}
        self._makers: dict[str, onnx.NodeProto] = {}
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            self._makers.update(dict.fromkeys(node.output, node))
            for name in node.input:
                self._readers[name].append(node)

    def computes_in_float(self, node: onnx.NodeProto) -> bool:
        """Whether a node takes dequantized values, and its weight is not float on purpose."""
        if node.op_type in (*_PAIR, *MOVERS, *_READ_NO_VALUE):
            return False
        is_layer = node.op_type.removeprefix("Fused") in COMPUTE
        kept_float = is_layer and node.input[1] in self._constants
        return not kept_float and any(map(self._dequantized, node.input))

    def reason(self, node: onnx.NodeProto) -> str:
        """Return why ONNX Runtime fuses no pair with a node, as far as its neighbours show."""
        if any(self._is_float(name) and not self._dequantized(name) for name in node.input):
            return _FLOAT_INPUT
        readers = self._readers[node.output[0]]
        quantized = bool(readers) and all(reader.op_type == "QuantizeLinear" for reader in readers)
        return _NO_KERNEL if quantized or node.op_type in _WITH_FLOAT_RESULT else _FLOAT_RESULT

    def _dequantized(self, name: str) -> bool:
        """Whether a DequantizeLinear computes a value, also before operators that only move it."""
        maker = self._makers.get(name)
        while maker is not None and maker.op_type in MOVERS:
            maker = self._makers.get(maker.input[0])
        return maker is not None and maker.op_type == "DequantizeLinear"

    def _is_float(self, name: str) -> bool:
        """Whether a value is computed and of floats; a value without a type counts as one."""
        import onnx

        if not name or name in self._constants:
            return False
        return bool(self._types.get(name, onnx.TensorProto.FLOAT) == onnx.TensorProto.FLOAT)
