"""Defects of attributes: one is moved by one, or gets another of its words."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from mutation.changes.change import Place
from mutation.formats.graph import Graph

_COUNTS = ("axis", "group", "batch_dims", "hidden_size", "num_groups")
_LISTS = (
    *("pads", "strides", "dilations", "kernel_shape", "output_padding", "perm", "axes"),
    *("pads_begin", "pads_end", "kernel"),
)
_SWITCHES = (
    *("ceil_mode", "antialias", "count_include_pad", "keepdims", "transA", "transB", "exclusive"),
    *("linear_before_reset", "exclude_outside", "largest", "select_last_index", "reverse"),
    *("keep_dims", "exclude-pad", "transpose_a", "transpose_b", "normalize_variance"),
)
_FLOATS = ("epsilon", "eps", "alpha", "beta", "gamma", "cubic_coeff_a", "extrapolation_value")
_WORDS = {
    "coordinate_transformation_mode": (
        *("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"),
        "half_pixel_symmetric",
    ),
    "nearest_mode": ("round_prefer_floor", "floor", "ceil", "round_prefer_ceil"),
    "mode": ("constant", "reflect", "edge", "wrap", "nearest", "linear", "cubic", "DCR", "CRD"),
    "approximate": ("none", "tanh"),
    "approximation_mode": ("ERF", "TANH"),
    "rounding_type": ("floor", "ceil"),
    "eps_mode": ("inside_sqrt", "outside_sqrt"),
    "direction": ("forward", "reverse"),
}
_MODES = (("constant", "reflect", "edge", "wrap"), ("nearest", "linear", "cubic"), ("DCR", "CRD"))
_DEFAULTS: dict[str, dict[str, Any]] = {
    "Resize": {"antialias": 0, "coordinate_transformation_mode": "half_pixel"},
    "GRU": {"linear_before_reset": 0},
    "MaxPool": {"ceil_mode": 0},
}
"""Attributes of ONNX that a node need not have, with what they are then."""


def attribute_moved(graph: Graph) -> Iterator[Place]:
    """Move one attribute by one, switch it, or exchange its word for another."""
    for node in graph.nodes():
        present = {name: attribute.value for name, attribute in node.attributes.items()}
        for name, value in {**_DEFAULTS.get(node.op_type, {}), **present}.items():
            if movable(name, value):
                where = f"{name} of {node.op_type} {node.outputs[0].name}"
                yield Place(where, partial(_move, node, name, value))


def movable(name: str, value: Any) -> bool:
    """Return whether an attribute of ONNX or OpenVINO can be moved."""
    if name in _LISTS:
        return len(value) > 0
    return name in (*_COUNTS, *_SWITCHES, *_FLOATS) or name in _WORDS


def _move(node: ir.Node, name: str, value: Any, rng: np.random.Generator) -> str:
    changed = moved(name, value, rng)
    node.attributes[name] = ir.convenience.convert_attribute(name, changed)
    return f"{changed} instead of {value}"


def moved(name: str, value: Any, rng: np.random.Generator) -> Any:
    """Return another value for an attribute: one more or less, the other switch, another word."""
    if name in _SWITCHES:
        return type(value)(1 - value)
    if name in _COUNTS:
        return value + int(rng.choice([-1, 1]))
    if name in _FLOATS:
        return value * float(rng.choice([0.0, 0.5, 2.0, 100.0])) if value else 0.1
    if name in _WORDS:
        words = _WORDS[name]
        if name == "mode":
            words = next((mode for mode in _MODES if value in mode), words)
        return str(rng.choice([word for word in words if word.lower() != value.lower()]))
    return _list_moved(name, list(value), rng)


def _list_moved(name: str, numbers: list[int], rng: np.random.Generator) -> list[int]:
    index = int(rng.integers(len(numbers)))
    step = int(rng.choice([-1, 1]))
    if name == "perm":  # two of them change places, so that it stays a permutation
        other = (index + 1) % len(numbers)
        numbers[index], numbers[other] = numbers[other], numbers[index]
    else:
        numbers[index] = max(0, numbers[index] + step)
    return numbers
