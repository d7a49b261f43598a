"""Which channels can be removed, and what goes with them.

The dependencies come from Torch-Pruning (Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023): taking
an output channel from a layer takes the input channel of all that read it, and the channel of all that is added to
it. Groups that would change what is left are not offered: channels that are normalised together, for one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import nn
from torch_pruning.ops import OPTYPE

from converters.passes.prune.attention import HeadAttention
from converters.passes.prune.options import PruneOptions
from runtimes.errors import UsageError

LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
# Taking a channel out in front of these changes what they make of the others, or DepGraph cannot follow it.
_UNSAFE = {
    OPTYPE.LN, OPTYPE.GN, OPTYPE.IN, OPTYPE.MHA, OPTYPE.PARAMETER, OPTYPE.EMBED, OPTYPE.LSTM, OPTYPE.SPLIT,
    OPTYPE.UNBIND, OPTYPE.EXPAND, OPTYPE.SLICE, OPTYPE.OUTPUT,
}  # fmt: skip
_UNSAFE_OPERATIONS = (
    "Permute", "Transpose", "Roll", "Select", "Index", "Gather", "Bmm", "Softmax", "ScaledDot", "ConstantPad",
    "PixelShuffle", "AsStrided", "Repeat", "Clone",
)  # fmt: skip

Score = Callable[[Any], torch.Tensor]
"""The worth of each channel of a DepGraph group."""


@dataclass(frozen=True)
class Use:
    """A layer that a group's channels enter (`in`) or leave (`out`), and the share of that side that they are."""

    layer: str
    side: str
    share: float


@dataclass(frozen=True)
class Choice:
    """Units of the model (channels of one group, or heads of one attention) of which some can go.

    Attributes:
        name: module path of the layer that makes them.
        scores: the worth of each unit, of mean 1 [units].
        tiles: in so many convolution groups the same units go.
        step: the units that stay are a multiple of this.
        most: at most this share goes.
        uses: the layers that become smaller.
        heads: the units are attention heads.
    """

    name: str
    scores: np.ndarray[Any, Any]
    tiles: int
    step: int
    most: float
    uses: tuple[Use, ...] = field(default=())
    heads: bool = False

    @property
    def least(self) -> int:
        """So many units must stay."""
        units = len(self.scores)
        return min(units, max(self.step, math.ceil(units * (1 - self.most) / self.step) * self.step))

    def gone(self, kept: int) -> list[int]:
        """The units that go where `kept` stay: those of least worth, in each tile."""
        units = len(self.scores)
        worst = np.sort(np.argsort(self.scores, kind="stable")[: units - kept])
        return [int(index) + tile * units for tile in range(self.tiles) for index in worst]


