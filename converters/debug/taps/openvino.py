"""Values inside an OpenVINO model, read by OpenVINO in the precision that the artifact computes in.

Each value that is read becomes a result of a copy of the model, and a result is not fused away.
This judges the graph; if the graph is right and the engine is not, `burnish debug` says so.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from converters.debug.match.graph import Graph, Node
from converters.exporters.openvino import MODULES_KEY
from runtimes.engines.openvino.openvino import properties
from runtimes.errors import ArtifactError
from runtimes.spec import Arrays

_NO_VALUE = ("Constant", "Result", "ShapeOf")  # a value made of a shape alone is like a constant
_BIASED = ("conv", "convtranspose", "linear")
_INTEGERS = ("u8", "i8", "u16", "i16")  # the types of quantized values


class OpenVinoTaps:
    """A reader of any value of the graph: a copy in memory has it as a result."""

    def __init__(
        self, path: Path, paths: Collection[str], example: Arrays, build: Mapping[str, Any]
    ) -> None:
        """Read the graph.

        Args:
            path: the .xml file, its weights beside it.
            paths: the module paths of the eager model, so that no other name is taken for one.
            example: inputs that determine the shape of each value.
            build: the manifest's, with the precision that the model is computed in.
        """
        import openvino

        self._core, self._settings = openvino.Core(), properties(build, None)
        try:
            self._model = self._core.read_model(path)
            shaped = _at_sizes(self._model.clone(), example)
        except Exception as error:  # openvino's exceptions share no base class of their own
            raise ArtifactError(f"OpenVINO cannot read {path.name}: {error}") from error
        self.notes = [
            "values were read as results, which OpenVINO does not fuse away: this judges the graph"
        ]
        modules = {name: path for name, path in _modules(self._model).items() if path in paths}
        outputs = [_value(port.get_node().input_value(0)) for port in shaped.outputs]
        nodes = list(_Reader(modules, paths).nodes(shaped))
        self.graph = Graph(_with_biases(nodes), outputs)

    def read(self, inputs: Arrays, values: Sequence[str]) -> Arrays:
        """Return the values by name from one run.

        Raises ArtifactError if the graph does not run.
        """
        import openvino

        names, model = list(dict.fromkeys(values)), self._model.clone()
        ports = {}
        for operation in model.get_ops():
            for port in operation.outputs():
                ports[_value(port)] = port
        try:
            results = [ports[name] for name in names]
            part = openvino.Model(results, model.get_parameters(), "burnish debug")
            compiled = self._core.compile_model(_at_sizes(part, inputs), "CPU", self._settings)
            arrays = compiled([inputs[name] for name in _names(part, inputs)]).to_tuple()
        except Exception as error:  # openvino's exceptions share no base class of their own
            raise ArtifactError(f"OpenVINO cannot run the graph: {error}") from error
        return dict(zip(names, map(np.array, arrays), strict=True))

    def runs_to(self, inputs: Arrays, index: int) -> bool:
        """Check that the nodes up to this one run, whatever input sizes the graph declares."""
        try:
            self.read(inputs, [self.graph.nodes[index].value])
        except ArtifactError:
            return False
        return True


class _Reader:
    """A reader of operations as nodes; a quantizer or dequantizer becomes one node, as in ONNX."""

    def __init__(self, modules: Mapping[str, str], paths: Collection[str]) -> None:
        self._modules, self._paths = modules, paths
        self._varying: set[str] = set()
        # Values on the way to integers, and the values that they are made of.
        self._rounding: dict[str, tuple[str, ...]] = {}
        # Values on the way from integers, and those integers.
        self._decoding: dict[str, str] = {}

    def nodes(self, model: Any) -> Iterator[Node]:
        """Yield the nodes in order; a value computed from constants alone is a constant."""
        for operation in model.get_ordered_ops():
            outputs = tuple(map(_value, operation.outputs()))
            if operation.get_type_name() == "Parameter":
                self._varying.update(outputs)
            elif operation.get_type_name() not in _NO_VALUE:
                sources = dict.fromkeys(map(_value, operation.input_values()))
                inputs = tuple(value for value in sources if value in self._varying)
                if inputs:
                    self._varying.update(outputs)
                    yield from self._node(operation, inputs, outputs)

    def _node(
        self, operation: Any, inputs: tuple[str, ...], outputs: tuple[str, ...]
    ) -> Iterator[Node]:
        name, op, value = operation.get_friendly_name(), operation.get_type_name(), outputs[0]
        shape = _shape(operation.output(0))
        integers = next(
            (self._decoding[source] for source in inputs if source in self._decoding), None
        )
        if op == "FakeQuantize" and _feeds_integers(operation):
            self._rounding[value] = inputs
        elif op == "Convert" and inputs[0] in self._rounding:
            sources = self._rounding[inputs[0]]
            yield Node(name, "QuantizeLinear", sources, (*inputs, value), value, shape)
        elif op == "FakeQuantize":  # rounds and gives float values: both in one
            yield Node(name, "QuantizeLinear", inputs, outputs, value, shape)
        elif op == "Convert" and _type(operation.input_value(0)) in _INTEGERS:
            self._decoding[value] = inputs[0]
        elif op == "Subtract" and integers:
            self._decoding[value] = integers
        elif op == "Multiply" and integers:
            yield Node(name, "DequantizeLinear", (integers,), outputs, value, shape)
        else:
            yield Node(name, op, inputs, outputs, value, shape, self._path(operation))

    def _path(self, operation: Any) -> str | None:
        """Return the module path that the exporter recorded, or else the one in a weight's name."""
        recorded = self._modules.get(operation.get_friendly_name())
        if recorded or self._modules:
            return recorded
        for port in operation.input_values():
            path = str(port.get_node().get_friendly_name()).rpartition(".")[0]
            if path in self._paths:
                return path
        return None


