"""Values inside an ONNX graph, read by ONNX Runtime with its graph optimizations off.

Off, since a fused kernel has no inner values. This judges the graph, not the kernels that an engine
makes of it; if the graph is right and the engine is not, `burnish debug` says so.
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
from converters.graph.names import metadata_of, value_names
from converters.graph.names import scopes as scopes_of
from runtimes.errors import ArtifactError
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import onnx

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_REPEATED = re.compile(r"_\d+$")  # the TorchScript exporter's suffix of a module that runs again


class OnnxTaps:
    """A reader of any value of the graph: a copy in memory has it as an output."""

    def __init__(self, path: Path, paths: Collection[str], example: Arrays) -> None:
        """Read the graph.

        Args:
            path: the ONNX file; weights beside it are left where they are.
            paths: the module paths of the eager model, so that no other name is taken for one.
            example: inputs that determine the shape of each value.
        """
        import onnx

        self._model = onnx.load(str(path), load_external_data=False)
        self._folder = path.resolve().parent
        self._decoders = decoders(self._model.graph)
        self.notes = [
            "values were read with ONNX Runtime's graph optimizations off: this judges the graph"
        ]
        nodes = list(nodes_of(self._model.graph, paths))
        outputs = value_names(self._model.graph.output)
        self.graph = Graph(nodes, outputs)
        self.graph = Graph(self._shaped(nodes, example), outputs)

    def read(self, inputs: Arrays, values: Sequence[str]) -> Arrays:
        """Return the values by name, in float, from one run.

        Raises ArtifactError if the graph does not run.
        """
        decoding: list[onnx.NodeProto] = []
        for value in dict.fromkeys(values):
            decoding += self._decoders.get(value, ())
        names = list(map(self._plain, values))
        arrays = self._run(self._with_outputs(names, decoding), inputs, names)
        return {value: arrays[self._plain(value)] for value in values}

    def runs_to(self, inputs: Arrays, index: int) -> bool:
        """Check that the nodes up to this one run, whatever input sizes the graph declares."""
        value = self.graph.nodes[index].outputs[0]
        part = self._with_outputs([value])
        nodes = part.graph.node
        last = next(number for number, node in enumerate(nodes) if value in node.output)
        del part.graph.node[last + 1 :]
        del part.graph.value_info[:]
        for declared in part.graph.input:
            for size in declared.type.tensor_type.shape.dim:
                size.Clear()
        try:
            self._run(part, inputs, [value])
        except ArtifactError:
            return False
        return True

    def _plain(self, value: str) -> str:
        return plain_name(value) if value in self._decoders else value

    def _with_outputs(
        self, values: Sequence[str], more: Sequence[onnx.NodeProto] = ()
    ) -> onnx.ModelProto:
        """Copy the model with these values for outputs, after adding the nodes `more`."""
        import onnx

        tapped = onnx.ModelProto()
        tapped.CopyFrom(self._model)
        tapped.graph.node.extend(more)
        del tapped.graph.output[:]
        # Without a type: ONNX Runtime infers it.
        for name in dict.fromkeys(values):
            tapped.graph.output.append(onnx.ValueInfoProto(name=name))
        return tapped

    def _run(self, model: onnx.ModelProto, inputs: Arrays, values: Sequence[str]) -> Arrays:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4  # an error is raised too
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Nothing is timed here: idle threads must not spin beside torch's.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(self._folder)
        )
        names = list(dict.fromkeys(values))
        try:
            engine = onnxruntime.InferenceSession(
                model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
            )
            return dict(zip(names, engine.run(names, inputs), strict=True))
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise ArtifactError(f"ONNX Runtime cannot run the graph: {error}") from error

    def _shaped(self, nodes: Sequence[Node], example: Arrays) -> list[Node]:
        """Return the nodes with the shapes of their values at the sizes of the example."""
        import onnx

        names: dict[str, str] = {}
        for number, node in enumerate(nodes):
            if node.value:
                names[node.value] = f"burnish shape {number}"
        added: list[onnx.NodeProto] = []
        for value in names:
            added += self._decoders.get(value, ())
        for value, name in names.items():
            added.append(onnx.helper.make_node("Shape", [self._plain(value)], [name]))
        outputs = list(names.values())
        shapes = self._run(self._with_outputs(outputs, added), example, outputs)
        shaped = []
        for node in nodes:
            if node.value:
                shape = tuple(map(int, shapes[names[node.value]]))
                node = replace(node, shape=shape)
            shaped.append(node)
        return shaped


def nodes_of(graph: onnx.GraphProto, paths: Collection[str]) -> Iterator[Node]:
    """Yield the nodes of the main graph; a value computed from constants alone is a constant."""
    varying = set(value_names(graph.input)) - set(value_names(graph.initializer))
    positive = clamped(graph)
    for number, node in enumerate(graph.node):
        inputs = tuple(name for name in dict.fromkeys(_reads(node)) if name in varying)
        if not inputs:
            continue
        outputs = tuple(filter(None, node.output))
        varying.update(outputs)
        scopes = scopes_of(metadata_of(node))
        path = next((path for path in _paths(node, scopes) if path in paths), None)
        if node.op_type in _QUANTIZERS:
            path = None  # named after the value that it rounds, yet no part of that module
        yield Node(
            name=node.name or f"{node.op_type} {number}",
            op=node.op_type,
            inputs=inputs,
            outputs=outputs,
            value=outputs[0],
            path=path,
            origin=_origin(node, scopes),
            fused="relu" if outputs[0] in positive else _fused(node),
        )


def _fused(node: onnx.NodeProto) -> str:
    """Return the last operation of one of ONNX Runtime's fused operators.

    It is an activation, or the sum with a fourth input.
    """
    for attribute in node.attribute:
        if attribute.name == "activation" and attribute.s:
            return kind_of_operator(attribute.s.decode())
    is_conv = node.domain.startswith("com.microsoft") and node.op_type in ("FusedConv", "Conv")
    return "add" if is_conv and len(node.input) > 3 else ""


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the inputs of a node, also of the branches of an If or the body of a Loop."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            for inner in body.node:
                yield from _reads(inner)


def _paths(node: onnx.NodeProto, scopes: Sequence[str]) -> Iterator[str]:
    """Yield possible module paths of a node, from metadata, its name, and its weights' names."""
    if len(scopes) > 1:
        yield scopes[-2]
        return
    parts = node.name.split("/")[1:-1]  # as the TorchScript exporter names nodes
    yield _joined(parts)
    yield _joined([_REPEATED.sub("", part) for part in parts])
    for name in node.input:
        yield name.rpartition(".")[0]


def _joined(parts: Sequence[str]) -> str:
    """Join /layer1/layer1.0/conv1/Conv: a part in a Sequential repeats the path before it."""
    path = ""
    for part in parts:
        path = part if not path or part.startswith(f"{path}.") else f"{path}.{part}"
    return path


def _origin(node: onnx.NodeProto, scopes: Sequence[str]) -> str:
    """Return the name that differs between the calls of one module."""
    return scopes[-1] if scopes else node.name.rpartition("/")[0]
