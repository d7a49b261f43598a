"""Whether a mode has anything to do in a model, asked before any work."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from converters.errors import ExportError
from converters.graph.flow.shapes import load_at_sizes
from converters.graph.flow.work import GraphWork, computing_nodes, is_constant
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
    if not left:
        return
    float_work, float_weights = _share(left, layers, _work), _share(left, layers, _weights)
    if min(float_work, float_weights) <= 1 - LEAST_QUANTIZED:
        return
    kinds = list(dict.fromkeys(WORDS[layer.kind] for layer in left))
    names = list(dict.fromkeys(layer.layer for layer in left))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    raise ExportError(
        f"quantization to {options.to} ({options.mode}) would leave {float_work:.0%} of the "
        f"multiply-adds float, and {float_weights:.0%} of the weights: {format_name} has no such kernel "
        f"for {' and '.join(kinds)} ({', '.join(names[:_NAMED])}{more}); "
        f"{_advice(left, format_name, options)}"
    )


def _share(
    left: Sequence[GraphWork],
    layers: Sequence[GraphWork],
    amount: Callable[[GraphWork], int | None],
) -> float:
    """Return the share of some layers in an amount; in their number, if one is unknown."""
    amounts = {id(layer): amount(layer) for layer in layers}
    if None in amounts.values() or not any(amounts.values()):
        return len(left) / len(layers)
    part = sum(amounts[id(layer)] or 0 for layer in left)
    return part / sum(each or 0 for each in amounts.values())


def _work(layer: GraphWork) -> int | None:
    return layer.multiply_adds


def _weights(layer: GraphWork) -> int:
    """Return the number of weights of a layer: of a recurrent one, those of its states as well."""
    inputs = layer.node.inputs
    places = (1, 2) if layer.kind in ("lstm", "recurrent") else (layer.weight,)
    values = [inputs[place] for place in places if place is not None and place < len(inputs)]
    shapes = [value.shape for value in values if value is not None and is_constant(value)]
    return sum(math.prod(map(int, shape.numpy())) for shape in shapes if shape is not None)


def _advice(left: Sequence[GraphWork], format_name: str, options: QuantizeOptions) -> str:
    """Return what else to write in the recipe."""
    kinds = {layer.kind for layer in left}
    if kinds == {"lstm"} and (format_name, options.mode) != ("onnx", "dynamic"):
        return "`quantize: dynamic` in format onnx quantizes LSTM layers"
    if "convolution" in kinds and options.mode != "static":
        return "`quantize: int8` quantizes convolutions"
    return "leave `quantize` out, or use `precision: bf16` or `fp16`"
