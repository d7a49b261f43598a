"""Checkpoints of a training: its best state, and everything to continue after an interruption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

State = dict[str, torch.Tensor]


@dataclass
class Best:
    """The best state so far, by the loss on the held-out samples."""

    loss: float
    state: State
    epoch: int = -1

    def offer(self, loss: float, student: nn.Module, epoch: int) -> None:
        """Keep this state if it is better; anything finite is better than a value that is not."""
        if not self.loss <= loss:
            self.loss, self.state, self.epoch = loss, copy_state(student), epoch


def copy_state(module: nn.Module) -> State:
    """Return a copy of a module's state."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def save(
    path: Path,
    student: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: Best,
    course: dict[str, Any],
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
    path: Path,
    student: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: Best,
    device: torch.device,
) -> dict[str, Any] | None:
    """Restore a checkpoint's states and return its course, or None if none can be read."""
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        student.load_state_dict(content["student"])
        optimizer.load_state_dict(content["optimizer"])
        (loss, epoch), state, course = (
            content["best"],
            content["best_state"],
            dict(content["course"]),
        )
    except Exception:  # a damaged file ends in any of a dozen exceptions: the training starts again
        path.unlink()
        student.load_state_dict(best.state)  # part of it may have been put in place
        return None
    best.loss, best.epoch, best.state = loss, epoch, state
    return course
