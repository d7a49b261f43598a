"""Values inside a TorchScript graph as it was saved, before `optimize_for_inference` fuses anything.

Freezing has removed the modules' names, so nodes carry no path. Values inside a branch that is chosen while
running cannot be read; the branch's result can.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.debug.match.graph import Graph, Node
from runtimes.errors import ArtifactError
from runtimes.spec import Arrays

_CONSTANT = ("prim::Constant", "prim::Uninitialized", "prim::GetAttr")
_CONTAINERS = ("prim::TupleConstruct", "prim::ListConstruct", "prim::DictConstruct")


class TorchScriptTaps:
    """Reads any tensor of the graph by adding copies of it to the outputs of a copy of the graph."""

    def __init__(self, path: Path, example: Arrays, by_keyword: bool) -> None:
        """Load the module.

        Args:
            path: the saved module.
            example: inputs that tell the shape of every value.
            by_keyword: inputs go to forward() by name, not in their order.
        """
        import torch

        self.notes = ["values were read from the graph as saved, before optimize_for_inference"]
        self._by_keyword = by_keyword
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the deprecation is in the manifest and in the report
                self._module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise ArtifactError(f"torch cannot load {path.name}: {error}") from error
        self._saved = self._module.inlined_graph
        nodes = list(_nodes(self._saved))
        outputs = [one.debugName() for value in self._saved.outputs() for one in _parts(value)]
        self.graph = Graph(nodes, outputs)
        self.graph = Graph(self._shaped(nodes, example), outputs)

    def read(self, inputs: Arrays, values: Sequence[str]) -> Arrays:
        """The values by name, from one run. Raises ArtifactError where the graph does not run."""
        import torch

        names = list(dict.fromkeys(values))
        found = self._run(inputs, names, _clone)
        tensors = [one.float() if one.dtype == torch.bfloat16 else one for one in found]
        return {name: tensor.cpu().numpy() for name, tensor in zip(names, tensors, strict=True)}

    def _run(self, inputs: Arrays, names: Sequence[str], tap: Any) -> list[Any]:
        """What `tap` makes of each of these values, right where it is made: later nodes may write over it."""
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
        """Whether the nodes up to this one run."""
        import torch

        graph, values = self._copy()
        last = values[self.graph.nodes[index].outputs[0]]
        for _ in list(graph.outputs()):
            graph.eraseOutput(0)
        behind = list(graph.nodes())
        while last not in list(behind[-1].outputs()):
            behind.pop().destroy()
        graph.registerOutput(last)
        function = torch._C._create_function_from_graph("part", graph)
        try:
            with torch.no_grad():
                function(*self._arguments(inputs))
        except RuntimeError:
            return False
        return True

    def _copy(self) -> tuple[Any, dict[str, Any]]:
        """A copy of the graph, and its values by the names that they have in the saved one: a copy may renumber."""
        graph = self._saved.copy()
        values = dict(zip(self._saved.inputs(), graph.inputs(), strict=True))
        for node, same in zip(self._saved.nodes(), graph.nodes(), strict=True):
            values |= dict(zip(node.outputs(), same.outputs(), strict=True))
        return graph, {one.debugName(): other for one, other in values.items()}

    def _arguments(self, inputs: Arrays) -> list[Any]:
        """The module itself, then every argument of forward(); what the recipe leaves out has its default."""
        import torch

        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        wanted = self._module.forward.schema.arguments[1:]
        if not self._by_keyword:
            tensors = {one.name: tensor for one, tensor in zip(wanted, tensors.values(), strict=False)}
        return [self._module._c, *(tensors.get(one.name, one.default_value) for one in wanted)]

    def _shaped(self, nodes: Sequence[Node], example: Arrays) -> list[Node]:
        names = [node.value for node in nodes if node.value]
        shapes = dict(zip(names, self._run(example, names, _size), strict=True))
        return [replace(node, shape=tuple(shapes[node.value])) if node.value else node for node in nodes]


def _nodes(graph: Any) -> Iterator[Node]:
    """The nodes at the top; what is computed from constants alone counts as a constant."""
    varying = {value.debugName() for value in list(graph.inputs())[1:]}
    for node in graph.nodes():
        inputs = tuple(name for name in dict.fromkeys(_reads(node)) if name in varying)
        if node.kind() in _CONSTANT or not inputs:
            continue
        outputs = list(node.outputs())
        varying.update(value.debugName() for value in outputs)
        tensor = next((value for value in outputs if value.type().kind() == "TensorType"), None)
        value = tensor.debugName() if tensor is not None else ""
        yield Node(f"%{value}", node.kind(), inputs, tuple(one.debugName() for one in outputs), value)


def _reads(node: Any) -> Iterator[str]:
    """What a node takes, also from inside its branches."""
    yield from (value.debugName() for value in node.inputs())
    for block in node.blocks():
        yield from (value.debugName() for value in block.outputs())
        for inner in block.nodes():
            yield from _reads(inner)


def _parts(value: Any) -> Iterator[Any]:
    """The tensors of an output, in order, through the containers that hold them; None is left out."""
    node = value.node()
    if value.type().kind() == "NoneType":
        return
    if node.kind() not in _CONTAINERS:
        yield value
        return
    packed = list(node.inputs())
    for one in packed[1::2] if node.kind() == "prim::DictConstruct" else packed:
        yield from _parts(one)


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
    """Put a node right behind the one that makes a value; for an input, at the start."""
    maker = value.node()
    if maker.kind() == "prim::Param":
        graph.prependNode(node)
    else:
        node.insertAfter(maker)
