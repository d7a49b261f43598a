"""What can be removed: channels that depend on each other, and attention heads, with what each is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import nn

from converters.models.attention import HeadAttention
from converters.models.parts import LAYERS
from converters.passes.prune.depgraph import Dependencies
from converters.recipe.prune import PruneOptions
from runtimes.errors import UsageError
from runtimes.registry import nearest

_WITH_CHANNELS = (*LAYERS, nn.modules.batchnorm._BatchNorm, nn.PReLU)

_SHOWN = 4  # reasons in a message

Score = Callable[[Any], torch.Tensor | None]
"""The worth of each channel of a DepGraph group; None where the measure has none."""


@dataclass(frozen=True)
class Use:
    """A layer that a group's channels enter (`in`) or leave (`out`), and the share of that side that they are."""

    layer: str
    side: str
    share: float


@dataclass(frozen=True)
class GroupMember:
    """A layer that becomes smaller: its indices on one side, and the unit that each belongs to."""

    layer: str
    side: str
    indices: tuple[int, ...]
    units: tuple[int, ...]


@dataclass(frozen=True)
class Choice:
    """Units of the model (channels of one group, or heads of one attention) of which some can go.

    Attributes:
        name: module path of the layer that makes them.
        scores: the worth of each unit, of mean 1 [units].
        tiles: in so many convolution groups the same units go.
        step: the units that stay are a multiple of this.
        most: at most this share goes, of what the model had before any pass.
        uses: the layers that cost less.
        members: the layers that become smaller.
        whole: units that there were before any pass; by default those that there are.
    """

    name: str
    scores: np.ndarray[Any, Any]
    tiles: int
    step: int
    most: float
    uses: tuple[Use, ...]
    members: tuple[GroupMember, ...]
    whole: int | None = None

    @property
    def least(self) -> int:
        """So many units must stay."""
        units = len(self.scores)
        left = (self.whole or units) * (1 - self.most)
        return min(units, max(self.step, math.ceil(left / self.step) * self.step))

    def gone(self, kept: int) -> set[int]:
        """The units that go where `kept` stay: those of least worth, in each tile."""
        units = len(self.scores)
        worst = np.argsort(self.scores, kind="stable")[: units - kept]
        return {int(index) + tile * units for tile in range(self.tiles) for index in worst}


def removed(choices: Iterable[Choice], kept: Iterable[int]) -> dict[str, dict[str, set[int]]]:
    """The indices that go from each side of each layer, for `shrink`."""
    found: dict[str, dict[str, set[int]]] = {}
    for choice, units in zip(choices, kept, strict=True):
        gone = choice.gone(units)
        for one in choice.members if gone else ():
            side = found.setdefault(one.layer, {}).setdefault(one.side, set())
            side.update(index for index, unit in zip(one.indices, one.units, strict=True) if unit in gone)
    return found


def find_choices(
    module: nn.Module,
    options: PruneOptions,
    forward: Callable[[nn.Module], Any],
    score: Score,
    gradients: bool = False,
    whole: Mapping[str, int] | None = None,
) -> list[Choice]:
    """All that can go.

    Args:
        module: whose attentions were replaced by ones whose heads can go.
        options: limits and excluded layers.
        forward: runs the module once.
        score: the worth of a group's channels.
        gradients: heads are told by weight times gradient.
        whole: units of the layers before any pass, by `units`; by default those of the module.

    Raises:
        UsageError: the module cannot be traced, a name in the options matches no layer, or nothing can go.
    """
    limits = _Limits(module, options, whole or units(module))
    dependencies = Dependencies(module, forward)
    attentions = {f"{name}.out_proj" for name, one in module.named_modules() if isinstance(one, HeadAttention)}
    found = [_choice(group, dependencies, options, score, limits) for group in dependencies.groups(LAYERS)]
    channels = [one for one in found if one and not attentions & {use.layer for use in one.uses}]
    every = [*channels, *_heads(module, limits, gradients)]
    if not every:
        raise UsageError(f"prune: nothing in this model can be removed as a whole{_because(module, dependencies)}")
    return every


def _because(module: nn.Module, dependencies: Dependencies) -> str:
    """Why nothing is left to choose from, as the end of a sentence."""
    compiled = [name for name, one in module.named_modules() if isinstance(one, torch.jit.ScriptModule)]
    told = [f"{name} is compiled, so nobody sees what it does" for name in compiled[:1]]
    told += [f"{name} stays whole, as {why}" for name, why in dependencies.obstacles.items()]
    return ": " + "; ".join(told[:_SHOWN]) if told else ": `exclude`, `limits` and `round_to` leave nothing"


