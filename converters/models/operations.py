"""Multiply-adds of one forward pass: in all, and of each module.

Counted on the *meta* device, where tensors have shapes and no values: nothing is computed, and no fused kernel (the
fast path of nn.MultiheadAttention, scaled dot product attention) hides its products from torch's counter. A model
whose forward pass looks at values cannot run there; it is counted on the CPU, without those kernels, to the same
number.
"""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

Run = Callable[["torch.nn.Module"], Any]
"""Runs a module once."""


@dataclass(frozen=True)
class Operations:
    """Multiply-adds of convolutions and matrix products, those of attention among them.

    Attributes:
        total: of the whole run.
        modules: by module path; what a module does itself, without the modules that it calls. They add up to the
            total, since the root (the empty path) has what no other module does.
    """

    total: int
    modules: Mapping[str, int]


def count(module: torch.nn.Module, run: Run) -> Operations:
    """Count one run of `module`; raises what its forward pass raises on the CPU."""
    try:
        return _counted(_on_meta(module), run)
    except Exception:  # whatever a forward pass raises on tensors without values, or a module that cannot be copied
        with _without_fused_kernels():
            return _counted(module, run)


def _counted(module: torch.nn.Module, run: Run) -> Operations:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        ledger = _Ledger(counter)
        with ledger.listening(module):
            run(module)
    return Operations(counter.get_total_flops() // 2, {name: found // 2 for name, found in ledger.own.items()})


class _Ledger:
    """What each module does itself: the counter is read whenever a module is entered or left."""

    def __init__(self, counter: FlopCounterMode) -> None:
        self.own: Counter[str] = Counter()
        self._counter, self._entered, self._seen = counter, [""], 0

    @contextlib.contextmanager
    def listening(self, module: torch.nn.Module) -> Iterator[None]:
        """Hear of every call of a module inside, but for compiled ones, which take no hooks."""
        import torch

        hooks = []
        for name, one in module.named_modules():
            if isinstance(one, torch.jit.ScriptModule):
                continue
            hooks.append(one.register_forward_pre_hook(self._enter(name)))
            hooks.append(one.register_forward_hook(self._leave, always_call=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        def note(module: Any, given: Any) -> None:
            self._settle()
            self._entered.append(name)

        return note

    def _leave(self, module: Any, given: Any, made: Any) -> None:
        self._settle()
        self._entered.pop()

    def _settle(self) -> None:
        now = self._counter.get_total_flops()
        self.own[self._entered[-1]] += now - self._seen
        self._seen = now


def _on_meta(module: torch.nn.Module) -> torch.nn.Module:
    """A copy without values, which moves what it is given to the meta device. What it keeps stays in the copy."""
    import torch

    def bare(tensor: torch.Tensor) -> torch.Tensor:
        empty = torch.empty_like(tensor, device="meta")
        return torch.nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else empty

    held = [value for one in module.modules() for value in vars(one).values() if isinstance(value, torch.Tensor)]
    tensors = [*module.parameters(), *module.buffers(), *held]
    # A deepcopy takes what its memo has for a copy: the weights are never there twice.
    copied = copy.deepcopy(module, {id(tensor): bare(tensor) for tensor in tensors})
    copied.register_forward_pre_hook(_moved, with_kwargs=True, prepend=True)
    return copied


def _moved(module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    import torch

    def move(value: Any) -> Any:
        return value.to("meta") if isinstance(value, torch.Tensor) else value

    return tuple(map(move, given)), {name: move(value) for name, value in named.items()}


@contextlib.contextmanager
def _without_fused_kernels() -> Iterator[None]:
    """Attention as plain products, which the counter knows."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
