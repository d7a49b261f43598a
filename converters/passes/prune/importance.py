"""Importance of a channel, by Torch-Pruning's measures, over all layers that would lose it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch_pruning as tp
from torch import nn
from torch.nn import functional

from converters.models.operations import Run
from converters.passes.prune.groups import Score
from runtimes.engines.torch.outputs import flatten
from runtimes.progress import counted


def scorer(importance: str) -> Score:
    """Return a measure: magnitude, taylor (after `accumulate_gradients`) or batchnorm."""
    magnitude = tp.importance.GroupMagnitudeImportance(p=2, normalizer=None)
    if importance == "taylor":
        return tp.importance.GroupTaylorImportance(normalizer=None)  # type: ignore[no-any-return]
    if importance == "magnitude":
        return magnitude  # type: ignore[no-any-return]
    scale = tp.importance.BNScaleImportance(normalizer=None)

    def batch_norm(group: Any) -> torch.Tensor:
        """Fall back to magnitude if there is no BatchNorm."""
        scores = scale(group)
        return magnitude(group) if scores is None else scores  # type: ignore[no-any-return]

    return batch_norm


def accumulate_gradients(module: nn.Module, runs: Sequence[Run], classification: bool) -> None:
    """Accumulate in each parameter the gradient of the loss on some samples; no labels are needed.

    The loss of a classifier is the cross entropy with its best class, of other models half the
    square of their outputs: both show how much the outputs depend on a weight. Method: Molchanov et
    al., Importance Estimation for Neural Network Pruning, CVPR 2019.
    """
    module.zero_grad()
    for run in counted(runs, "batches"):
        outputs = flatten(run(module))
        if classification:
            logits = _class_scores(outputs[0])
            loss = functional.cross_entropy(logits, logits.argmax(-1))
        else:
            floats = [output for output in outputs if output.is_floating_point()]
            loss = torch.stack([0.5 * output.square().mean() for output in floats]).sum()
        loss.backward()  # type: ignore[no-untyped-call]


def _class_scores(output: torch.Tensor) -> torch.Tensor:
    """Return scores [samples, classes]; of a single score those of two classes."""
    if output.ndim < 2 or output.shape[-1] == 1:
        score = output.reshape(-1, 1)
        return torch.cat([torch.zeros_like(score), score], -1)
    return output.flatten(0, -2)
