"""Parts that no forward pass in eval mode reads: GoogLeNet's aux1 and aux2, Inception's AuxLogits.

No trace reaches them. They would keep their widths where what they read from becomes narrower, and every count of
parameters would have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from converters.models.operations import Run
from converters.models.parts import drop, put
from runtimes.engines.torch.session import flatten


def drop_unread(module: nn.Module, runs: Sequence[Run]) -> dict[str, int]:
    """Drop what none of the runs reads, in place; the parameters of each dropped part, by module path.

    Where the model does not answer as before without them (it asks them something else than their weights), they
    stay.
    """
    with torch.no_grad():
        before = [flatten(run(module)) for run in runs]
        parts = {path: module.get_submodule(path) for path in unread(module, runs)}
        for path in parts:
            put(module, path, None)
        if not _answers(module, runs, before):
            for path, part in parts.items():
                put(module, path, part)
            return {}
    drop(module, parts)
    return {path: sum(one.numel() for one in part.parameters()) for path, part in parts.items()}


def unread(module: nn.Module, runs: Iterable[Run]) -> list[str]:
    """Module paths of the largest parts with weights of which nothing is called, and no function is given a weight.

    To look for calls is not enough: Swin's attention reads the weights of linear layers that nobody calls. A
    compiled part counts as read: what it does, nobody sees.
    """
    compiled = {id(one) for one in module.modules() if isinstance(one, torch.jit.ScriptModule)}
    read, seen = set(compiled), [one for one in module.modules() if id(one) not in compiled]
    hooks = [one.register_forward_pre_hook(lambda part, given: read.add(id(part))) for one in seen]
    try:
        with torch.no_grad(), _Reading(read):
            for run in runs:
                run(module)
    finally:
        for hook in hooks:
            hook.remove()
    return list(_largest("", module, read))


def _largest(path: str, module: nn.Module, read: set[int]) -> Iterator[str]:
    for name, part in module.named_children():
        own = f"{path}.{name}" if path else name
        tensors = [*part.parameters(), *part.buffers()]
        if any(id(one) in read for one in (*part.modules(), *tensors)):
            yield from _largest(own, part, read)
        elif tensors:
            yield own


class _Reading(TorchFunctionMode):
    """Notes every tensor that a torch function is given."""

    def __init__(self, read: set[int]) -> None:
        super().__init__()
        self._read = read

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        self._read.update(id(one) for one in tree_leaves((args, named)) if isinstance(one, torch.Tensor))
        return func(*args, **named)


def _answers(module: nn.Module, runs: Sequence[Run], before: Sequence[Sequence[torch.Tensor]]) -> bool:
    """Whether the runs give the same outputs as before."""
    try:
        after = [flatten(run(module)) for run in runs]
    except Exception:  # whatever a forward pass raises that misses a part
        return False
    return all(
        len(one) == len(other) and all(map(torch.equal, one, other))
        for one, other in zip(before, after, strict=True)
    )
