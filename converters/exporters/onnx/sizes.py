"""Arithmetic of sizes in ONNX graphs, compared with Python's.

Python computes `int(0.29 * n)` in float64, and eager operators such as interpolation do too. ONNX
graphs, and what engines make of Resize, use float32: of n = 100 the one takes 28, the other 29. And
the exporter divides integers towards zero, where `//` rounds down: `-(-n // 8)`.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.errors import Refused
from converters.exporters.torch.guards import names_of_symbols
from converters.exporters.torch.source_line import cite, is_users
from converters.models.facts import ModelFacts
from runtimes.validator.inputs.sizes import label, legal_sizes

if TYPE_CHECKING:
    import torch

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in \S+\n\s+(.+)')


class InexactSizes(Refused):
    """The graph would compute another size than the model for some legal sizes."""


_IN_FLOAT32 = {
    "math": SimpleNamespace(**{**vars(math), "trunc": int}),  # NumPy's float32 has no trunc
    "torch": SimpleNamespace(
        sym_float=np.float32, _sym_sqrt=lambda number: np.sqrt(np.float32(number))
    ),
}
"""The modules that sizes are written with, in float32."""


@dataclass(frozen=True)
class _Size:
    """A size as an expression of the inputs' sizes, with the operator that has it."""

    expression: Any
    node: Any


def check_size_arithmetic(program: torch.export.ExportedProgram, facts: ModelFacts) -> None:
    """Raise InexactSizes if a size in the graph, computed in float32, differs from the model's."""
    names = names_of_symbols(program, facts)
    for size in _computed_with_floats(program):
        symbols = size.expression.free_symbols
        if not symbols <= names.keys():
            continue
        used = {str(symbol): names[symbol] for symbol in symbols}
        compute = _compiled(size.expression)
        for sizes in legal_sizes(facts.dims, sorted({name for name, _ in used.values()})):
            values = {symbol: sizes[name] // factor for symbol, (name, factor) in used.items()}
            exact, rounded = compute(values, False), compute(values, True)
            if exact != rounded:
                raise InexactSizes(
                    f"at {label(sizes)} the graph computes the size {rounded}, the model {exact}"
                    f"{_place(size.node)}: ONNX computes sizes in float32, Python in float64. Write "
                    "it in integers (`n * 7 // 10` for `int(n * 0.7)`, `size=` for `scale_factor=`), "
                    "or leave such sizes out of `dims:`"
                )


def _computed_with_floats(program: torch.export.ExportedProgram) -> Iterator[_Size]:
    """Yield each different size in the program that is computed with floating-point numbers."""
    import torch
    from torch.utils._sympy.functions import ToFloat

    seen = set[Any]()
    for node in program.graph.nodes:
        value = node.meta.get("val")
        for size in value.shape if isinstance(value, torch.Tensor) else [value]:
            if not isinstance(size, torch.SymInt):
                continue
            expression: Any = size.node._expr
            if expression not in seen and expression.has(ToFloat):
                yield _Size(expression, node)
            seen.add(expression)


def _compiled(expression: Any) -> Callable[[dict[str, int], bool], int]:
    """Return a function of the symbols' values, and of whether to compute in float32."""
    import torch
    from torch.utils._sympy.printers import PythonPrinter

    code = compile(PythonPrinter().doprint(expression), "<size>", "eval")
    in_float64 = {"math": math, "torch": torch}

    def compute(values: dict[str, int], in_float32: bool) -> int:
        modules = _IN_FLOAT32 if in_float32 else in_float64
        return int(eval(code, modules, values))  # noqa: S307 - torch wrote the code

    return compute


def _place(node: Any) -> str:
    """Return the line of the model's code that an operator comes from, in parentheses."""
    frames: list[tuple[str, str, str]] = _FRAME.findall(node.meta.get("stack_trace") or "")
    places = [cite(*frame) for frame in frames if is_users(frame[0])]
    return f" ({places[-1]})" if places else ""


def exact_division(
    program: torch.export.ExportedProgram,
) -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return a translation of `//` that rounds down, if a dividend in the program can be negative."""
    import torch

    for node in program.graph.nodes:
        if node.target is not operator.floordiv:
            continue
        dividend = getattr(node.args[0], "meta", {}).get("val")
        if isinstance(dividend, torch.SymInt):
            environment: Any = dividend.node.shape_env
            if environment.bound_sympy(dividend.node.expr).lower < 0:
                return {operator.floordiv: _floor_divide}
    return {}


def _floor_divide(dividend: Any, divisor: Any) -> Any:
    from onnxscript.onnx_opset import opset18 as op

    return op.Div(op.Sub(dividend, op.Mod(dividend, divisor)), divisor)
