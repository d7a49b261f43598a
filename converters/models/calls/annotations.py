"""Containers that the annotations of forward() name: `list[Tensor]`, a data class, a named tuple."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def hints_of_parameters(module: torch.nn.Module) -> dict[str, Any]:
    """Return the annotations of forward() by parameter; none if they cannot be read."""
    try:
        return typing.get_type_hints(module.forward)
    except Exception:  # an annotation is code of the user's, which may refer to what is not there
        return {}


def _candidates(hint: Any) -> Iterator[Any]:
    """Yield an annotation, or the members of a union."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        for member in typing.get_args(hint):
            yield from _candidates(member)
    else:
        yield hint


def is_tuple(hint: Any) -> bool:
    """Return whether an annotation is a tuple; of a union, the first container counts."""
    origins = [typing.get_origin(member) or member for member in _candidates(hint)]
    return next((origin for origin in origins if origin in (list, tuple, dict)), None) is tuple


def mapping_class(hint: Any) -> Callable[..., Any]:
    """Return dict, or the data class or named tuple that an annotation names."""
    for member in _candidates(hint):
        is_class = isinstance(member, type)
        if is_class and (is_dataclass(member) or hasattr(member, "_fields")):
            return typing.cast("Callable[..., Any]", member)
    return dict


def hints_of_fields(hint: Any) -> dict[str, Any]:
    """Return the annotations of the fields of a data class or named tuple; of others none."""
    container = mapping_class(hint)
    try:
        return {} if container is dict else typing.get_type_hints(container)
    except Exception:  # as in `hints_of_parameters`
        return {}


def element_hints(hint: Any, count: int) -> list[Any]:
    """Return the annotations of the elements of a list or tuple."""
    for member in _candidates(hint):
        arguments = typing.get_args(member)
        if len(arguments) == count and typing.get_origin(member) is tuple:
            return list(arguments)
        if arguments:
            return [arguments[0]] * count
    return [None] * count
