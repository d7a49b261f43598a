"""Parts that no forward pass in eval mode reads: GoogLeNet's aux1 and aux2, Inception's AuxLogits.

No trace reaches them. They would keep their widths while the layers that they read from become
narrower, and every count of parameters would include them.
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
from runtimes.engines.torch.outputs import flatten


def drop_unread(module: nn.Module, runs: Sequence[Run]) -> dict[str, int]:
    """Drop the parts that none of the runs reads, in place.

    Returns the parameters of each dropped part, by module path. If the model does not answer as
    before without them (it uses something else than their weights), they stay.
    """
    with torch.no_grad():
        before = _outputs(module, runs)
        parts = {path: module.get_submodule(path) for path in find_unread(module, runs)}
        for path in parts:
            put(module, path, None)
        if not _answers_as_before(module, runs, before):
            for path, part in parts.items():
                put(module, path, part)
            return {}
    drop(module, parts)
    return {path: sum(map(torch.numel, part.parameters())) for path, part in parts.items()}


def find_unread(module: nn.Module, runs: Iterable[Run]) -> list[str]:
    """Return module paths of the largest parts with weights that no run uses.

    A part is unused if no module in it is called and no function gets one of its weights. Calls
    alone do not show that: Swin's attention reads the weights of linear layers that are never
    called. A compiled part counts as read, since its inside cannot be observed.
    """
    read: set[int] = set()
    hooks = []
    for part in module.modules():
        if isinstance(part, torch.jit.ScriptModule):
            read.add(id(part))
        else:
            hooks.append(part.register_forward_pre_hook(lambda part, inputs: read.add(id(part))))
    try:
        with torch.no_grad(), _Reading(read):
            for run in runs:
                run(module)
    finally:
        for hook in hooks:
            hook.remove()
    return list(_largest("", module, read))


def _largest(prefix: str, module: nn.Module, read: set[int]) -> Iterator[str]:
    for name, part in module.named_children():
        path = f"{prefix}.{name}" if prefix else name
        tensors = [*part.parameters(), *part.buffers()]
        if read & set(map(id, (*part.modules(), *tensors))):
            yield from _largest(path, part, read)
        elif tensors:
            yield path


class _Reading(TorchFunctionMode):
    """Records each tensor that a torch function gets."""

    def __init__(self, read: set[int]) -> None:
        super().__init__()
        self._read = read

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        keywords = kwargs or {}
        for leaf in tree_leaves((args, keywords)):
            if isinstance(leaf, torch.Tensor):
                self._read.add(id(leaf))
        return func(*args, **keywords)


def _outputs(module: nn.Module, runs: Sequence[Run]) -> list[list[torch.Tensor]]:
    """Return the output tensors of each run."""
    return [flatten(run(module)) for run in runs]


def _answers_as_before(
    module: nn.Module, runs: Sequence[Run], before: Sequence[Sequence[torch.Tensor]]
) -> bool:
    """Return whether the runs give the same outputs as before."""
    try:
        after = _outputs(module, runs)
    except Exception:  # whatever a forward pass raises that misses a part
        return False
    for outputs, expected in zip(after, before, strict=True):
        if len(outputs) != len(expected) or not all(map(torch.equal, outputs, expected)):
            return False
    return True
