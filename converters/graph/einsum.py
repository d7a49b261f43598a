"""Einsum equations in the form that every engine parses: lower-case labels, no spaces.

TensorRT refuses "B H I D, B H J D -> B H I J" (torchvision's maxvit_t) for its upper case.
"""

from __future__ import annotations

from string import ascii_lowercase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir


def plain_equation(equation: str) -> str:
    """Relabel an equation a, b, c, ... in order of appearance; not if it has over 26 labels."""
    labels = dict.fromkeys(filter(str.isalpha, equation))
    if len(labels) > len(ascii_lowercase):
        return equation
    renamed = dict(zip(labels, ascii_lowercase, strict=False))
    return "".join(renamed.get(letter, letter) for letter in equation if not letter.isspace())


def plain_einsums(model: onnx_ir.Model) -> int:
    """Rewrite every Einsum in place; return how many changed."""
    import onnx_ir

    changed = 0
    for node in model.graph.all_nodes():
        if node.op_type != "Einsum":
            continue
        equation = node.attributes["equation"].as_string()
        plain = plain_equation(equation)
        if plain != equation:
            node.attributes["equation"] = onnx_ir.AttrString("equation", plain)
            changed += 1
    return changed