def _choice(
    group: Any, dependencies: Dependencies, options: PruneOptions, score: Score, limits: _Limits
) -> Choice | None:
    uses: list[Use] = []
    members: list[GroupMember] = []
    tiles = 1
    for item in group:
        layer = item.dep.target.module
        if not isinstance(layer, _WITH_CHANNELS):
            continue
        side, name = "out" if dependencies.leaves(item.dep) else "in", dependencies.names[layer]
        members.append(GroupMember(name, side, tuple(item.idxs), tuple(item.root_idxs)))
        if isinstance(layer, LAYERS):
            uses.append(Use(name, side, len(item.idxs) / _width(layer, side)))
            depthwise = getattr(layer, "groups", 1) == getattr(layer, "in_channels", 0)
            tiles = tiles if depthwise else max(tiles, getattr(layer, "groups", 1))
    most, worth = min((limits.most(use.layer) for use in uses), default=0.0), score(group)
    step = options.round_to // math.gcd(options.round_to, tiles)
    if not most or worth is None or len(worth) < 2 * step * tiles:
        return None
    name = dependencies.names[group[0].dep.target.module]
    scores = _of_mean_one(worth.detach().double().cpu().reshape(tiles, -1).mean(0).numpy())
    # A depthwise convolution is met on both of its sides: it is one use.
    whole = limits.whole[name] // tiles
    return Choice(name, scores, tiles, step, most, tuple(dict.fromkeys(uses)), tuple(dict.fromkeys(members)), whole)


def _heads(module: nn.Module, limits: _Limits, gradients: bool) -> Iterator[Choice]:
    for name, part in module.named_modules():
        if isinstance(part, HeadAttention) and (most := limits.most(name)) and part.num_heads > 1:
            uses = Use(name, "out", 1.0), Use(f"{name}.out_proj", "in", 1.0)
            every = tuple(range(part.num_heads))
            scores = _of_mean_one(part.scores(gradients).double().cpu().numpy())
            member = GroupMember(name, "heads", every, every)
            yield Choice(name, scores, 1, 1, most, uses, (member,), limits.whole[name])


def units(module: nn.Module) -> dict[str, int]:
    """The outputs of every layer, the heads of every attention, by module path."""
    found = {}
    for name, one in module.named_modules():
        if isinstance(one, (HeadAttention, nn.MultiheadAttention)):
            found[name] = one.num_heads
        elif isinstance(one, LAYERS):
            found[name] = _width(one, "out")
    return found


def _width(layer: nn.Module, side: str) -> int:
    names = ("out_channels", "in_channels") if hasattr(layer, "out_channels") else ("out_features", "in_features")
    return int(getattr(layer, names[side == "in"]))


def _of_mean_one(worth: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return worth / max(float(worth.mean()), 1e-30)


class _Limits:
    """What `most`, `limits` and `exclude` say of each layer."""

    def __init__(self, module: nn.Module, options: PruneOptions, whole: Mapping[str, int]) -> None:
        layers = [name for name, one in module.named_modules() if isinstance(one, (*LAYERS, HeadAttention))]
        self._options, self.whole = options, whole
        check_names("prune.exclude", options.exclude, layers, module)
        check_names("prune.limits", list(options.limits), layers, module)

    def most(self, layer: str) -> float:
        """The share of a layer's units that may go."""
        own = [limit for pattern, limit in self._options.limits.items() if means(pattern, layer)]
        excluded = any(means(pattern, layer) for pattern in self._options.exclude)
        return 0.0 if excluded else min([self._options.most, *own])


def check_names(key: str, patterns: Sequence[str], layers: Sequence[str], module: nn.Module) -> None:
    """Raise UsageError for a pattern that means no layer, with the nearest names."""
    for pattern in patterns:
        if any(means(pattern, layer) for layer in layers):
            continue
        other = next((one for name, one in module.named_modules() if name and means(pattern, name)), None)
        if other is not None:
            raise UsageError(
                f"passes.{key}: {pattern!r} is a {type(other).__name__}, which pruning does not choose from: name "
                "the layer that makes its channels, or leave it out"
            )
        raise UsageError(f"passes.{key}: no layer is named {pattern!r}{nearest(pattern, list(layers))}")


def means(pattern: str, layer: str) -> bool:
    """Whether a name in a recipe means a layer: itself, by a pattern, or by a module that holds it."""
    return fnmatchcase(layer, pattern) or layer.startswith(f"{pattern}.")
