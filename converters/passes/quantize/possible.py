"""Whether a mode has anything to do in a model, asked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converters.errors import ExportError
from converters.graph.flow.shapes import load_at_sizes
from converters.graph.flow.work import GraphWork, computing_nodes
from converters.recipe.quantize import QuantizeOptions
from runtimes.precision.table import WORDS, row_of
from runtimes.spec import Dims, best_sizes
from runtimes.validator.defaults import LEAST_QUANTIZED

_NAMED = 3  # layers in one sentence


def check_possible(graph: Path, options: QuantizeOptions, format_name: str, dims: Dims) -> None:
    """Raise ExportError if the engine has integer kernels for next to nothing of a model.

    Args:
        graph: the float32 ONNX file.
        options: of the pass.
        format_name: of the artifact.
        dims: the multiply-adds are those of the best sizes.
    """
    layers = list(computing_nodes(load_at_sizes(graph, best_sizes(dims))))
    row = row_of(format_name, options.mode)
    left = [layer for layer in layers if row[layer.kind] == "never"]
    if not left or _share(left, layers) <= 1 - LEAST_QUANTIZED:
        return
    kinds = list(dict.fromkeys(WORDS[layer.kind] for layer in left))
    names = list(dict.fromkeys(layer.layer for layer in left))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    raise ExportError(
        f"quantization to {options.to} ({options.mode}) would leave {_share(left, layers):.0%} of the "
        f"multiply-adds float: {format_name} has no such kernel for {' and '.join(kinds)} "
        f"({', '.join(names[:_NAMED])}{more}); {_advice(left, format_name, options)}"
    )


def _share(left: Sequence[GraphWork], layers: Sequence[GraphWork]) -> float:
    """Return the share of some layers in the multiply-adds; in their number, if a size is unknown."""
    amounts = [layer.multiply_adds for layer in layers]
    if None in amounts or not any(amounts):
        return len(left) / len(layers)
    return sum(layer.multiply_adds or 0 for layer in left) / sum(map(int, filter(None, amounts)))


def _advice(left: Sequence[GraphWork], format_name: str, options: QuantizeOptions) -> str:
    """Return what else to write in the recipe."""
    kinds = {layer.kind for layer in left}
    if kinds == {"lstm"} and (format_name, options.mode) != ("onnx", "dynamic"):
        return "`quantize: dynamic` in format onnx quantizes LSTM layers"
    if "convolution" in kinds and options.mode != "static":
        return "`quantize: int8` quantizes convolutions"
    return "leave `quantize` out, or use `precision: bf16` or `fp16`"
