"""The dependency graph of Torch-Pruning: what it says, what it gets wrong, and which of its groups are safe.

Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023: taking an output channel from a layer takes the
input channel of all that read it, and the channel of all that is added to it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch_pruning as tp
from torch import nn
from torch_pruning.dependency import index_mapping
from torch_pruning.ops import OPTYPE

from converters.models.parts import where
from runtimes.engines.torch.session import flatten
from runtimes.errors import UsageError

# Taking a channel out in front of these changes what they make of the others, or DepGraph cannot follow it.
_UNSAFE = {
    OPTYPE.LN, OPTYPE.GN, OPTYPE.IN, OPTYPE.MHA, OPTYPE.PARAMETER, OPTYPE.EMBED, OPTYPE.LSTM, OPTYPE.SPLIT,
    OPTYPE.UNBIND, OPTYPE.EXPAND, OPTYPE.SLICE, OPTYPE.OUTPUT,
}  # fmt: skip
_UNSAFE_OPERATIONS = (
    "Permute", "Transpose", "Roll", "Select", "Index", "Gather", "Bmm", "Softmax", "ScaledDot", "ConstantPad",
    "PixelShuffle", "AsStrided", "Repeat",
)  # fmt: skip


class Dependencies:
    """Which channels of a module depend on each other."""

    def __init__(self, module: nn.Module, forward: Callable[[nn.Module], Any]) -> None:
        """Trace one forward pass. Raises UsageError that names what cannot be traced."""
        self.names: dict[nn.Module, str] = {one: name for name, one in module.named_modules()}
        self.obstacles: dict[str, str] = {}  # why the channels of a layer stay, for those that `groups` left out
        self._tied, self._ends = _tied(module), set[Any]()

        def outputs(one: nn.Module, _: None) -> list[torch.Tensor]:
            found = [tensor for tensor in flatten(forward(one)) if tensor.grad_fn is not None]
            self._ends.update(tensor.grad_fn for tensor in found)
            return found

        try:
            with _repaired():
                graph = tp.DependencyGraph()
                self._graph = graph.build_dependency(module, None, forward_fn=outputs, verbose=False)
        except Exception as error:  # whatever the forward pass and the tracer raise
            raise UsageError(
                f"prune: the dependencies of {type(module).__name__} cannot be traced: "
                f"{type(error).__name__}: {error}{where(error, module)}"
            ) from error
        if not self._ends:
            raise UsageError(
                f"prune: the dependencies of {type(module).__name__} cannot be traced: gradients reach none of its "
                "outputs; return what comes before an argmax or a detach"
            )

    def groups(self, roots: type | tuple[type, ...]) -> Iterator[Any]:
        """The group of each layer of these types whose channels can go without changing the others."""
        seen: set[nn.Module] = set()
        with _repaired(), _indexed_once():
            modules: list[nn.Module] = list(self._graph.module2node)
            for root in modules:
                if not isinstance(root, roots) or root in seen or _is_depthwise(root):
                    continue
                if obstacle := self._obstacle(root):
                    self.obstacles[self.names[root]] = obstacle
                    continue
                pruner = self._graph.get_pruner_of_module(root)
                every = list(range(pruner.get_out_channels(root)))
                group = self._graph.get_pruning_group(root, pruner.prune_out_channels, every)
                seen.update(item.dep.target.module for item in group if self.leaves(item.dep))
                yield group

    def leaves(self, dependency: Any) -> bool:
        """Whether it is the outputs of the dependency's target that go, not its inputs."""
        module = dependency.target.module
        out = self._graph.is_out_channel_pruning_fn(dependency.handler)
        return bool(out or _is_depthwise(module) or isinstance(module, nn.modules.batchnorm._BatchNorm))

    def _obstacle(self, root: nn.Module) -> str | None:
        """What would not follow if channels of `root` went."""
        own = self._graph.module2node[root]
        if not own.outputs or own.grad_fn in self._ends:
            return "it is an output, or nothing that can be followed reads it"
        if why := self._whole(root):
            return f"it {why}"
        for one in self._reached(root):
            if why := self._whole(one.target.module):
                return f"it reaches {self._called(one.target)}, which {why}"
            if self._unsafe(one, root):
                return f"it reaches {self._called(one.target)}"
        return None

    def _whole(self, layer: Any) -> str | None:
        """Why a layer cannot change at all."""
        if layer in self._tied:
            return f"shares its weight with {self._tied[layer]}"
        if is_computed(layer):
            return "computes its weight from other parameters"
        if _uneven(layer):
            return "has groups of one channel on one side only"
        return None

    def _called(self, node: Any) -> str:
        """The name of a module in the graph, or what an operation is called."""
        name = self.names.get(node.module)
        kind = type(node.module).__name__
        return f"{name} ({kind})" if name else str(node.grad_fn.name() if node.grad_fn else kind)

    def _reached(self, root: nn.Module) -> list[Any]:
        """All that pruning `root` may touch, whatever the indices: linear in the size of the graph."""
        start = self._graph.get_pruner_of_module(root).prune_out_channels
        left, found = [(self._graph.module2node[root], start)], {}
        while left:
            node, handler = left.pop()
            for dependency in node.dependencies:
                key = id(dependency.target), dependency.handler
                if dependency.is_triggered_by(handler) and key not in found:
                    found[key] = dependency
                    left.append((dependency.target, dependency.handler))
        return list(found.values())

    def _unsafe(self, dependency: Any, root: nn.Module) -> bool:
        node = dependency.target
        read_only = isinstance(node.module, (nn.modules.conv._ConvNd, nn.Linear)) and not self.leaves(dependency)
        if node.type in _UNSAFE or (node.grad_fn in self._ends and not read_only):
            return True
        if node.type == OPTYPE.ELEMENTWISE:
            operation = str(getattr(node.module, "_grad_fn", type(node.module).__name__))
            return any(name in operation for name in _UNSAFE_OPERATIONS)
        if node.type == OPTYPE.CONCAT:
            return _concat_axis(node.grad_fn) != 1
        if node.type == OPTYPE.RESHAPE:
            before, after = _reshaped(node.grad_fn)
            # A linear layer's channels are the last, and what is flattened is followed as if they were the first.
            flat = _flattens(before, after) and isinstance(root, nn.modules.conv._ConvNd)
            return not (before[-1:] == after[-1:] or flat)
        return bool(self._graph.is_out_channel_pruning_fn(dependency.handler) and not node.outputs)


