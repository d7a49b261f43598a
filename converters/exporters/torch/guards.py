"""Sizes that an exported program holds for: torch.export's guards, compared with `dims:`.

torch.export traces a model at one size. Where Python code looks at a size (`if`, `int()`, a loop), the
program keeps what that size gave, and a guard says for which others it is right. ONNX and AOTInductor
drop guards, so each must hold at every size that the recipe allows.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.errors import Refused
from converters.exporters.torch.source_line import cite, source_line
from converters.models.facts import ModelFacts
from runtimes.spec import Dims
from runtimes.validator.sizes import Sizes, legal_sizes

if TYPE_CHECKING:
    import torch

# Parts of torch that run a model's own code. In all others an operator is at work: its guards `size != 1`
# choose between two ways to the same answer, and the probes, which always have the smallest size, show
# whether size 1 works.
_RUNS_MODELS = ("_dynamo", "_export", "functional.py", "nn")
_LOCATION = re.compile(r"^(?P<code>.*?)\s+# (?P<file>[^#]+):(?P<line>\d+) in (?P<function>\S+)")
_SHOWN = 3  # sizes and source lines that a message names
_WORTH = 0.05  # share of the legal sizes below which it is no use to state them in the recipe


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


@dataclass(frozen=True)
class Restriction:
    """Guards on the same dimensions that do not hold at each of their legal sizes.

    Attributes:
        dims: the dimensions.
        conditions, sources: of the guards.
        allowed: the sizes at which all of them hold, of those that were tried; in order.
        tried: count of the sizes that were tried.
    """

    dims: tuple[str, ...]
    conditions: tuple[str, ...]
    sources: tuple[str, ...]
    allowed: tuple[Sizes, ...]
    tried: int

    @property
    def share(self) -> float:
        """Share of the legal sizes, 0..1, that the program holds for."""
        return len(self.allowed) / self.tried


class NarrowSizes(Refused):
    """The exported program holds for fewer sizes than the recipe allows."""


def check_sizes(program: torch.export.ExportedProgram, facts: ModelFacts) -> None:
    """Raise NarrowSizes if a program does not hold at all sizes of `facts.dims`."""
    if restrictions := find_restrictions(program, facts):
        refusal = NarrowSizes(_message(restrictions, facts.dims))
        refusal.share = math.prod(restriction.share for restriction in restrictions)
        raise refusal


def find_restrictions(
    program: torch.export.ExportedProgram, facts: ModelFacts
) -> list[Restriction]:
    """Return the guards of a program that do not hold at all sizes of `facts.dims`, by dimensions."""
    broken: dict[tuple[str, ...], list[Guard]] = {}
    for guard in find_guards(program, facts):
        if dims := _deciding(guard, facts.dims):
            broken.setdefault(dims, []).append(guard)
    return [_restriction(dims, guards, facts.dims) for dims, guards in broken.items()]


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
    from torch.utils._sympy.printers import PythonPrinter

    symbols = sorted(guard.expr.free_symbols, key=str)
    used = {str(symbol): names[symbol] for symbol in symbols}
    code = compile(PythonPrinter().doprint(guard.expr), "<guard>", "eval")

    def holds(sizes: Mapping[str, int]) -> bool:
        values = {symbol: sizes[name] // factor for symbol, (name, factor) in used.items()}
        try:
            return bool(eval(code, {"math": math}, values))  # noqa: S307 - torch wrote the code
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
    is_unequal = isinstance(guard.expr, sympy.Ne) and guard.expr.rhs in (0, 1)
    if not is_unequal or place is None or isinstance(place, str):
        return False
    folder = Path(torch.__file__).parent
    path = Path(place.filename)
    return path.is_relative_to(folder) and path.relative_to(folder).parts[0] not in _RUNS_MODELS


def _deciding(guard: Guard, dims: Dims) -> tuple[str, ...]:
    """Return the dimensions that decide a guard: one if that is enough; none if it always holds."""
    answers = [(sizes, guard.holds(sizes)) for sizes in legal_sizes(dims, guard.dims)]
    if all(answer for _, answer in answers):
        return ()
    for name in guard.dims:
        by_size: dict[int, set[bool]] = {}
        for sizes, answer in answers:
            by_size.setdefault(sizes[name], set()).add(answer)
        if all(len(both) == 1 for both in by_size.values()):
            return (name,)
    return tuple(sorted(guard.dims))


def _restriction(names: tuple[str, ...], guards: list[Guard], dims: Dims) -> Restriction:
    """Return what guards leave of the sizes of some dimensions, with the lines that matter."""
    involved = tuple(dict.fromkeys(name for guard in guards for name in guard.dims))
    legal = legal_sizes(dims, involved)
    left = {_sizes_of(names, sizes) for sizes in legal}
    tried = len(left)
    conditions, sources = [], []
    for guard in guards:
        refused = {_sizes_of(names, sizes) for sizes in legal if not guard.holds(sizes)}
        if left & refused:
            left -= refused
            conditions.append(guard.condition)
            sources += [guard.source] if guard.source else []
    allowed = [dict(zip(names, key, strict=True)) for key in sorted(left)]
    unique = dict.fromkeys(sources)
    return Restriction(names, tuple(conditions), tuple(unique), tuple(allowed), tried)


def _sizes_of(names: tuple[str, ...], sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sizes[name] for name in names)


def _message(restrictions: list[Restriction], dims: Dims) -> str:
    lines = ["the exported program is right for fewer sizes than `dims:` allows:"]
    for restriction in restrictions:
        at = f" ({'; '.join(restriction.sources[:_SHOWN])})" if restriction.sources else ""
        lines.append(f"  {_sizes_in_words(restriction, dims)}{at}")
    fixes = [fix for restriction in restrictions for fix in _fixes(restriction, dims)]
    state = f"state it in `dims:` ({', '.join(fixes)}), or rewrite" if fixes else "rewrite"
    lines.append(
        f"{state} the code: tracing keeps what Python's if, int(), min(), range() and loops made of "
        "one size; torch.cond, torch.sym_min, // and reshape(-1) work at each"
    )
    return "\n".join(lines)


def _sizes_in_words(restriction: Restriction, dims: Dims) -> str:
    if len(restriction.dims) > 1:
        counts = f"{len(restriction.allowed)} of {restriction.tried} combinations"
        return f"only sizes with {' and '.join(restriction.conditions[:_SHOWN])}, {counts}"
    [name] = restriction.dims
    sizes = [allowed[name] for allowed in restriction.allowed]
    dim = dims[name]
    legal = f"of {dim.min} to {dim.max}"
    if len(sizes) < 2:
        return f"{name}: only {sizes[0]}, {legal}" if sizes else f"{name}: none {legal}"
    if unit := _unit(sizes):
        multiples = f" in multiples of {unit}" if unit != dim.multiple_of else ""
        return f"{name}: only {sizes[0]} to {sizes[-1]}{multiples}, {legal}"
    some = ", ".join(map(str, sizes[:_SHOWN]))
    return f"{name}: only {len(sizes)} of {restriction.tried} sizes ({some}, ...), {legal}"


def _unit(sizes: list[int]) -> int | None:
    """Return the unit of sizes that are consecutive multiples of it, or None."""
    unit = sizes[1] - sizes[0]
    return (
        unit
        if sizes == list(range(sizes[0], sizes[-1] + 1, unit)) and not sizes[0] % unit
        else None
    )


def _fixes(restriction: Restriction, dims: Dims) -> Iterator[str]:
    """Yield what a recipe can say instead, if anything."""
    if len(restriction.dims) > 1:
        for condition in restriction.conditions:
            if equal := re.fullmatch(r"\(?([\w\s*+-]+)\)? == \(?([\w\s*+-]+)\)?", condition):
                sides = sorted(
                    map(str.strip, equal.groups()), key=lambda side: not side.isidentifier()
                )
                if sides[0].isidentifier():
                    yield f"`{sides[0]}: {sides[1]}`"
        return
    [name] = restriction.dims
    sizes = [allowed[name] for allowed in restriction.allowed]
    if restriction.share < _WORTH or len(sizes) < 2 or not (unit := _unit(sizes)):
        return
    values = {}
    if sizes[0] - unit >= dims[name].min:
        values["min"] = sizes[0]
    if sizes[-1] + unit <= dims[name].max:
        values["max"] = sizes[-1]
    if unit != dims[name].multiple_of:
        values["multiple_of"] = unit
    yield f"`{name}: {{{', '.join(f'{key}: {value}' for key, value in values.items())}}}`"


def _source(location: Any) -> str | None:
    """Return file, line and code of a guard's origin, without folders."""
    text = location.maybe_user_loc
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
    if "data-dependent" not in str(error):
        return None
    cause = re.search(r"^Caused by: (.*) \(\S+:\d+ in \S+\)$", str(error), re.MULTILINE)
    match = _LOCATION.match(cause[1]) if cause else None
    if match is not None:
        line = cite(match["file"], match["line"], match["code"])
    else:
        line = cause[1] if cause else str(error).partition("\n")[0]
    return (
        f"the code looks at values ({line}), which differ from input to input: write torch.where or "
        "torch.cond in place of Python's if, float() or .item()"
    )
