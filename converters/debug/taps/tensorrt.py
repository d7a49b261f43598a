"""Values inside a TensorRT engine: those of an engine that is built again with them as outputs.

What is an output is not fused away, so that this engine may fuse less than the artifact's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from converters.debug.match.graph import Graph, Node
from converters.debug.taps.onnx import nodes_of
from converters.debug.taps.tensorrt_graph import Remade, Tapped
from runtimes.engines.tensorrt import session_of
from runtimes.errors import ArtifactError, BurnishError
from runtimes.spec import Arrays, TensorSpec

TAPS = 64
"""Values that one engine gives: each output keeps device memory for itself, and may prevent a fusion."""


class TensorRtTaps:
    """Reads the float values of a graph, at most `TAPS` in one run."""

    def __init__(self, remade: Remade, paths: Collection[str], example: Arrays) -> None:
        """Read the graph; no device is needed.

        Args:
            remade: the graph as TensorRT was given it.
            paths: the module paths of the eager model, so that no other name is taken for one.
            example: inputs that tell the shape of every value.
        """
        self._remade, self._shapes = remade, remade.shapes(example)
        self.notes = [
            "an engine keeps no inner values: it was built again from the model, with those that are read as "
            "outputs, which TensorRT does not fuse away; kernels may be others than the artifact's"
        ]
        self.graph = _graph(remade.lowered.path, paths, self._shapes)

    def read(self, inputs: Arrays, values: Sequence[str]) -> Arrays:
        """The values by name, floats only. Raises ArtifactError where the engine is not built or does not run."""
        names = [one for one in dict.fromkeys(values) if one in self._shapes]
        found: Arrays = {}
        for start in range(0, len(names), TAPS):
            found |= run_on_device(self._remade, self._remade.tapped(names[start : start + TAPS]), inputs)
        return found

    def runs_to(self, inputs: Arrays, index: int) -> bool:
        """Whether the nodes up to this one are built for the sizes of these inputs."""
        return self._remade.builds_to(inputs, self.graph.nodes[index].outputs[0])


def run_on_device(remade: Remade, tapped: Tapped, inputs: Arrays) -> Arrays:
    """The values that an engine gives, on the GPU. Raises ArtifactError where it cannot be loaded or run."""
    facts, given = remade.facts, dict.fromkeys(tapped.outputs.values(), TensorSpec(shape=()))
    session = session_of(remade.trt, tapped.plan, facts.inputs, {**facts.outputs, **given}, facts.dims)
    if session is None:
        raise ArtifactError("TensorRT cannot load the engine that gives inner values; the log has its words")
    with session:
        try:
            found = session.run(inputs)
        except BurnishError as error:
            raise ArtifactError(f"TensorRT cannot run the graph: {error}") from error
    return {value: found[name] for value, name in tapped.outputs.items()}


def _graph(path: Path, paths: Collection[str], shapes: dict[str, tuple[int, ...]]) -> Graph:
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return Graph(list(_shaped(nodes_of(graph, paths), shapes)), [value.name for value in graph.output])


def _shaped(nodes: Iterator[Node], shapes: dict[str, tuple[int, ...]]) -> Iterator[Node]:
    """The nodes with the shapes of their values; what cannot be read is no value."""
    for node in nodes:
        known = node.value in shapes
        yield replace(node, value=node.value if known else "", shape=shapes.get(node.value))
