"""Which argument of forward() each input of a recipe becomes.

Names bind by name if forward() has them, in order only if it has none of them. The elements of a
list and the values of a dict are inputs of their own, named after the argument: `boxes.0`,
`boxes.1`, `batch.image`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converters.models.calls.annotations import (
    element_hints,
    hints_of_fields,
    hints_of_parameters,
    is_tuple,
    mapping_class,
)
from runtimes.errors import UsageError
from runtimes.registry import nearest

if TYPE_CHECKING:
    import torch

_MISSPELT = 0.8
"""Similarity from which a name counts as a misspelt parameter's: `atention_mask`."""
_IN_ORDER = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Container:
    """An argument made of several inputs: `make` gets its parts, by name if it is no sequence."""

    make: Callable[..., Any]
    parts: Mapping[str, Part]

    def filled(self, tensors: Mapping[str, torch.Tensor]) -> Any:
        """Return the argument with these tensors in it."""
        values = {key: _filled(part, tensors) for key, part in self.parts.items()}
        if self.make in (list, tuple):
            return self.make(values.values())
        return self.make(**values)


Part = str | Container
"""An input's name, or a container of such."""


@dataclass(frozen=True)
class Binding:
    """How a model is called with named inputs.

    Attributes:
        positional: arguments that go by position.
        keyword: arguments that go by name.
        plain: every exporter can call forward() so: each input is an argument that can go either
            way, and all go in order or all by name.
    """

    positional: tuple[Part, ...]
    keyword: Mapping[str, Part]
    plain: bool

    @property
    def by_keyword(self) -> bool:
        """Whether inputs go by name."""
        return bool(self.keyword)

    @property
    def structured(self) -> bool:
        """Whether an argument is made of several inputs, or has another name than its input."""
        by_name = all(name == part for name, part in self.keyword.items())
        return not by_name or not all(isinstance(part, str) for part in self.positional)

    def arguments(self, tensors: Mapping[str, torch.Tensor]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of forward() for these inputs: by position, by name."""
        args = [_filled(part, tensors) for part in self.positional]
        return args, {name: _filled(part, tensors) for name, part in self.keyword.items()}


def bind(module: torch.nn.Module, names: Sequence[str]) -> Binding:
    """Bind inputs to the arguments of forward().

    Raises UsageError if forward() has some of the names and not the others, if parts of a list are
    missing, or if it takes fewer arguments than there are inputs in order.
    """
    parameters = _parameters(module)
    if parameters is None:
        return Binding(tuple(names), {}, plain=True)
    roots = list(dict.fromkeys(name.split(".")[0] for name in names))
    rest = _rest(names, parameters)
    named = [root for root in roots if root == rest or _is_usual(parameters.get(root))]
    kinds = {parameter.kind for parameter in parameters.values()}
    takes_any = inspect.Parameter.VAR_KEYWORD in kinds
    only_names = takes_any and not kinds & {*_IN_ORDER, inspect.Parameter.VAR_POSITIONAL}
    if not named and not only_names:
        _check_count(names, parameters)
        _check_order(names, parameters)
        # torch.export takes *args for one argument.
        plain = sum(parameter.kind in _IN_ORDER for parameter in parameters.values()) >= len(names)
        return Binding(tuple(names), {}, plain)
    _check_names(roots, named, parameters, takes_any)
    return _by_name(module, names, roots, parameters, rest)


def _parameters(module: torch.nn.Module) -> Mapping[str, inspect.Parameter] | None:
    """Return the parameters of forward(); None for compiled code, which is called in order."""
    try:
        return inspect.signature(module.forward).parameters
    except (ValueError, TypeError):
        return None


def _is_variadic(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _is_usual(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and not _is_variadic(parameter)


def _rest(names: Sequence[str], parameters: Mapping[str, inspect.Parameter]) -> str | None:
    """Return the name of `*rest` if inputs are named after its elements: `rest.0`."""
    for name, parameter in parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL and name not in names:
            return name if any(each.startswith(f"{name}.") for each in names) else None
    return None


def _by_name(
    module: torch.nn.Module,
    names: Sequence[str],
    roots: Sequence[str],
    parameters: Mapping[str, inspect.Parameter],
    rest: str | None,
) -> Binding:
    """Return the binding by name; positional-only parameters go by position.

    So do all those in front of `*rest`, if that gets inputs.
    """
    hints = hints_of_parameters(module)
    parts = {root: _part(root, names, hints.get(root)) for root in roots}
    positional = _positional_only(roots, parameters, rest)
    keyword = {root: part for root, part in parts.items() if root not in positional}
    usual = inspect.Parameter.POSITIONAL_OR_KEYWORD
    plain = all(
        root in parameters and parameters[root].kind is usual and part == root
        for root, part in parts.items()
    )
    # A single input that forward() takes first goes by position, as programs and libraries for it
    # have always taken it.
    if plain and len(names) == 1 and next(iter(parameters)) == names[0]:
        return Binding(tuple(names), {}, plain=True)
    in_order: list[Part] = []
    for name in positional:
        part = parts[name]
        in_order += part.parts.values() if name == rest and isinstance(part, Container) else [part]
    return Binding(tuple(in_order), keyword, plain)


def _positional_only(
    roots: Sequence[str], parameters: Mapping[str, inspect.Parameter], rest: str | None
) -> list[str]:
    """Return the names that can only go by position, in the order of forward().

    Raises UsageError if a parameter before one of them has no input.
    """
    kinds = _IN_ORDER if rest else (inspect.Parameter.POSITIONAL_ONLY,)
    positional = []
    missing = ""
    for name, parameter in parameters.items():
        if parameter.kind not in kinds and name != rest:
            continue
        if name not in roots:
            missing = missing or name
        elif missing:
            raise UsageError(
                f"inputs: forward({_listed(parameters)}) takes {name!r} by position only, after "
                f"{missing!r}, which is no input: add that one"
            )
        else:
            positional.append(name)
    return positional


def _check_names(
    roots: Sequence[str],
    named: Sequence[str],
    parameters: Mapping[str, inspect.Parameter],
    takes_any: bool,
) -> None:
    """Raise UsageError for a name that forward() lacks.

    `**kwargs` take any name, except one that looks like another parameter's: the model would ignore
    what is misspelt.
    """
    free = []
    for name, parameter in parameters.items():
        if name not in named and not _is_variadic(parameter):
            free.append(name)
    for root in roots:
        if root in named:
            continue
        if takes_any and not difflib.get_close_matches(root, free, 1, _MISSPELT):
            continue
        hint = nearest(root, free)
        raise UsageError(
            f"inputs: forward({_listed(parameters)}) has a parameter {named[0]!r} but none "
            f"{root!r}{hint}{'' if hint.endswith('?') else '.'} Name all inputs after parameters of "
            f"forward(), or none: then they go in order{_of_rest(parameters)}"
        )


def _of_rest(parameters: Mapping[str, inspect.Parameter]) -> str:
    """Return a hint how inputs for `*rest` are named, if forward() has that."""
    for name, parameter in parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return f". Those for *{name} are {name}.0, {name}.1"
    return ""


def _check_count(names: Sequence[str], parameters: Mapping[str, inspect.Parameter]) -> None:
    """Raise UsageError if forward() takes fewer inputs in order than there are."""
    kinds = [parameter.kind for parameter in parameters.values()]
    places = sum(kind in _IN_ORDER for kind in kinds)
    if inspect.Parameter.VAR_POSITIONAL in kinds or places >= len(names):
        return
    close = difflib.get_close_matches(names[0], parameters, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise UsageError(
        f"inputs: forward({_listed(parameters)}) has no parameter named {' or '.join(names)}, and "
        f"in order it takes {places}, not {len(names)}{hint}. Elements of a list or dict are named "
        "after their parameter: NAME.0, NAME.1 or NAME.KEY"
    )


def _check_order(names: Sequence[str], parameters: Mapping[str, inspect.Parameter]) -> None:
    """Raise UsageError if all names look like misspelt parameters, and in order would be others.

    `keys` and `querys` for forward(query, key) would be exchanged without a word.
    """
    usual = [name for name, parameter in parameters.items() if parameter.kind in _IN_ORDER]
    meant = []
    for name in names:
        meant += difflib.get_close_matches(name, usual, 1, _MISSPELT)
    if len(set(meant)) != len(names) or meant == usual[: len(names)]:
        return
    pairs = zip(names, meant, usual, strict=False)
    wrong = [(name, close, place) for name, close, place in pairs if close != place]
    name, close, place = wrong[0]
    raise UsageError(
        f"inputs: forward({_listed(parameters)}) has no parameter {name!r}; did you mean {close!r}? "
        f"In order, as inputs go if forward() has none of their names, it would be {place!r}"
    )


def _listed(parameters: Mapping[str, inspect.Parameter]) -> str:
    bare = [parameter.replace(annotation=parameter.empty) for parameter in parameters.values()]
    return str(inspect.Signature(bare))[1:-1]


def _part(path: str, names: Sequence[str], hint: Any) -> Part:
    """Return the part at a path: an input, or a container of all inputs below.

    Raises UsageError if the path is both, or if a position is missing.
    """
    prefix = f"{path}."
    below = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    if not below:
        return path
    if path in names:
        raise UsageError(f"inputs: {path!r} is an input, and {prefix + below[0]!r} a part of it")
    keys = list(dict.fromkeys(name.split(".")[0] for name in below))
    if not all(key.isdecimal() for key in keys):
        inner = hints_of_fields(hint)
        parts = {key: _part(prefix + key, names, inner.get(key)) for key in keys}
        return Container(mapping_class(hint), parts)
    for index in range(len(keys)):
        if str(index) not in keys:
            raise UsageError(
                f"inputs: there are {len(keys)} parts of {path!r}, but no {path}.{index}"
            )
    element = element_hints(hint, len(keys))
    ordered = {
        str(index): _part(f"{prefix}{index}", names, element[index]) for index in range(len(keys))
    }
    return Container(tuple if is_tuple(hint) else list, ordered)


def _filled(part: Part, tensors: Mapping[str, torch.Tensor]) -> Any:
    return tensors[part] if isinstance(part, str) else part.filled(tensors)