def _is_depthwise(module: nn.Module) -> bool:
    return bool(tp.ops.module2type(module) == OPTYPE.DEPTHWISE_CONV)


def is_computed(layer: nn.Module) -> bool:
    """Whether the weight of a convolution or linear layer is no parameter: weight_norm, spectral_norm."""
    return isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)) and layer._parameters.get("weight") is None


def _uneven(module: nn.Module) -> bool:
    """Whether a convolution has as many groups as channels on one side only: DepGraph mistakes it for another."""
    if not isinstance(module, nn.modules.conv._ConvNd) or module.groups == 1:
        return False
    return (module.groups == module.in_channels) != (module.groups == module.out_channels)


def _tied(root: nn.Module) -> dict[nn.Module, str]:
    """The modules with a parameter that others have too, and one of these: DepGraph knows of no such."""
    owners: dict[int, list[tuple[str, nn.Module]]] = {}
    for name, one in root.named_modules():
        for own in one._parameters.values():
            owners.setdefault(id(own), []).append((name, one))
    owners.pop(id(None), None)
    several = [same for same in owners.values() if len(same) > 1]
    pairs = [pair for same in several for pair in zip(same, same[1:] + same[:1], strict=True)]
    return {one: other for (_, one), (other, _) in pairs}


def _reshaped(operation: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes before and behind a view, as autograd keeps them."""
    before = tuple(getattr(operation, "_saved_self_sym_sizes", ()))
    made = getattr(operation, "_input_metadata", None)
    return before, tuple(made[0].shape) if made else ()


def _flattens(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether channels and positions [batch, channels, ...] become one axis."""
    return len(before) in (3, 4, 5) and len(after) == 2 and after[1] == math.prod(before[1:])


def _concat_axis(operation: Any) -> int:
    """The axis of a torch.cat: autograd keeps -1 as 2**64 - 1."""
    rank, axis = len(operation._input_metadata[0].shape), int(operation._saved_dim)
    return axis if axis < rank else axis - 2**64 + rank


@contextlib.contextmanager
def _repaired() -> Iterator[None]:
    """Torch-Pruning 1.6.1 asks autograd for names that it no longer has; these ask for today's.

    It takes every view for a flatten, and guesses the widths of what is concatenated by walking at most 500 nodes.
    """
    reshape, concat = index_mapping.update_reshape_index_mapping, index_mapping.update_concat_index_mapping

    def flatten_only(graph: Any, node: Any) -> None:
        before, after = _reshaped(node.grad_fn)
        if _flattens(before, after):
            graph._2d_4d = True  # what it asks of the inputs' ranks was asked of this one's
            reshape(graph, node)

    def channels_only(graph: Any, node: Any) -> None:
        if _concat_axis(node.grad_fn) != 1:
            return
        if node.module.concat_sizes is None:
            made = [one for one in node.grad_fn.next_functions if hasattr(one[0], "_input_metadata")]
            if len(made) == len(node.inputs):
                node.module.concat_sizes = [one._input_metadata[index].shape[1] for one, index in made]
        concat(graph, node)

    index_mapping.update_reshape_index_mapping = flatten_only
    index_mapping.update_concat_index_mapping = channels_only
    try:
        yield
    finally:
        index_mapping.update_reshape_index_mapping, index_mapping.update_concat_index_mapping = reshape, concat


@contextlib.contextmanager
def _indexed_once() -> Iterator[None]:
    """Nothing is pruned while groups are read: their indices need not be found anew for each."""
    before = index_mapping.update_index_mapping
    index_mapping.update_index_mapping = lambda graph: None
    try:
        yield
    finally:
        index_mapping.update_index_mapping = before
