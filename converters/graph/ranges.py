"""Which nodes float16 cannot hold: their values are measured in float32 before the graph is cast.

Some samples show only a part of what a model will meet, so what comes near float16's limit stays float32 as well;
NVIDIA's Model-Optimizer draws the line at the same place (`data_max` of its AutoCast).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.graph.cast import Precision, cast_graph
from converters.graph.names import module_path
from converters.graph.qdq import COMPUTE
from converters.graph.taps import reduced
from converters.models.examples import Examples
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

FLOAT16_LIMIT = float(np.finfo(np.float16).max)
"""Beyond it a float16 is infinite."""
NEAR = 512.0
"""Beyond it samples do not prove enough: a value that is 128 times larger overflows."""
_SAMPLES = 8
_LAYERS = (*COMPUTE, "Einsum", "LSTM", "GRU", "RNN")


@dataclass(frozen=True)
class Checked:
    """What a cast with its ranges checked did.

    Attributes:
        report: for the manifest.
        kept_layers: module paths of the computing layers that stay float32 for their range.
        notes: for the reader.
    """

    report: dict[str, Any]
    kept_layers: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def why(self) -> str:
        """A clause for the one who wonders why layers are not float16."""
        kept = len(self.kept_layers)
        return f"; {kept} stay float32 since values beyond {NEAR:g} go through them" if kept else ""


def cast_checked(model: ir.Model, precision: Precision, examples: Examples, folder: Path) -> Checked:
    """Cast `model` in place; nodes whose values float16 cannot hold, or nearly cannot, stay float32.

    bfloat16 has the range of float32: nothing is measured for it. `examples` are run in float32 for the ranges, by
    a graph that is written to `folder`.

    Raises ExportError where the graph cannot be cast, or does not run in float32.
    """
    if precision == "bf16":
        done = cast_graph(model, precision)
        return Checked({"nodes": done.converted, "kept_float32": done.kept})
    for index, node in enumerate(model.graph):
        node.name = node.name or f"{node.op_type} {index}"
    what, samples = examples.some_inputs(_SAMPLES)
    what = f"{len(samples)} of {what}"
    found = node_ranges(model, largest_values(model, samples, folder))
    wide = {name: size for name, size in found.items() if size > NEAR}
    nodes = [node for node in model.graph if node.name in wide]
    layers = [_path(node) for node in nodes if node.op_type in _LAYERS]
    beyond, near = _by_path(nodes, wide, FLOAT16_LIMIT, float("inf")), _by_path(nodes, wide, NEAR, FLOAT16_LIMIT)
    done = cast_graph(model, precision, wide)
    ranges = {
        "samples": what,
        "limit": FLOAT16_LIMIT,
        "beyond": beyond,
        "warning": NEAR,
        "near": near,
    }
    report = {"nodes": done.converted, "kept_float32": done.kept, "ranges": ranges}
    return Checked(report, layers, [_words(wide, len(found), what)])


def _words(wide: Mapping[str, float], nodes: int, samples: str) -> str:
    """What the check found, in a sentence."""
    if not wide:
        return f"no value is beyond {NEAR:g}, float16 ends at {FLOAT16_LIMIT:g} (by {samples})"
    beyond = sum(size > FLOAT16_LIMIT for size in wide.values())
    return (
        f"{len(wide)} of {nodes} nodes stay float32: {beyond} make or read values beyond float16's "
        f"{FLOAT16_LIMIT:g}, {len(wide) - beyond} beyond {NEAR:g} (by {samples}); the manifest names them"
    )


def _path(node: ir.Node) -> str:
    """The layer that its author knows, else the node's name."""
    return module_path(node.metadata_props) or str(node.name)


def _by_path(nodes: Sequence[ir.Node], sizes: Mapping[str, float], above: float, up_to: float) -> dict[str, float]:
    """The largest value of each layer, of the nodes whose own is in (above, up_to]."""
    found: dict[str, float] = {}
    for node in nodes:
        size = sizes[str(node.name)]
        if above < size <= up_to:
            found[_path(node)] = max(found.get(_path(node), 0.0), size)
    return found


def node_ranges(model: ir.Model, values: Mapping[str, float]) -> dict[str, float]:
    """For each node that makes or reads float32, by name, the largest of the magnitudes in `values`."""
    found: dict[str, float] = {}
    for node in model.graph:
        near = (str(value.name) for value in (*node.inputs, *node.outputs) if value is not None)
        own = [values[name] for name in near if name in values]
        if own:
            found[str(node.name)] = max(*own, found.get(str(node.name), 0.0))
    return found


def largest_values(model: ir.Model, samples: Sequence[Arrays], folder: Path) -> dict[str, float]:
    """The largest finite magnitude of every float32 value of the graph over all samples, by name.

    Infinities (in the masks of attention) do not count: float16 has them too.

    Args:
        model: in float32, its values typed.
        samples: inputs.
        folder: for files that are gone afterwards.

    Raises ExportError where ONNX Runtime cannot run the graph.
    """
    import onnx_ir as ir

    kind = ir.TensorType(ir.DataType.FLOAT)
    constants = {
        str(value.name): _largest(value.const_value.numpy())
        for value in model.graph.initializers.values()
        if value.const_value is not None and value.type == kind
    }
    made = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    names = [str(value.name) for value in made if value.type == kind and value.name not in constants]
    found = dict.fromkeys(names, 0.0)
    for name, [size] in reduced(model, dict.fromkeys(names, _largest_finite), samples, folder):
        found[name] = max(found[name], float(size))
    return {**found, **constants}


def _largest(array: np.ndarray[Any, Any]) -> float:
    return float(np.max(np.abs(array), initial=0.0, where=np.isfinite(array)))


def _largest_finite(graph: onnx.GraphProto, value: str, suffix: str) -> list[str]:
    """Nodes for a value's largest finite magnitude."""
    from onnx import helper, numpy_helper

    zero, size, endless, finite, largest = (f"{step} {suffix}" for step in ("zero", "abs", "inf", "finite", "max"))
    graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), zero))
    graph.node.extend(
        [
            helper.make_node("Abs", [value], [size]),
            helper.make_node("IsInf", [size], [endless]),
            helper.make_node("Where", [endless, zero, size], [finite]),
            helper.make_node("ReduceMax", [finite], [largest], keepdims=0),
        ]
    )
    return [largest]
