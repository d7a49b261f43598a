"""Find the nodes that float16 cannot hold: measure values in float32 before the graph is cast.

A few samples show only a part of the range of a model, so nodes with values near float16's limit
stay float32 as well; NVIDIA's Model-Optimizer draws the line at the same place (`data_max` of its
AutoCast).
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
from converters.graph.taps import reduce_values
from converters.graph.vanish import vanishing
from converters.models.examples import Examples
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

FLOAT16_LIMIT = float(np.finfo(np.float16).max)
"""Beyond it a float16 is infinite."""
NEAR = 512.0
"""Beyond it samples do not prove enough: a value 128 times larger overflows."""
_SAMPLES = 8
_LAYERS = (*COMPUTE, "Einsum", "LSTM", "GRU", "RNN")


@dataclass(frozen=True)
class CheckedCast:
    """Result of a cast after a check of the ranges.

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
        """A clause that explains why layers are not float16."""
        kept = len(self.kept_layers)
        if not kept:
            return ""
        return f"; {kept} stay float32 since values beyond {NEAR:g} go through them"


def cast_checked(
    model: ir.Model, precision: Precision, examples: Examples, folder: Path
) -> CheckedCast:
    """Cast `model` in place; nodes with values at or near float16's limit stay float32.

    So do nodes with constants that float16 would turn into zero (`vanish.py`).

    bfloat16 has the range of float32: nothing is measured for it. `examples` are run in float32 for
    the ranges, by a graph that is written to `folder`.

    Raises ExportError if the graph cannot be cast, or does not run in float32.
    """
    if precision == "bf16":
        cast = cast_graph(model, precision)
        return CheckedCast({"nodes": cast.converted, "kept_float32": cast.kept})
    for index, node in enumerate(model.graph):
        node.name = node.name or f"{node.op_type} {index}"
    source, samples = examples.some_inputs(_SAMPLES)
    description = f"{len(samples)} of {source}"
    ranges = node_ranges(model, largest_values(model, samples, folder))
    wide = {name: size for name, size in ranges.items() if size > NEAR}
    nodes = [node for node in model.graph if node.name in wide]
    layers = [_path(node) for node in nodes if node.op_type in _LAYERS]
    cast = cast_graph(model, precision, {*wide, *vanishing(model)})
    range_report = {
        "samples": description,
        "limit": FLOAT16_LIMIT,
        "beyond": _by_path(nodes, wide, FLOAT16_LIMIT, float("inf")),
        "warning": NEAR,
        "near": _by_path(nodes, wide, NEAR, FLOAT16_LIMIT),
    }
    report = {"nodes": cast.converted, "kept_float32": cast.kept, "ranges": range_report}
    return CheckedCast(report, layers, [_note(wide, len(ranges), description)])


def _note(wide: Mapping[str, float], nodes: int, samples: str) -> str:
    """Summarize the check in a sentence."""
    if not wide:
        return f"no value is beyond {NEAR:g}, float16 ends at {FLOAT16_LIMIT:g} (by {samples})"
    beyond = sum(size > FLOAT16_LIMIT for size in wide.values())
    return (
        f"{len(wide)} of {nodes} nodes stay float32: {beyond} make or read values beyond float16's "
        f"{FLOAT16_LIMIT:g}, {len(wide) - beyond} beyond {NEAR:g} (by {samples}); the manifest "
        "names them"
    )


def _path(node: ir.Node) -> str:
    """Return the path of a node's module, else the node's name."""
    return module_path(node.metadata_props) or str(node.name)


def _by_path(
    nodes: Sequence[ir.Node], sizes: Mapping[str, float], above: float, up_to: float
) -> dict[str, float]:
    """Return the largest value of each layer among nodes whose own is in (above, up_to]."""
    largest: dict[str, float] = {}
    for node in nodes:
        size = sizes[str(node.name)]
        if above < size <= up_to:
            largest[_path(node)] = max(largest.get(_path(node), 0.0), size)
    return largest


def node_ranges(model: ir.Model, values: Mapping[str, float]) -> dict[str, float]:
    """Return the largest of the magnitudes in `values` that each node reads or computes."""
    ranges: dict[str, float] = {}
    for node in model.graph:
        neighbours = [
            str(value.name) for value in (*node.inputs, *node.outputs) if value is not None
        ]
        sizes = [values[name] for name in neighbours if name in values]
        if sizes:
            name = str(node.name)
            ranges[name] = max(*sizes, ranges.get(name, 0.0))
    return ranges


def largest_values(model: ir.Model, samples: Sequence[Arrays], folder: Path) -> dict[str, float]:
    """Return the largest finite magnitude of each float32 value over all samples, by name.

    Infinities (in the masks of attention) do not count: float16 has them too.

    Args:
        model: in float32, its values typed.
        samples: inputs.
        folder: for temporary files.

    Raises ExportError if ONNX Runtime cannot run the graph.
    """
    import onnx_ir as ir

    kind = ir.TensorType(ir.DataType.FLOAT)
    constants = {}
    for value in model.graph.initializers.values():
        if value.const_value is not None and value.type == kind:
            constants[str(value.name)] = _largest(value.const_value.numpy())
    values = list(model.graph.inputs)
    for node in model.graph:
        values += node.outputs
    floats = [str(value.name) for value in values if value.type == kind]
    names = [name for name in floats if name not in constants]
    largest = dict.fromkeys(names, 0.0)
    for name, [size] in reduce_values(
        model, dict.fromkeys(names, _largest_finite), samples, folder
    ):
        largest[name] = max(largest[name], float(size))
    return {**largest, **constants}


def _largest(array: np.ndarray[Any, Any]) -> float:
    return float(np.max(np.abs(array), initial=0.0, where=np.isfinite(array)))


def _largest_finite(graph: onnx.GraphProto, value: str, suffix: str) -> list[str]:
    """Add nodes for a value's largest finite magnitude."""
    from onnx import helper, numpy_helper

    steps = ("zero", "abs", "inf", "finite", "max")
    zero, size, endless, finite, largest = (f"{step} {suffix}" for step in steps)
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
