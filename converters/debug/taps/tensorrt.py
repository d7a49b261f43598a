"""Values inside a TensorRT engine: those of a rebuilt engine that has them as outputs.

An output is not fused away, so that the rebuilt engine may fuse less than the artifact's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from converters.debug.match.graph import Graph, Node
from converters.debug.taps.onnx import nodes_of
from converters.debug.taps.tensorrt_graph import RebuiltGraph, TappedEngine
from converters.graph.names import value_names
from runtimes.engines.tensorrt import session_of
from runtimes.errors import ArtifactError, BurnishError
from runtimes.spec import Arrays, TensorSpec

TAPS = 64
"""Values per engine: each output keeps device memory for itself, and may prevent a fusion."""


class TensorRtTaps:
    """A reader of the float values of a graph, at most `TAPS` in one run."""

    def __init__(
        self,
        rebuilt: RebuiltGraph,
        paths: Collection[str],
        example: Arrays,
        differences: Sequence[str] = (),
    ) -> None:
        """Read the graph; no device is needed.

        Args:
            rebuilt: the graph as TensorRT received it.
            paths: the module paths of the eager model, so that no other name is taken for one.
            example: inputs that determine the shape of each value.
            differences: notes on how the graph differs from the artifact's.
        """
        self._rebuilt, self._shapes = rebuilt, rebuilt.shapes(example)
        self.notes = [
            "an engine keeps no inner values: it was rebuilt from the model, with the values that "
            "are read as outputs, which TensorRT does not fuse away; kernels may differ from the "
            "artifact's",
            *differences,
        ]
        self.graph = _graph(rebuilt.lowered.path, paths, self._shapes)

    def read(self, inputs: Arrays, values: Sequence[str]) -> Arrays:
        """Return the values by name, floats only.

        Raises ArtifactError if the engine is not built or does not run.
        """
        names = [value for value in dict.fromkeys(values) if value in self._shapes]
        arrays: Arrays = {}
        for start in range(0, len(names), TAPS):
            engine = self._rebuilt.tapped(names[start : start + TAPS])
            arrays |= run_on_device(self._rebuilt, engine, inputs)
        return arrays

    def runs_to(self, inputs: Arrays, index: int) -> bool:
        """Check that the nodes up to this one are built for the sizes of these inputs."""
        return self._rebuilt.builds_to(inputs, self.graph.nodes[index].outputs[0])


def run_on_device(rebuilt: RebuiltGraph, engine: TappedEngine, inputs: Arrays) -> Arrays:
    """Return the values of an engine, from the GPU.

    Raises ArtifactError if it cannot be loaded or run.
    """
    facts = rebuilt.facts
    inner = dict.fromkeys(engine.outputs.values(), TensorSpec(shape=()))
    outputs = {**facts.outputs, **inner}
    session = session_of(rebuilt.trt, engine.plan, facts.inputs, outputs, facts.dims)
    if session is None:
        raise ArtifactError(
            "TensorRT cannot load the engine that gives inner values; see TensorRT's errors in "
            "the log"
        )
    with session:
        try:
            arrays = session.run(inputs)
        except BurnishError as error:
            raise ArtifactError(f"TensorRT cannot run the graph: {error}") from error
    return {value: arrays[name] for value, name in engine.outputs.items()}


def _graph(path: Path, paths: Collection[str], shapes: dict[str, tuple[int, ...]]) -> Graph:
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    nodes = list(_shaped(nodes_of(graph, paths), shapes))
    return Graph(nodes, value_names(graph.output))


def _shaped(nodes: Iterator[Node], shapes: dict[str, tuple[int, ...]]) -> Iterator[Node]:
    """Yield the nodes with the shapes of their values; a value that cannot be read is dropped."""
    for node in nodes:
        value = node.value if node.value in shapes else ""
        yield replace(node, value=value, shape=shapes.get(node.value))
