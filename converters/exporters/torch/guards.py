"""Sizes that an exported program holds for: torch.export's guards, compared with `dims:`.

torch.export traces a model at one size. Where Python code looks at a size (`if`, `int()`, a loop), the
program keeps what that size gave, and a guard says for which others it is right. ONNX and AOTInductor
drop guards, so each must hold at all sizes that the recipe allows (`restrictions.py`).
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.exporters.torch.source_line import cite, source_line
from converters.models.facts import ModelFacts

if TYPE_CHECKING:
    import torch

# Parts of torch that run a model's own code. In all others an operator is at work: its guards `size != 1`
# choose between two ways to the same answer, and the probes, which always have the smallest size, show
# whether size 1 works.
_RUNS_MODELS = ("_dynamo", "_export", "functional.py", "nn")
_LOCATION = re.compile(r"^(?P<code>.*?)\s+# (?P<file>[^#]+):(?P<line>\d+) in (?P<function>\S+)")
_UNEQUAL = re.compile(r" != [01]$|^(\d+)\*.+ != \1$| >= [12]$")
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in \S+\n\s+(.+)')


@dataclass(frozen=True)
class Guard:
    """A condition on sizes under which a program is right.

    Attributes:
        condition: as text, in the names of the dimensions.
        dims: the dimensions that decide it.
        holds: evaluates it for sizes.
        source: the line of the user's code that it comes from, if that is known.
    """

    condition: str
    dims: tuple[str, ...]
    holds: Callable[[Mapping[str, int]], bool]
    source: str | None = None


def find_guards(program: torch.export.ExportedProgram, facts: ModelFacts) -> list[Guard]:
    """Return the guards on sizes of a program's inputs, without those of torch's operators on 0 and 1.

    Guards on sizes that depend on values (of `nonzero`, say) are assertions of the user's and no
    restriction of the inputs' sizes.
    """
    axes = _symbolic_axes(program, facts)
    environment = next((axis.size.node.shape_env for axis in axes), None)
    if environment is None:
        return []
    names = _names(axes, environment)
    guards = []
    for guard in environment.guards:
        symbols = guard.expr.free_symbols
        if symbols and symbols <= names.keys() and not _is_operators_choice(guard):
            guards.append(_guard(guard, names))
    return guards


def names_of_symbols(
    program: torch.export.ExportedProgram, facts: ModelFacts
) -> Mapping[Any, tuple[str, int]]:
    """Return the dimension of each symbol of a program, and the factor by which it is larger."""
    axes = _symbolic_axes(program, facts)
    return _names(axes, axes[0].size.node.shape_env) if axes else {}


def drop_operators_guards(program: torch.export.ExportedProgram) -> None:
    """Drop guards by which operators set sizes 0 and 1 apart, after `check_sizes`.

    The program would refuse such a size at run time, although it computes the right answer.
    """
    guards = program._guards_code
    program._guards_code = [code for code in guards if not _UNEQUAL.search(code)]


@dataclass(frozen=True)
class _Axis:
    """A symbolic size of an input, and its dimension's name in the recipe."""

    name: str
    size: Any


def _symbolic_axes(program: torch.export.ExportedProgram, facts: ModelFacts) -> list[_Axis]:
    import torch

    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    axes = []
    for placeholder, spec in zip(
        program.graph_signature.user_inputs, facts.inputs.values(), strict=False
    ):
        shape = getattr(values.get(str(placeholder)), "shape", ())
        for size, name in zip(shape, spec.shape, strict=False):
            if isinstance(size, torch.SymInt) and isinstance(name, str):
                axes.append(_Axis(name, size))
    return axes


def _names(axes: list[_Axis], environment: Any) -> dict[Any, tuple[str, int]]:
    """Return each symbol's dimension, and the factor by which the dimension is larger.

    Of a dimension of multiples, torch.export has a symbol that counts them.
    """
    names = {axis.size.node._expr: (axis.name, 1) for axis in axes}
    for axis in axes:
        factor, symbol = environment.replace(axis.size.node._expr).as_coeff_Mul()
        if symbol.is_Symbol and factor.is_Integer:
            names.setdefault(symbol, (axis.name, int(factor)))
    return names


