"""State that a model keeps between calls: buffers and attributes that forward() writes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

State = dict[str, Any]
"""Values of buffers and attributes by their paths."""

_HOLDERS = ("_parameters", "_buffers", "_modules")


def snapshot(module: torch.nn.Module) -> State:
    """Return copies of all buffers, and of the attributes of all modules that hold values."""
    state: State = {}
    for path, part in module.named_modules():
        prefix = f"{path}." if path else ""
        for name, value in (*part._buffers.items(), *_attributes(part)):
            state[prefix + name] = _copied(value)
    return state


def _attributes(part: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    for name, value in vars(part).items():
        if name not in _HOLDERS and "hooks" not in name:
            yield name, value


def written(module: torch.nn.Module, before: State) -> list[str]:
    """Return the paths of what differs now from a snapshot."""
    now = snapshot(module)
    paths = [*before, *(path for path in now if path not in before)]
    return [path for path in paths if not _same(before.get(path), now.get(path))]


def restore_buffers(module: torch.nn.Module, before: State) -> None:
    """Write the buffers of a snapshot back."""
    for path, part in module.named_modules():
        prefix = f"{path}." if path else ""
        for name, buffer in part._buffers.items():
            value = before.get(prefix + name)
            if buffer is not None and value is not None:
                part._buffers[name] = value.clone()


def _copied(value: Any) -> Any:
    """Return a value that later calls cannot change; None for what holds no numbers."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple | deque):
        return [_copied(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _copied(item) for key, item in value.items()}
    return None


def _same(first: Any, second: Any) -> bool:
    import torch

    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return first.shape == second.shape and bool(
            torch.equal(first.nan_to_num(), second.nan_to_num())
        )
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(
            _same(value, second[key]) for key, value in first.items()
        )
    return type(first) is type(second) and bool(first == second)
