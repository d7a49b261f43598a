"""Values inside an OpenVINO model, read by OpenVINO in the precision that the artifact computes in.

Each value that is read becomes a result of a copy of the model, and what has a result is not fused away. What is
judged is the graph; where the graph is right and the engine is not, `burnish debug` says so.
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

_NO_VALUE = ("Constant", "Result", "ShapeOf")  # what is made of a shape alone is as good as a constant
_BIASED = ("conv", "convtranspose", "linear")
_INTEGERS = ("u8", "i8", "u16", "i16")  # what quantizers make


class OpenVinoTaps:
    """Reads any value of the graph by making it a result of a copy in memory."""

    def __init__(self, path: Path, paths: Collection[str], example: Arrays, build: Mapping[str, Any]) -> None:
        """Read the graph.

        Args:
            path: the .xml file, its weights beside it.
            paths: the module paths of the eager model, so that no other name is taken for one.
            example: inputs that tell the shape of every value.
            build: the manifest's, which says what the model is computed in.
        """
        import openvino

        self._core, self._settings = openvino.Core(), properties(build, None)
        try:
            self._model = self._core.read_model(path)
            shaped = _at_sizes(self._model.clone(), example)
        except Exception as error:  # openvino's exceptions share no base class of their own
            raise ArtifactError(f"OpenVINO cannot read {path.name}: {error}") from error
        self.notes = ["values were read as results, which OpenVINO does not fuse away: this judges the graph"]
        modules = {name: one for name, one in _modules(self._model).items() if one in paths}
        outputs = [_value(port.get_node().input_value(0)) for port in shaped.outputs]
        self.graph = Graph(_with_biases(list(_Reader(modules, paths).nodes(shaped))), outputs)

    def read(self, inputs: Arrays, values: Sequence[str]) -> Arrays:
        """The values by name from one run. Raises ArtifactError where the graph does not run."""
        import openvino

        names, model = list(dict.fromkeys(values)), self._model.clone()
        ports = {_value(port): port for operation in model.get_ops() for port in operation.outputs()}
        try:
            part = openvino.Model([ports[name] for name in names], model.get_parameters(), "burnish debug")
            compiled = self._core.compile_model(_at_sizes(part, inputs), "CPU", self._settings)
            found = compiled([inputs[name] for name in _names(part, inputs)]).to_tuple()
        except Exception as error:  # openvino's exceptions share no base class of their own
            raise ArtifactError(f"OpenVINO cannot run the graph: {error}") from error
        return {name: np.array(array) for name, array in zip(names, found, strict=True)}

    def runs_to(self, inputs: Arrays, index: int) -> bool:
        """Whether the nodes up to this one run, whatever sizes the graph declares for its inputs."""
        try:
            self.read(inputs, [self.graph.nodes[index].value])
        except ArtifactError:
            return False
        return True


class _Reader:
    """Makes nodes of operations; a quantizer's and a dequantizer's become one each, as in ONNX."""

    def __init__(self, modules: Mapping[str, str], paths: Collection[str]) -> None:
        self._modules, self._paths = modules, paths
        self._varying: set[str] = set()
        self._rounding: dict[str, tuple[str, ...]] = {}  # values on the way to integers, and what they are made of
        self._decoding: dict[str, str] = {}  # values on the way from integers, and those integers

    def nodes(self, model: Any) -> Iterator[Node]:
        """In the order in which they run; what is computed from constants alone counts as a constant."""
        for operation in model.get_ordered_ops():
            made = tuple(_value(port) for port in operation.outputs())
            if operation.get_type_name() == "Parameter":
                self._varying.update(made)
            elif operation.get_type_name() not in _NO_VALUE:
                given = dict.fromkeys(_value(port) for port in operation.input_values())
                inputs = tuple(value for value in given if value in self._varying)
                if inputs:
                    self._varying.update(made)
                    yield from self._node(operation, inputs, made)

    def _node(self, operation: Any, inputs: tuple[str, ...], made: tuple[str, ...]) -> Iterator[Node]:
        name, op, value = operation.get_friendly_name(), operation.get_type_name(), made[0]
        shape = _shape(operation.output(0))
        integers = next((self._decoding[one] for one in inputs if one in self._decoding), None)
        if op == "FakeQuantize" and _feeds_integers(operation):
            self._rounding[value] = inputs
        elif op == "Convert" and inputs[0] in self._rounding:
            yield Node(name, "QuantizeLinear", self._rounding[inputs[0]], (*inputs, value), value, shape)
        elif op == "FakeQuantize":  # rounds and gives float values: both in one
            yield Node(name, "QuantizeLinear", inputs, made, value, shape)
        elif op == "Convert" and _type(operation.input_value(0)) in _INTEGERS:
            self._decoding[value] = inputs[0]
        elif op == "Subtract" and integers:
            self._decoding[value] = integers
        elif op == "Multiply" and integers:
            yield Node(name, "DequantizeLinear", (integers,), made, value, shape)
        else:
            yield Node(name, op, inputs, made, value, shape, self._path(operation))

    def _path(self, operation: Any) -> str | None:
        """The module path that the exporter noted, or else the one in the name of a weight."""
        noted = self._modules.get(operation.get_friendly_name())
        names = (port.get_node().get_friendly_name().rpartition(".")[0] for port in operation.input_values())
        return noted or (None if self._modules else next((one for one in names if one in self._paths), None))


def _with_biases(nodes: Sequence[Node]) -> list[Node]:
    """Convolutions and matrix products as in ONNX: one node with its factor and its bias.

    The value before a bias is no layer's result, but may be nearer the truth than that where the bias is small and
    something else is wrong.
    """
    users = Counter(value for node in nodes for value in node.inputs)
    found: dict[str, Node] = {}
    for node in nodes:
        product = found.get(node.inputs[0])
        own = node.op in ("Add", "Multiply") and len(node.inputs) == 1 and users[node.inputs[0]] == 1
        if own and product and product.kind in _BIASED and (product.path, product.shape) == (node.path, node.shape):
            del found[product.value]
            whole = (*product.outputs, *node.outputs)
            node = replace(node, op=product.op, inputs=product.inputs, outputs=whole)
        found[node.value] = node
    return list(found.values())


def _modules(model: Any) -> dict[str, str]:
    """The module path of each operation by its name; none in an artifact of an earlier Burnish."""
    if not model.has_rt_info(list(MODULES_KEY)):
        return {}
    found = json.loads(model.get_rt_info(list(MODULES_KEY)).astype(str))
    return found if isinstance(found, dict) else {}


def _value(port: Any) -> str:
    name = str(port.get_node().get_friendly_name())
    return f"{name}:{port.get_index()}" if port.get_index() else name


def _shape(port: Any) -> tuple[int, ...] | None:
    shape = port.get_partial_shape()
    return tuple(shape.to_shape()) if shape.is_static else None


def _type(port: Any) -> str:
    return str(port.get_element_type().get_type_name())


def _feeds_integers(operation: Any) -> bool:
    users = [one.get_node() for one in operation.output(0).get_target_inputs()]
    return bool(users) and all(
        one.get_type_name() == "Convert" and _type(one.output(0)) in _INTEGERS for one in users
    )


def _names(model: Any, inputs: Arrays) -> list[str]:
    """What the model's inputs are called in `inputs`, in its own order."""
    return [next(name for name in inputs if name in port.get_names()) for port in model.inputs]


def _at_sizes(model: Any, inputs: Arrays) -> Any:
    """The model with the sizes of these inputs, whatever it declares."""
    model.reshape({index: list(inputs[name].shape) for index, name in enumerate(_names(model, inputs))})
    return model
