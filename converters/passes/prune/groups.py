"""Candidates for removal: groups of channels, and attention heads, with their importance."""

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
"""The importance of each channel of a DepGraph group; None if the measure has none."""


@dataclass(frozen=True)
class Use:
    """A layer that a group's channels enter (`in`) or leave (`out`), and their share there."""

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
        scores: the importance of each unit, of mean 1 [units].
        tiles: in so many convolution groups the same units go.
        step: the units that stay are a multiple of this.
        most: at most this share goes, of the units before any pass.
        uses: the layers that cost less.
        members: the layers that become smaller.
        whole: units before any pass; by default those that there are.
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
    def layers(self) -> set[str]:
        """The layers that cost less, by module path."""
        return {use.layer for use in self.uses}

    @property
    def least(self) -> int:
        """The number of units that must stay."""
        units = len(self.scores)
        left = (self.whole or units) * (1 - self.most)
        return min(units, max(self.step, math.ceil(left / self.step) * self.step))

    def gone(self, kept: int) -> set[int]:
        """Return the units that go if `kept` stay: those of least importance, in each tile."""
        units = len(self.scores)
        worst = np.argsort(self.scores, kind="stable")[: units - kept]
        return {int(index) + tile * units for tile in range(self.tiles) for index in worst}


def collect_removed(
    choices: Iterable[Choice], kept: Iterable[int]
) -> dict[str, dict[str, set[int]]]:
    """Collect the indices that go from each side of each layer, for `shrink`."""
    removed: dict[str, dict[str, set[int]]] = {}
    for choice, units in zip(choices, kept, strict=True):
        gone = choice.gone(units)
        if not gone:
            continue
        for member in choice.members:
            side = removed.setdefault(member.layer, {}).setdefault(member.side, set())
            pairs = zip(member.indices, member.units, strict=True)
            side.update(index for index, unit in pairs if unit in gone)
    return removed


def find_choices(
    module: nn.Module,
    options: PruneOptions,
    forward: Callable[[nn.Module], Any],
    score: Score,
    gradients: bool = False,
    whole: Mapping[str, int] | None = None,
) -> list[Choice]:
    """Find all units that can go.

    Args:
        module: whose attentions were replaced by ones whose heads can go.
        options: limits and excluded layers.
        forward: runs the module once.
        score: computes the importance of a group's channels.
        gradients: the importance of heads is weight times gradient.
        whole: units of the layers before any pass, by `count_units`; by default those of the
            module.

    Raises:
        UsageError: the module cannot be traced, a name in the options matches no layer, or nothing
            can go.
    """
    limits = _Limits(module, options, whole or count_units(module))
    dependencies = Dependencies(module, forward)
    projections = set()
    for name, part in module.named_modules():
        if isinstance(part, HeadAttention):
            projections.add(f"{name}.out_proj")
    choices = []
    for group in dependencies.groups(LAYERS):
        choice = _choice(group, dependencies, options, score, limits)
        if choice and not projections & choice.layers:
            choices.append(choice)
    choices += _heads(module, limits, gradients)
    if not choices:
        reasons = _because(module, dependencies)
        raise UsageError(f"prune: nothing in this model can be removed as a whole{reasons}")
    return choices


def _because(module: nn.Module, dependencies: Dependencies) -> str:
    """Return why there is nothing to choose from, as the end of a sentence."""
    reasons = []
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            reasons.append(f"{name} is compiled, so it cannot be traced")
            break
    reasons += [
        f"{name} stays whole, as {reason}" for name, reason in dependencies.obstacles.items()
    ]
    if not reasons:
        return ": `exclude`, `limits` and `round_to` leave nothing"
    return ": " + "; ".join(reasons[:_SHOWN])


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
    most, importance = min((limits.most(use.layer) for use in uses), default=0.0), score(group)
    step = options.round_to // math.gcd(options.round_to, tiles)
    if not most or importance is None or len(importance) < 2 * step * tiles:
        return None
    name = dependencies.names[group[0].dep.target.module]
    scores = _of_mean_one(importance.detach().double().cpu().reshape(tiles, -1).mean(0).numpy())
    # A depthwise convolution is met on both of its sides: it is one use.
    unique_uses, unique_members = tuple(dict.fromkeys(uses)), tuple(dict.fromkeys(members))
    whole = limits.whole[name] // tiles
    return Choice(name, scores, tiles, step, most, unique_uses, unique_members, whole)


def _heads(module: nn.Module, limits: _Limits, gradients: bool) -> Iterator[Choice]:
    for name, part in module.named_modules():
        if isinstance(part, HeadAttention) and (most := limits.most(name)) and part.num_heads > 1:
            uses = Use(name, "out", 1.0), Use(f"{name}.out_proj", "in", 1.0)
            heads = tuple(range(part.num_heads))
            scores = _of_mean_one(part.scores(gradients).double().cpu().numpy())
            member = GroupMember(name, "heads", heads, heads)
            yield Choice(name, scores, 1, 1, most, uses, (member,), limits.whole[name])


def count_units(module: nn.Module) -> dict[str, int]:
    """Count the outputs of each layer and the heads of each attention, by module path."""
    units = {}
    for name, part in module.named_modules():
        if isinstance(part, (HeadAttention, nn.MultiheadAttention)):
            units[name] = part.num_heads
        elif isinstance(part, LAYERS):
            units[name] = _width(part, "out")
    return units


def _width(layer: nn.Module, side: str) -> int:
    kind = "channels" if hasattr(layer, "out_channels") else "features"
    return int(getattr(layer, f"{side}_{kind}"))


def _of_mean_one(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return scores / max(float(scores.mean()), 1e-30)


class _Limits:
    """The limits of each layer: `most`, `limits` and `exclude`."""

    def __init__(self, module: nn.Module, options: PruneOptions, whole: Mapping[str, int]) -> None:
        kinds = (*LAYERS, HeadAttention)
        layers = [name for name, part in module.named_modules() if isinstance(part, kinds)]
        self._options, self.whole = options, whole
        check_names("prune.exclude", options.exclude, layers, module)
        check_names("prune.limits", list(options.limits), layers, module)

    def most(self, layer: str) -> float:
        """Return the share of a layer's units that may go."""
        if matches_any(self._options.exclude, layer):
            return 0.0
        most = self._options.most
        for pattern, limit in self._options.limits.items():
            if matches(pattern, layer):
                most = min(most, limit)
        return most


def check_names(
    key: str, patterns: Sequence[str], layers: Sequence[str], module: nn.Module
) -> None:
    """Raise UsageError for a pattern that matches no layer, with the nearest names."""
    for pattern in patterns:
        if any(matches(pattern, layer) for layer in layers):
            continue
        for name, part in module.named_modules():
            if name and matches(pattern, name):
                raise UsageError(
                    f"passes.{key}: {pattern!r} is a {type(part).__name__}, which pruning does not "
                    "choose from: name the layer that makes its channels, or leave it out"
                )
        raise UsageError(
            f"passes.{key}: no layer is named {pattern!r}{nearest(pattern, list(layers))}"
        )


def matches(pattern: str, layer: str) -> bool:
    """Return whether a recipe's name means a layer: itself, by a pattern, or its parent."""
    return fnmatchcase(layer, pattern) or layer.startswith(f"{pattern}.")


def matches_any(patterns: Iterable[str], layer: str) -> bool:
    """Return whether one of several of a recipe's names means a layer."""
    return any(matches(pattern, layer) for pattern in patterns)