def _with_biases(nodes: Sequence[Node]) -> list[Node]:
    """Merge convolutions and matrix products with their factor and their bias, as in ONNX.

    The value before a bias is no layer's result, but may be nearer the truth than the result if the
    bias is small and something else is wrong.
    """
    users = Counter[str]()
    for node in nodes:
        users.update(node.inputs)
    merged: dict[str, Node] = {}
    for node in nodes:
        product = merged.get(node.inputs[0])
        if product and _is_bias(node, product) and users[node.inputs[0]] == 1:
            del merged[product.value]
            outputs = (*product.outputs, *node.outputs)
            node = replace(node, op=product.op, inputs=product.inputs, outputs=outputs)
        merged[node.value] = node
    return list(merged.values())


def _is_bias(node: Node, product: Node) -> bool:
    """Whether a node adds a constant to a matrix product of the same module, or scales it."""
    if node.op not in ("Add", "Multiply") or len(node.inputs) != 1 or product.kind not in _BIASED:
        return False
    return (product.path, product.shape) == (node.path, node.shape)


def _modules(model: Any) -> dict[str, str]:
    """Return the module path of each operation by its name; empty in artifacts of old versions."""
    if not model.has_rt_info(list(MODULES_KEY)):
        return {}
    paths = json.loads(model.get_rt_info(list(MODULES_KEY)).astype(str))
    return paths if isinstance(paths, dict) else {}


def _value(port: Any) -> str:
    name = str(port.get_node().get_friendly_name())
    return f"{name}:{port.get_index()}" if port.get_index() else name


def _shape(port: Any) -> tuple[int, ...] | None:
    shape = port.get_partial_shape()
    return tuple(shape.to_shape()) if shape.is_static else None


def _type(port: Any) -> str:
    return str(port.get_element_type().get_type_name())


def _feeds_integers(operation: Any) -> bool:
    """Whether an operation has users, and all of them convert its value to integers."""
    users = [port.get_node() for port in operation.output(0).get_target_inputs()]
    return bool(users) and all(map(_converts_to_integers, users))


def _converts_to_integers(operation: Any) -> bool:
    return operation.get_type_name() == "Convert" and _type(operation.output(0)) in _INTEGERS


def _names(model: Any, inputs: Arrays) -> list[str]:
    """Return the names in `inputs` of the model's inputs, in the model's order."""
    names = []
    for port in model.inputs:
        names.append(next(name for name in inputs if name in port.get_names()))
    return names


def _at_sizes(model: Any, inputs: Arrays) -> Any:
    """Give the model the sizes of these inputs, whatever it declares."""
    names = _names(model, inputs)
    model.reshape({index: list(inputs[name].shape) for index, name in enumerate(names)})
    return model
