"""Multiply-adds of one forward pass: in total, and of each module.

They are counted on the *meta* device, where tensors have shapes and no values: nothing is computed,
and no fused kernel (the fast path of nn.MultiheadAttention, scaled dot product attention) hides its
products from torch's counter. A model whose forward pass depends on values cannot run there; it is
counted on the CPU, without those kernels, with the same result.
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
    """Multiply-adds of convolutions and matrix products, including those of attention.

    Attributes:
        total: of the whole run.
        modules: by module path, without the modules that a module calls. They add up to the total,
            since the root (the empty path) has all that no other module computes.
    """

    total: int
    modules: Mapping[str, int]


def count(module: torch.nn.Module, run: Run) -> Operations:
    """Count one run of `module`; raises what its forward pass raises on the CPU."""
    try:
        return _counted(_on_meta(module), run)
    except Exception:
        # A forward pass raises anything on tensors without values; some modules cannot be copied.
        with without_fused_kernels():
            return _counted(module, run)


def count_calls(run: Callable[[], Any]) -> int:
    """Count the calls of torch's operators while a function runs."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
        count = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.count += 1
            return func(*args, **(kwargs or {}))

    with Calls() as calls:  # type: ignore[no-untyped-call]
        run()
    return int(calls.count)


def _counted(module: torch.nn.Module, run: Run) -> Operations:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        ledger = _Ledger(counter)
        with ledger.recording(module):
            run(module)
    modules = {name: flops // 2 for name, flops in ledger.flops.items()}
    return Operations(counter.get_total_flops() // 2, modules)


class _Ledger:
    """A ledger of each module's own operations.

    The counter is read whenever a module is entered or left.
    """

    def __init__(self, counter: FlopCounterMode) -> None:
        self.flops: Counter[str] = Counter()
        self._counter, self._entered, self._seen = counter, [""], 0

    @contextlib.contextmanager
    def recording(self, module: torch.nn.Module) -> Iterator[None]:
        """Record the calls of all modules inside, except compiled ones, which take no hooks."""
        import torch

        hooks = []
        for name, part in module.named_modules():
            if isinstance(part, torch.jit.ScriptModule):
                continue
            hooks.append(part.register_forward_pre_hook(self._enter(name)))
            hooks.append(part.register_forward_hook(self._leave, always_call=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        def note(module: Any, args: Any) -> None:
            self._settle()
            self._entered.append(name)

        return note

    def _leave(self, module: Any, args: Any, result: Any) -> None:
        self._settle()
        self._entered.pop()

    def _settle(self) -> None:
        total = self._counter.get_total_flops()
        self.flops[self._entered[-1]] += total - self._seen
        self._seen = total


def _on_meta(module: torch.nn.Module) -> torch.nn.Module:
    """Copy a module without values; the copy moves its inputs to the meta device.

    All that a forward pass stores stays in the copy.
    """
    import torch

    def bare(tensor: torch.Tensor) -> torch.Tensor:
        empty = torch.empty_like(tensor, device="meta")
        if isinstance(tensor, torch.nn.Parameter):
            return torch.nn.Parameter(empty, tensor.requires_grad)
        return empty

    tensors = [*module.parameters(), *module.buffers()]
    for part in module.modules():
        tensors += [value for value in vars(part).values() if isinstance(value, torch.Tensor)]
    # A deepcopy uses the copies in its memo: the weights are never in memory twice.
    copied = copy.deepcopy(module, {id(tensor): bare(tensor) for tensor in tensors})
    copied.register_forward_pre_hook(_moved, with_kwargs=True, prepend=True)
    return copied


def _moved(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Move the tensors among the arguments to the meta device."""
    import torch

    def move(value: Any) -> Any:
        return value.to("meta") if isinstance(value, torch.Tensor) else value

    return tuple(map(move, args)), {name: move(value) for name, value in kwargs.items()}


@contextlib.contextmanager
def without_fused_kernels() -> Iterator[None]:
    """Compute attention as plain products, which the counter supports."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
