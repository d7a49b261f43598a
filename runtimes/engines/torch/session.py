"""The common session of the torch engines: arrays as inputs, flattened outputs."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from runtimes.engines.torch.inputs import to_tensors
from runtimes.engines.torch.outputs import flatten, widened
from runtimes.errors import BurnishError
from runtimes.session import Session
from runtimes.spec import Arrays, Dims, Specs

if TYPE_CHECKING:
    import torch


class TorchSession(Session):
    """A callable torch module on one device."""

    shares_memory = False  # `_run` copies both ways

    def __init__(
        self,
        module: Any,
        inputs: Specs,
        outputs: Specs,
        dims: Dims,
        device: str,
        by_keyword: bool = False,
    ) -> None:
        """`by_keyword`: the module takes its inputs by name; otherwise in the order of `inputs`."""
        super().__init__(inputs, outputs, dims)
        if device == "cuda":
            no_tf32()
        self._module, self._device, self._by_keyword = module, device, by_keyword

    def _run(self, inputs: Arrays) -> Arrays:
        import torch

        _mind_forks()
        with torch.inference_mode():
            # Copies, since a model may write to its inputs, and return a buffer that it keeps.
            # order="C": torch refuses negative strides, which a flipped array has.
            arrays = {name: np.array(inputs[name], order="C") for name in self.inputs}
            result = self._call(to_tensors(arrays, self._device))
            outputs = [_array(tensor) for tensor in flatten(result)]
        if len(outputs) != len(self.outputs):
            raise BurnishError(
                f"the model returned {len(outputs)} tensors, but {len(self.outputs)} were expected "
                f"({', '.join(self.outputs)})"
            )
        return dict(zip(self.outputs, outputs, strict=True))

    def _call(self, tensors: dict[str, torch.Tensor]) -> Any:
        return self._module(**tensors) if self._by_keyword else self._module(*tensors.values())

    def _close(self) -> None:
        self._module = None


def _array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return a tensor as an array whose memory is the caller's alone."""
    array: np.ndarray[Any, Any] = widened(tensor.detach()).cpu().resolve_conj().numpy()
    return array.copy()


def use_threads(threads: int | None) -> None:
    """Set torch's intra-operator threads for this process; in a forked one they stay at one."""
    import torch

    if threads and not _threads_lost:
        torch.set_num_threads(threads)


_threads_lost = False
"""Whether this process was forked from one whose sessions had computed on OpenMP's threads."""


@cache
def _mind_forks() -> None:
    """Have processes that are forked from now on compute on one thread, and so not hang.

    OpenMP's other threads stay in the parent, and libgomp waits for them in the child. Threads that
    never computed are no loss: a fork server that only imports torch gives children that have all.
    """
    os.register_at_fork(after_in_child=_lose_threads)


def _lose_threads() -> None:
    import torch

    global _threads_lost
    _threads_lost = True
    torch.set_num_threads(1)


def no_tf32() -> None:
    """Disable TF32 on GPUs: it keeps 10 bits, a thousand times eager's error on the CPU."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def missing_torch() -> str | None:
    """Return why torch cannot be used here, or None; torch itself is not imported."""
    from importlib.util import find_spec

    return None if find_spec("torch") else "torch is not installed: pip install 'burnish[convert]'"


def matrix_products(side: int, threads: int) -> list[tuple[str, Callable[[], Any]]]:
    """Return (precision, function) pairs: products of square matrices to measure a peak."""
    import torch

    use_threads(threads)
    full = torch.randn(side, side)
    half = full.bfloat16()
    return [("fp32", lambda: full @ full), ("bf16", lambda: half @ half)]
