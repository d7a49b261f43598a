"""The teacher: the model as it was loaded.

It answers once per sample if the samples stay the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import nn

from converters.models.call import call
from converters.passes.recover.distillation import Answers, Distillation
from runtimes.machine.machine import supports

REMEMBERED = 256 << 20
"""Bytes of answers that are kept."""

Tensors = dict[str, torch.Tensor]


class Teacher:
    """Answers batches of samples."""

    def __init__(self, module: nn.Module, distillation: Distillation, remember: bool) -> None:
        """`remember`: each index always stands for the same sample."""
        self.module = module.eval().requires_grad_(False)
        self._distillation, self._remember = distillation, remember
        self._answers: dict[int, list[torch.Tensor]] = {}
        self._room = REMEMBERED

    @torch.no_grad()
    def answers(self, part: Sequence[int], tensors: Tensors) -> Answers:
        """Return the model's answers to the samples of these indices, in float32."""
        if self._remember and self._answers.keys() >= set(part):
            columns = zip(*map(self._answers.__getitem__, part), strict=True)
            return list(map(torch.stack, columns)), []
        device = next(iter(tensors.values())).device
        # An answer that is remembered is computed once, in full precision.
        with autocast_bfloat16(device, not self._remember):
            outputs, inner = self._distillation.answers(
                self.module, lambda module: call(module, tensors)
            )
        outputs = [output.float() for output in outputs]
        if self._remember and not inner:
            self._keep(part, outputs)
        return outputs, inner

    def _keep(self, part: Sequence[int], outputs: list[torch.Tensor]) -> None:
        if self._room <= 0 or any(len(output) != len(part) for output in outputs):
            return
        for row, index in enumerate(part):
            self._answers[index] = [output[row].clone() for output in outputs]
        self._room -= sum(output.nbytes for output in outputs)


def autocast_bfloat16(
    device: torch.device, wanted: bool = True
) -> contextlib.AbstractContextManager[object]:
    """Compute convolutions and matrix products in bfloat16 if the device has instructions for it.

    That takes half the time.
    """
    able = device.type == "cuda" or supports("avx512_bf16", "amx_bf16")
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and able)
