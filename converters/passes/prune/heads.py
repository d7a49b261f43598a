"""Which attentions can lose heads: those with whose replacement the model answers as before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from converters.models.attention import replace, replaceable
from converters.models.operations import Run
from converters.models.parts import put
from runtimes.engines.torch.session import flatten

_EQUAL = 1e-3  # of the largest output: float32 keeps seven digits, a deep model loses some


def replace_same(root: nn.Module, run: Run) -> list[str]:
    """Put HeadAttention in the place of each attention with which the model answers `run` as before, in place.

    What asks an attention for something else (a mask for each head) keeps it. Returns the module paths of those
    that were replaced.
    """
    paths = [path for path, one in root.named_modules() if path and replaceable(one)]
    if not paths:
        return []
    with torch.no_grad():
        before = flatten(run(root))
        if _answers(root, run, before, paths):
            return paths
        return [path for path in paths if _answers(root, run, before, [path])]


def _answers(root: nn.Module, run: Run, before: Sequence[torch.Tensor], paths: Sequence[str]) -> bool:
    """Whether the model answers as before with these replaced; where not, they are put back."""
    originals = {path: root.get_submodule(path) for path in paths}
    replace(root, paths)
    try:
        same = all(map(_equal, before, flatten(run(root))))
    except Exception:  # whatever a forward pass raises that asked for something else
        same = False
    for path, one in originals.items() if not same else ():
        put(root, path, one)
    return same


def _equal(before: torch.Tensor, found: torch.Tensor) -> bool:
    """Whether two outputs differ by no more than another order of the same sums makes."""
    if before.shape != found.shape or not before.is_floating_point():
        return torch.equal(before, found)
    largest = float(before.nan_to_num().abs().max()) if before.numel() else 0.0
    return torch.allclose(before, found, _EQUAL, _EQUAL * largest, equal_nan=True)
