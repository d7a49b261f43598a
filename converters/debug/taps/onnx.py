"""Values inside an ONNX graph, read by ONNX Runtime with its graph optimizations off.

Off, since a fused kernel has no inner values. What is judged is the graph, not a kernel that an engine makes
of it; where the graph is right and the engine is not, `burnish debug` says so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from converters.debug.match.graph import Graph, Node
from converters.debug.match.kinds import kind_of_operator
from converters.debug.taps.onnx_forms import clamped, decoders, plain_name
from converters.graph.names import scopes as scopes_of
from runtimes.errors import ArtifactError
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import onnx

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_REPEATED = re.compile(r"_\d+$")  # what the TorchScript exporter puts behind a module that runs again


class OnnxTaps:
    """Reads any value of the graph by adding it to the outputs of a copy in memory."""

    def __init__(self, path: Path, paths: Collection[str], example: Arrays) -> None:
        """Read the graph.

        Args:
            path: the ONNX file; weights beside it are left where they are.
            paths: the module paths of the eager model, so that no other name is taken for one.
            example: inputs that tell the shape of every value.
        """
        import onnx

        self._model = onnx.load(str(path), load_external_data=False)
        self._folder = path.resolve().parent
        self._decoders = decoders(self._model.graph)
        self.notes = ["values were read with ONNX Runtime's graph optimizations off: this judges the graph"]
        nodes = list(nodes_of(self._model.graph, paths))
        outputs = [value.name for value in self._model.graph.output]
        self.graph = Graph(nodes, outputs)
        self.graph = Graph(self._shaped(nodes, example), outputs)

    def read(self, inputs: Arrays, values: Sequence[str]) -> Arrays:
        """The values by name, in float, from one run. Raises ArtifactError where the graph does not run."""
        used = [node for value in dict.fromkeys(values) for node in self._decoders.get(value, ())]
        names = [self._plain(value) for value in values]
        found = self._run(self._with_outputs(names, used), inputs, names)
        return {value: found[self._plain(value)] for value in values}

    def runs_to(self, inputs: Arrays, index: int) -> bool:
        """Whether the nodes up to this one run, whatever sizes the graph declares for its inputs."""
        value = self.graph.nodes[index].outputs[0]
        part = self._with_outputs([value])
        del part.graph.node[next(i + 1 for i, node in enumerate(part.graph.node) if value in node.output) :]
        del part.graph.value_info[:]
        for given in part.graph.input:
            for size in given.type.tensor_type.shape.dim:
                size.Clear()
        try:
            self._run(part, inputs, [value])
        except ArtifactError:
            return False
        return True

    def _plain(self, value: str) -> str:
        return plain_name(value) if value in self._decoders else value

    def _with_outputs(self, values: Sequence[str], more: Sequence[onnx.NodeProto] = ()) -> onnx.ModelProto:
        import onnx

        tapped = onnx.ModelProto()
        tapped.CopyFrom(self._model)
        tapped.graph.node.extend(more)
        del tapped.graph.output[:]
        # Without a type: ONNX Runtime infers it.
        tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(values))
        return tapped

    def _run(self, model: onnx.ModelProto, inputs: Arrays, values: Sequence[str]) -> Arrays:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4  # an error is raised too
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Nothing is timed here: idle threads shall not spin beside torch's.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.add_session_config_entry("session.model_external_initializers_file_folder_path", str(self._folder))
        names = list(dict.fromkeys(values))
        try:
            engine = onnxruntime.InferenceSession(
                model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
            )
            return dict(zip(names, engine.run(names, inputs), strict=True))
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise ArtifactError(f"ONNX Runtime cannot run the graph: {error}") from error

    def _shaped(self, nodes: Sequence[Node], example: Arrays) -> list[Node]:
        """The nodes with the shapes of their values at the sizes of the example."""
        import onnx

        asked = {node.value: f"burnish shape {number}" for number, node in enumerate(nodes) if node.value}
        shapes = [node for value in asked for node in self._decoders.get(value, ())]
        shapes += [onnx.helper.make_node("Shape", [self._plain(value)], [name]) for value, name in asked.items()]
        names = list(asked.values())
        found = self._run(self._with_outputs(names, shapes), example, names)
        return [
            replace(node, shape=tuple(int(size) for size in found[asked[node.value]])) if node.value else node
            for node in nodes
        ]


def nodes_of(graph: onnx.GraphProto, paths: Collection[str]) -> Iterator[Node]:
    """The nodes of the main graph; what is computed from constants alone counts as a constant."""
    varying = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    positive = clamped(graph)
    for number, node in enumerate(graph.node):
        inputs = tuple(name for name in dict.fromkeys(_reads(node)) if name in varying)
        if not inputs:
            continue
        outputs = tuple(name for name in node.output if name)
        varying.update(outputs)
        scopes = scopes_of({entry.key: entry.value for entry in node.metadata_props})
        path = next((one for one in _paths(node, scopes) if one in paths), None)
        if node.op_type in _QUANTIZERS:
            path = None  # named after the value that it rounds, it is no part of the module that makes that
        name = node.name or f"{node.op_type} {number}"
        fused = "relu" if outputs[0] in positive else _fused(node)
        yield Node(name, node.op_type, inputs, outputs, outputs[0], None, path, _origin(node, scopes), fused)


def _fused(node: onnx.NodeProto) -> str:
    """What one of ONNX Runtime's fused operators computes last: an activation, or the sum with a fourth input."""
    text = next((one.s for one in node.attribute if one.name == "activation"), b"")
    if text:
        return kind_of_operator(text.decode())
    own = node.domain.startswith("com.microsoft") and node.op_type in ("FusedConv", "Conv")
    return "add" if own and len(node.input) > 3 else ""


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node takes, also from inside the branches of an If or the body of a Loop."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            for inner in body.node:
                yield from _reads(inner)


def _paths(node: onnx.NodeProto, scopes: Sequence[str]) -> Iterator[str]:
    """What may be the node's module path: metadata, the name that the TorchScript exporter gives, weights."""
    if len(scopes) > 1:
        yield scopes[-2]
        return
    parts = node.name.split("/")[1:-1]
    yield _joined(parts)
    yield _joined([_REPEATED.sub("", part) for part in parts])
    for name in node.input:
        yield name.rpartition(".")[0]


def _joined(parts: Sequence[str]) -> str:
    """/layer1/layer1.0/conv1/Conv: a part repeats the path before it where a Sequential holds the module."""
    path = ""
    for part in parts:
        path = part if not path or part.startswith(f"{path}.") else f"{path}.{part}"
    return path


def _origin(node: onnx.NodeProto, scopes: Sequence[str]) -> str:
    """What tells the calls of one module apart."""
    return scopes[-1] if scopes else node.name.rpartition("/")[0]
