"""The worth of a channel, by Torch-Pruning's measures, over all layers that would lose it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch_pruning as tp
from torch import nn
from torch.nn import functional

from converters.models.operations import Run
from converters.passes.prune.groups import Score
from runtimes.engines.torch.session import flatten
from runtimes.progress import counted


def scorer(importance: str) -> Score:
    """The measure of that name: magnitude, taylor (after `gradients`) or batchnorm."""
    magnitude = tp.importance.GroupMagnitudeImportance(p=2, normalizer=None)
    if importance == "taylor":
        return tp.importance.GroupTaylorImportance(normalizer=None)  # type: ignore[no-any-return]
    if importance == "magnitude":
        return magnitude  # type: ignore[no-any-return]
    scale = tp.importance.BNScaleImportance(normalizer=None)

    def batch_norm(group: Any) -> torch.Tensor:
        """By magnitude where there is no BatchNorm."""
        found = scale(group)
        return magnitude(group) if found is None else found  # type: ignore[no-any-return]

    return batch_norm


def gradients(module: nn.Module, runs: Sequence[Run], classification: bool) -> None:
    """Leave in each parameter the gradient of the loss on some samples; no labels are needed.

    The loss of a classifier is the cross entropy with its own best class, of other models half the square of their
    outputs: both tell how much the outputs depend on a weight. Method: Molchanov et al., Importance Estimation for
    Neural Network Pruning, CVPR 2019.
    """
    module.zero_grad()
    for run in counted(runs, "batches"):
        outputs = flatten(run(module))
        if classification:
            loss = functional.cross_entropy(outputs[0].flatten(0, -2), outputs[0].flatten(0, -2).argmax(-1))
        else:
            loss = torch.stack([0.5 * one.square().mean() for one in outputs if one.is_floating_point()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
