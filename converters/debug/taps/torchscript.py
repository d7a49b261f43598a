"""Values inside a TorchScript graph as saved, before `optimize_for_inference` fuses anything.

Freezing has removed the modules' names, so nodes carry no path. Values inside a branch that is
chosen at run time cannot be read; the branch's result can.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.debug.match.graph import Graph, Node
from runtimes.engines.torch.inputs import to_tensors
from runtimes.errors import ArtifactError
from runtimes.spec import Arrays

_CONSTANT = ("prim::Constant", "prim::Uninitialized", "prim::GetAttr")
_CONTAINERS = ("prim::TupleConstruct", "prim::ListConstruct", "prim::DictConstruct")


class TorchScriptTaps:
    """A reader of any tensor of the graph: a copy of the graph has a clone of it as an output."""

    def __init__(self, path: Path, example: Arrays, by_keyword: bool) -> None:
        """Load the module.

        Args:
            path: the saved module.
            example: inputs that determine the shape of each value.
            by_keyword: inputs go to forward() by name, not by position.
        """
        import torch

        self.notes = ["values were read from the graph as saved, before optimize_for_inference"]
        self._by_keyword = by_keyword
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the manifest and the report mention it
                self._module = torch.jit.load(  # type: ignore[no-untyped-call]
                    str(path), map_location="cpu"
                )
        except RuntimeError as error:
            raise ArtifactError(f"torch cannot load {path.name}: {error}") from error
        self._saved = self._module.inlined_graph
        nodes = list(_nodes(self._saved))
        outputs: list[str] = []
        for value in self._saved.outputs():
            outputs += _names(_parts(value))
        self.graph = Graph(nodes, outputs)
        self.graph = Graph(self._shaped(nodes, example), outputs)

    def read(self, inputs: Arrays, values: Sequence[str]) -> Arrays:
        """Return the values by name, from one run.

        Raises ArtifactError if the graph does not run.
        """
        import torch

        names = list(dict.fromkeys(values))
        arrays = {}
        for name, tensor in zip(names, self._run(inputs, names, _clone), strict=True):
            wide = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
            arrays[name] = wide.cpu().numpy()
        return arrays

    def _run(self, inputs: Arrays, names: Sequence[str], tap: Any) -> list[Any]:
        """Apply `tap` to these values where they are computed: later nodes may write over them."""
        import torch

        graph, values = self._copy()
        for name in names:
            graph.registerOutput(tap(graph, values[name]))
        graph.makeMultiOutputIntoTuple()
        function = torch._C._create_function_from_graph("tapped", graph)
        try:
            with torch.no_grad():
                result = function(*self._arguments(inputs))
        except RuntimeError as error:
            raise ArtifactError(f"torch cannot run the graph: {error}") from error
        return list(result[1:])

    def runs_to(self, inputs: Arrays, index: int) -> bool:
        """Check that the nodes up to this one run."""
        import torch

        graph, values = self._copy()
        last = values[self.graph.nodes[index].outputs[0]]
        for _ in list(graph.outputs()):
            graph.eraseOutput(0)
        nodes = list(graph.nodes())
        while last not in list(nodes[-1].outputs()):
            nodes.pop().destroy()
        graph.registerOutput(last)
        function = torch._C._create_function_from_graph("part", graph)
        try:
            with torch.no_grad():
                function(*self._arguments(inputs))
        except RuntimeError:
            return False
        return True

    def _copy(self) -> tuple[Any, dict[str, Any]]:
        """Copy the graph; return also its values by their names in the saved one.

        A copy may renumber them.
        """
        graph = self._saved.copy()
        copies = dict(zip(self._saved.inputs(), graph.inputs(), strict=True))
        for node, copied_node in zip(self._saved.nodes(), graph.nodes(), strict=True):
            copies |= dict(zip(node.outputs(), copied_node.outputs(), strict=True))
        return graph, {value.debugName(): copied for value, copied in copies.items()}

    def _arguments(self, inputs: Arrays) -> list[Any]:
        """Return the module itself and all arguments of forward(), or their defaults."""

        tensors = to_tensors(inputs)
        parameters = self._module.forward.schema.arguments[1:]
        if not self._by_keyword:
            names = [parameter.name for parameter in parameters]
            tensors = dict(zip(names, tensors.values(), strict=False))
        arguments = [self._module._c]
        for parameter in parameters:
            arguments.append(tensors.get(parameter.name, parameter.default_value))
        return arguments

    def _shaped(self, nodes: Sequence[Node], example: Arrays) -> list[Node]:
        """Return the nodes with the shapes of their values at the sizes of the example."""
        names = [node.value for node in nodes if node.value]
        shapes = dict(zip(names, self._run(example, names, _size), strict=True))
        shaped = []
        for node in nodes:
            shape = tuple(shapes[node.value]) if node.value else node.shape
            shaped.append(replace(node, shape=shape))
        return shaped


def _nodes(graph: Any) -> Iterator[Node]:
    """Yield the nodes at the top level; a value computed from constants alone is a constant."""
    _, *arguments = graph.inputs()  # the first is the module
    varying = set(_names(arguments))
    for node in graph.nodes():
        inputs = tuple(name for name in dict.fromkeys(_reads(node)) if name in varying)
        if node.kind() in _CONSTANT or not inputs:
            continue
        values = list(node.outputs())
        outputs = tuple(_names(values))
        varying.update(outputs)
        tensors = (value for value in values if value.type().kind() == "TensorType")
        value = next(_names(tensors), "")
        yield Node(f"%{value}", node.kind(), inputs, outputs, value)


def _names(values: Iterable[Any]) -> Iterator[str]:
    """Yield the names of values in the graph."""
    for value in values:
        yield value.debugName()


def _reads(node: Any) -> Iterator[str]:
    """Yield the inputs of a node, also inside its branches."""
    yield from _names(node.inputs())
    for block in node.blocks():
        yield from _names(block.outputs())
        for inner in block.nodes():
            yield from _reads(inner)


def _parts(value: Any) -> Iterator[Any]:
    """Yield the tensors of an output in order, without the containers around them and None."""
    node = value.node()
    if value.type().kind() == "NoneType":
        return
    if node.kind() not in _CONTAINERS:
        yield value
        return
    packed = list(node.inputs())
    for part in packed[1::2] if node.kind() == "prim::DictConstruct" else packed:
        yield from _parts(part)


def _clone(graph: Any, value: Any) -> Any:
    import torch

    none = graph.create("prim::Constant", 1)
    none.output().setType(torch._C.NoneType.get())
    clone = graph.create("aten::clone", [value, none.output()], 1)
    _place(graph, value, none)
    clone.insertAfter(none)
    return clone.output()


def _size(graph: Any, value: Any) -> Any:
    import torch

    size = graph.create("aten::size", [value], 1)
    size.output().setType(torch._C.ListType.ofInts())
    _place(graph, value, size)
    return size.output()


def _place(graph: Any, value: Any, node: Any) -> None:
    """Insert a node right after the one that computes a value; for an input, at the start."""
    maker = value.node()
    if maker.kind() == "prim::Param":
        graph.prependNode(node)
    else:
        node.insertAfter(maker)
