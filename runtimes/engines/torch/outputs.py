"""The tensors in what forward() returns, in order, with names from the structure around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from runtimes.errors import UsageError

if TYPE_CHECKING:
    import torch

Path = tuple[str | int, ...]
"""Keys (text) and positions (numbers) on the way to a tensor."""


def flatten(result: Any) -> list[torch.Tensor]:
    """Return the tensors of a result in order; None is left out.

    A result is a tensor, or tuples, lists, mappings, named tuples and data classes of results.
    Raises UsageError for anything else.
    """
    return [tensor for _, tensor in _leaves(result, ())]


def name_outputs(result: Any) -> list[tuple[str, torch.Tensor]]:
    """Return the tensors of a result with their names: paths such as `logits` or `boxes.0`.

    A path that begins with a position begins with `output_` and that; tensors in tuples and lists
    alone are numbered in order: `output_0`, `output_1`. Raises UsageError as `flatten`.
    """
    leaves = list(_leaves(result, ()))
    if not any(isinstance(key, str) for path, _ in leaves for key in path):
        return [(f"output_{index}", tensor) for index, (_, tensor) in enumerate(leaves)]
    named = []
    for path, tensor in leaves:
        first, *rest = path
        start = first if isinstance(first, str) else f"output_{first}"
        named.append((".".join([start, *map(str, rest)]), tensor))
    return named


def is_plain(result: Any) -> bool:
    """Return whether a result consists of tensors, tuples, lists and dicts: all exporters take it.

    bfloat16, which NumPy lacks, is not plain.
    """
    import torch

    if isinstance(result, torch.Tensor):
        return result.dtype != torch.bfloat16
    if type(result) is dict:
        return all(map(is_plain, result.values()))
    return type(result) in (tuple, list) and all(map(is_plain, result))


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """Return bfloat16, which NumPy lacks, as float32."""
    import torch

    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, torch.Tensor]]:
    import torch

    if isinstance(value, torch.Tensor):
        yield path, value
        return
    children = _children(value)
    if children is None:
        place = f" in {'.'.join(map(str, path))}" if path else ""
        raise UsageError(
            f"the model returns a {type(value).__name__}{place}; only tensors can be exported: "
            "return None there, or leave it out in a module around the model"
        )
    for key, child in children:
        yield from _leaves(child, (*path, key))


def _children(value: Any) -> list[tuple[str | int, Any]] | None:
    """Return the parts of a structure with their keys; None for what is no structure."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [(str(key), child) for key, child in value.items()]
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(map(str, value._fields), value, strict=True))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return list(enumerate(value))
    return None
