"""What a training keeps: its best state, and all that going on after an interruption needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

State = dict[str, torch.Tensor]


@dataclass
class Best:
    """The best state so far, by the loss on samples that were held back."""

    loss: float
    state: State
    epoch: int = -1

    def offer(self, loss: float, student: nn.Module, epoch: int) -> None:
        """Keep this state where it is better; anything finite is better than what is not."""
        if not self.loss <= loss:
            self.loss, self.state, self.epoch = loss, state_of(student), epoch


def state_of(module: nn.Module) -> State:
    """A copy of a module's state."""
    return {name: one.detach().clone() for name, one in module.state_dict().items()}


def save(
    path: Path, student: nn.Module, optimizer: torch.optim.Optimizer, best: Best, course: dict[str, Any]
) -> None:
    """Write a checkpoint, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".new")
    content = {
        "student": student.state_dict(),
        "optimizer": optimizer.state_dict(),
        "best": [best.loss, best.epoch],
        "best_state": best.state,
        "course": course,
    }
    torch.save(content, scratch)
    scratch.replace(path)


def resume(
    path: Path, student: nn.Module, optimizer: torch.optim.Optimizer, best: Best, device: torch.device
) -> dict[str, Any] | None:
    """Put a checkpoint's states in place and return its course; None where there is none that can be read."""
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        student.load_state_dict(found["student"])
        optimizer.load_state_dict(found["optimizer"])
        (loss, epoch), state, course = found["best"], found["best_state"], dict(found["course"])
    except Exception:  # a damaged file ends in any of a dozen exceptions: the training starts anew
        path.unlink()
        student.load_state_dict(best.state)  # part of it may have been put in place
        return None
    best.loss, best.epoch, best.state = loss, epoch, state
    return course