def _guard(guard: Any, names: Mapping[Any, tuple[str, int]]) -> Guard:
    import sympy
    import torch
    from torch.utils._sympy.printers import PythonPrinter

    symbols = sorted(guard.expr.free_symbols, key=str)
    used = {str(symbol): names[symbol] for symbol in symbols}
    code = compile(PythonPrinter().doprint(guard.expr), "<guard>", "eval")
    modules = {"math": math, "torch": torch}  # roots and quotients are functions of torch

    def holds(sizes: Mapping[str, int]) -> bool:
        values = {symbol: sizes[name] // factor for symbol, (name, factor) in used.items()}
        try:
            return bool(eval(code, modules, values))  # noqa: S307 - torch wrote the code
        except ZeroDivisionError:  # a size that the condition was never meant for
            return False

    replaced = {}
    for symbol in symbols:
        name, factor = names[symbol]
        dimension = sympy.Symbol(name, integer=True, positive=True)
        replaced[symbol] = dimension if factor == 1 else dimension / factor
    condition = PythonPrinter().doprint(guard.expr.xreplace(replaced))
    dims = tuple(dict.fromkeys(name for name, _ in used.values()))
    return Guard(condition, dims, holds, _source(guard.sloc))


def _is_operators_choice(guard: Any) -> bool:
    """Return whether an operator of torch chose between two ways because no size is 0 or 1."""
    import sympy
    import torch

    place = guard.sloc.framework_loc
    expression = guard.expr
    sets_apart = isinstance(expression, sympy.Ne) and _sets_apart_0_or_1(expression)
    # What follows for a size that is not 0 or 1.
    sets_apart |= isinstance(expression, sympy.Ge) and expression.rhs in (1, 2)
    sets_apart |= isinstance(expression, sympy.Lt) and expression.lhs in (0, 1)
    if not sets_apart or place is None or isinstance(place, str):
        return False
    folder = Path(torch.__file__).parent
    path = Path(place.filename)
    return path.is_relative_to(folder) and path.relative_to(folder).parts[0] not in _RUNS_MODELS


def _sets_apart_0_or_1(unequal: Any) -> bool:
    """Return whether `a != b` says of a size, or a product of sizes, that it is not 0, or not 1.

    It may be multiplied by a constant, as a stride is: `48*length != 48`. A size may be a sum, as the
    number of windows is (`(n - 6)//3 + 1 != 1`), but no remainder.
    """
    from torch.utils._sympy.functions import Mod, PythonMod

    if unequal.rhs in (-1, 0, 1) and not unequal.lhs.has(Mod, PythonMod):
        return True
    _, primitive = (unequal.lhs - unequal.rhs).expand().as_content_primitive()
    constant, product = primitive.as_coeff_Add()
    return constant in (0, 1, -1) and not product.is_Add


def _source(location: Any) -> str | None:
    """Return file, line and code of a guard's origin, without folders."""
    text: str | None = location.maybe_user_loc
    match = _LOCATION.match(text or "")
    if match is None:
        return text  # as `recorded_sources` wrote it
    return cite(match["file"], match["line"], match["code"])


@contextlib.contextmanager
def recorded_sources() -> Iterator[None]:
    """Let torch note the line of the user's code at each guard.

    In its non-strict mode it notes only its own line, which is often one of an operator.
    """
    from torch._guards import SLoc
    from torch.fx.experimental.symbolic_shapes import ShapeEnv, uninteresting_files

    framework = uninteresting_files()  # else this file would count as the caller
    framework.add(__file__)
    original = ShapeEnv._get_stack_summary

    def with_user_line(self: Any, *args: Any, **kwargs: Any) -> tuple[Any, str]:
        location, stack = original(self, *args, **kwargs)
        line = location.maybe_user_loc or source_line()
        return SLoc(location.framework_loc, line), stack

    ShapeEnv._get_stack_summary = with_user_line  # type: ignore[method-assign]
    try:
        yield
    finally:
        ShapeEnv._get_stack_summary = original  # type: ignore[method-assign]
        framework.discard(__file__)


def explain_data_dependence(error: Exception) -> str | None:
    """Return the message for an error of torch.export at code that looks at values; else None."""
    text = str(error)
    if "data-dependent" not in text and "Data-dependent" not in text:
        return None
    cause = re.search(r"^Caused by: (.*) \(\S+:\d+ in \S+\)$", text, re.MULTILINE)
    place = cause[1] if cause else ""
    match = _LOCATION.match(place)
    if match:
        place = cite(match["file"], match["line"], match["code"])
    elif frames := _FRAME.findall(text):
        place = cite(*frames[-1])
    at = f" ({place})" if place else ""
    return (
        f"the code looks at values{at}, which differ from input to input: write torch.where or "
        "torch.cond in place of Python's if, float() or .item()"
    )