class Groups:
    """The dependency graph of one module."""

    def __init__(self, module: nn.Module, example: Any, forward: Callable[[nn.Module, Any], Any]) -> None:
        """Trace the module. Raises UsageError that names what cannot be traced."""
        self.module = module
        try:
            graph = tp.DependencyGraph()
            self._graph = graph.build_dependency(module, example, forward_fn=forward, verbose=False)
        except Exception as error:  # whatever the forward pass and the tracer raise
            raise UsageError(
                f"prune: the dependencies of {type(module).__name__} cannot be traced: "
                f"{type(error).__name__}: {error}{_where(error, module)}"
            ) from error
        self.names: dict[nn.Module, str] = {one: name for name, one in module.named_modules()}

    def choices(self, options: PruneOptions, score: Score, gradients: bool = False) -> list[Choice]:
        """What can go. Raises UsageError where a name in the options matches no layer."""
        limits = _Limits(options, [name for module, name in self.names.items() if isinstance(module, LAYERS)])
        found = [one for group in self._groups() if (one := self._choice(group, options, score, limits))]
        return [*found, *_heads(self.module, limits, gradients)]

    def _groups(self) -> Iterator[Any]:
        roots = [nn.modules.conv._ConvNd, nn.Linear]
        for group in self._graph.get_all_groups(ignored_layers=[], root_module_types=roots):
            if not any(self._unsafe(dependency) for dependency, _ in group):
                yield group

    def _unsafe(self, dependency: Any) -> bool:
        node = dependency.target
        if node.type in _UNSAFE or any(isinstance(one, HeadAttention) for one in self._holders(node.module)):
            return True
        if node.type == OPTYPE.ELEMENTWISE:
            operation = str(getattr(node.module, "_grad_fn", type(node.module).__name__))
            return any(name in operation for name in _UNSAFE_OPERATIONS)
        return self._graph.is_out_channel_pruning_fn(dependency.handler) and not node.outputs

    def _holders(self, module: nn.Module) -> list[nn.Module]:
        """The module that holds this one, where it is known."""
        path = self.names.get(module, "")
        return [self.module.get_submodule(path.rpartition(".")[0])] if path else []

    def _choice(self, group: Any, options: PruneOptions, score: Score, limits: _Limits) -> Choice | None:
        uses, tiles = [], 1
        for dependency, indices in group:
            layer = dependency.target.module
            if not isinstance(layer, LAYERS):
                continue
            out = self._graph.is_out_channel_pruning_fn(dependency.handler)
            depthwise = tp.ops.module2type(layer) == OPTYPE.DEPTHWISE_CONV
            tiles = tiles if depthwise else max(tiles, getattr(layer, "groups", 1))
            side = "out" if out or depthwise else "in"
            uses.append(Use(self.names[layer], side, len(indices) / _width(layer, side)))
        most = min((limits.most(use.layer) for use in uses), default=0.0)
        worth = score(group).reshape(tiles, -1).mean(0).double().numpy()
        step = options.round_to // math.gcd(options.round_to, tiles)
        if not most or len(worth) < 2 * step:
            return None
        name = self.names[group[0].dep.target.module]
        # A depthwise convolution is met on both of its sides: it is one use.
        return Choice(name, _of_mean_one(worth), tiles, step, most, tuple(dict.fromkeys(uses)))

    def remove(self, choice: Choice, kept: int) -> None:
        """Take out all units of a choice but the best `kept`."""
        layer = self.module.get_submodule(choice.name)
        gone = choice.gone(kept)
        if isinstance(layer, HeadAttention):
            layer.keep(sorted(set(range(layer.num_heads)) - set(gone)))
            return
        how = self._graph.get_pruner_of_module(layer).prune_out_channels
        self._graph.get_pruning_group(layer, how, gone).prune()


def _heads(module: nn.Module, limits: _Limits, gradients: bool) -> Iterator[Choice]:
    for name, part in module.named_modules():
        if isinstance(part, HeadAttention) and (most := limits.most(name)) and part.num_heads > 1:
            uses = Use(name, "out", 1.0), Use(f"{name}.out_proj", "in", 1.0)
            worth = part.scores(gradients).double().cpu().numpy()
            yield Choice(name, _of_mean_one(worth), 1, 1, most, uses, heads=True)


def _width(layer: nn.Module, side: str) -> int:
    names = ("out_channels", "in_channels") if hasattr(layer, "out_channels") else ("out_features", "in_features")
    return int(getattr(layer, names[side == "in"]))


def _of_mean_one(worth: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return worth / max(float(worth.mean()), 1e-30)


class _Limits:
    """What `most`, `limits` and `exclude` say of each layer."""

    def __init__(self, options: PruneOptions, layers: Sequence[str]) -> None:
        self._options, self._layers = options, layers
        check_names("prune.exclude", options.exclude, layers)
        check_names("prune.limits", list(options.limits), layers)

    def most(self, layer: str) -> float:
        """The share of a layer's units that may go."""
        own = [limit for pattern, limit in self._options.limits.items() if _means(pattern, layer)]
        excluded = any(_means(pattern, layer) for pattern in self._options.exclude)
        return 0.0 if excluded else min([self._options.most, *own])


def check_names(key: str, patterns: Sequence[str], layers: Sequence[str]) -> None:
    """Raise UsageError for a pattern that means no layer, with the nearest names."""
    from runtimes.registry import nearest

    for pattern in patterns:
        if not any(_means(pattern, layer) for layer in layers):
            raise UsageError(f"passes.{key}: no layer is named {pattern!r}{nearest(pattern, list(layers))}")


def _means(pattern: str, layer: str) -> bool:
    return fnmatchcase(layer, pattern) or layer.startswith(f"{pattern}.")


def _where(error: BaseException, module: nn.Module) -> str:
    """The innermost module whose forward pass raised."""
    names: Mapping[int, str] = {id(one): name for name, one in module.named_modules()}
    trace, found = error.__traceback__, ""
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        found = names.get(id(owner), found) or found
        trace = trace.tb_next
    return f" (in {found})" if found else ""
