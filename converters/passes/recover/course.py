"""The course of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class Course:
    """Course of a training, as the manifest reports it.

    Attributes:
        before, batch_norm, after: loss on the held-out samples: as pruned, with re-estimated
            BatchNorm statistics, at the end.
        curve: the same after each epoch.
        epochs, seconds: number and duration, over all runs if it was resumed.
        stopped: why it ended.
        resumed: whether it was interrupted.
        lowered: epochs after which it returned to its best state, with a lower learning rate.
        samples, held_back: sizes of the training set, and of the held-out set that decides when to
            stop.
        features: inner layers that were compared.
    """

    before: float = math.nan
    batch_norm: float = math.nan
    after: float = math.nan
    curve: list[float] = field(default_factory=list)
    epochs: int = 0
    seconds: float = 0.0
    stopped: str = "no training was requested"
    resumed: bool = False
    lowered: list[int] = field(default_factory=list)
    samples: int = 0
    held_back: int = 0
    features: list[str] = field(default_factory=list)
