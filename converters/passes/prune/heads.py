"""Attentions that can lose heads: those with whose replacement the model answers as before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from converters.models.attention import replace_attentions, replaceable
from converters.models.operations import Run
from converters.models.parts import put
from runtimes.engines.torch.outputs import flatten

_EQUAL = 1e-3  # of the largest output: float32 keeps seven digits, a deep model loses some


def replace_same(root: nn.Module, run: Run) -> list[str]:
    """Replace attentions by HeadAttention if the model then answers `run` as before, in place.

    An attention that is called in another way (a mask for each head) stays. Returns the module
    paths of those that were replaced.
    """
    paths = [path for path, part in root.named_modules() if path and replaceable(part)]
    if not paths:
        return []
    with torch.no_grad():
        before = flatten(run(root))
        if _replace_if_same(root, run, before, paths):
            return paths
        return [path for path in paths if _replace_if_same(root, run, before, [path])]


def _replace_if_same(
    root: nn.Module, run: Run, before: Sequence[torch.Tensor], paths: Sequence[str]
) -> bool:
    """Return whether the model answers as before with these replaced; if not, they are put back."""
    originals = {path: root.get_submodule(path) for path in paths}
    replace_attentions(root, paths)
    try:
        same = all(map(_equal, before, flatten(run(root))))
    except Exception:  # whatever a forward pass raises that uses the attention in another way
        same = False
    if not same:
        for path, original in originals.items():
            put(root, path, original)
    return same


def _equal(before: torch.Tensor, after: torch.Tensor) -> bool:
    """Return whether two outputs differ by no more than another order of the same sums does."""
    if before.shape != after.shape or not before.is_floating_point():
        return torch.equal(before, after)
    largest = float(before.nan_to_num().abs().max()) if before.numel() else 0.0
    return torch.allclose(before, after, _EQUAL, _EQUAL * largest, equal_nan=True)
