"""The dependency graph of Torch-Pruning, with its mistakes corrected, and its groups that are safe.

Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023: removing an output channel of a
layer removes the input channel of each layer that reads it, and the channel of each value that is
added to it.
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

from converters.models.parts import failing_module
from runtimes.engines.torch.outputs import flatten
from runtimes.errors import UsageError

# Removing a channel in front of these changes their results for the others, or DepGraph cannot
# follow it.
_UNSAFE = {
    OPTYPE.LN,
    OPTYPE.GN,
    OPTYPE.IN,
    OPTYPE.MHA,
    OPTYPE.PARAMETER,
    OPTYPE.EMBED,
    OPTYPE.LSTM,
    OPTYPE.SPLIT,
    OPTYPE.UNBIND,
    OPTYPE.EXPAND,
    OPTYPE.SLICE,
    OPTYPE.OUTPUT,
}
_UNSAFE_OPERATIONS = (
    "Permute",
    "Transpose",
    "Roll",
    "Select",
    "Index",
    "Gather",
    "Bmm",
    "Softmax",
    "ScaledDot",
    "ConstantPad",
    "PixelShuffle",
    "AsStrided",
    "Repeat",
)


class Dependencies:
    """Dependencies between the channels of a module."""

    def __init__(self, module: nn.Module, forward: Callable[[nn.Module], Any]) -> None:
        """Trace one forward pass. Raises UsageError that names the part that cannot be traced."""
        self.names: dict[nn.Module, str] = {part: name for name, part in module.named_modules()}
        self.obstacles: dict[
            str, str
        ] = {}  # why the channels of a layer stay, if `groups` left it out
        self._tied, self._ends = _tied(module), set[Any]()

        def outputs(traced: nn.Module, _: None) -> list[torch.Tensor]:
            tensors = [tensor for tensor in flatten(forward(traced)) if tensor.grad_fn is not None]
            self._ends.update(tensor.grad_fn for tensor in tensors)
            return tensors

        try:
            with _repaired():
                graph = tp.DependencyGraph()
                self._graph = graph.build_dependency(
                    module, None, forward_fn=outputs, verbose=False
                )
        except Exception as error:  # whatever the forward pass and the tracer raise
            raise UsageError(
                f"prune: the dependencies of {type(module).__name__} cannot be traced: "
                f"{type(error).__name__}: {error}{failing_module(error, module)}"
            ) from error
        if not self._ends:
            raise UsageError(
                f"prune: the dependencies of {type(module).__name__} cannot be traced: gradients "
                "reach none of its outputs; return the values before an argmax or a detach"
            )

    def groups(self, roots: type | tuple[type, ...]) -> Iterator[Any]:
        """Yield the groups of these types of layers whose channels can go without side effects."""
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
                channels = list(range(pruner.get_out_channels(root)))
                group = self._graph.get_pruning_group(root, pruner.prune_out_channels, channels)
                seen.update(item.dep.target.module for item in group if self.leaves(item.dep))
                yield group

    def leaves(self, dependency: Any) -> bool:
        """Return whether the outputs of the dependency's target go, not its inputs."""
        module = dependency.target.module
        out = self._graph.is_out_channel_pruning_fn(dependency.handler)
        return bool(
            out or _is_depthwise(module) or isinstance(module, nn.modules.batchnorm._BatchNorm)
        )

    def _obstacle(self, root: nn.Module) -> str | None:
        """Return what would not follow if channels of `root` went, or None."""
        node = self._graph.module2node[root]
        if not node.outputs or node.grad_fn in self._ends:
            return "it is an output, or nothing that can be followed reads it"
        if reason := self._fixed(root):
            return f"it {reason}"
        for dependency in self._reached(root):
            target = dependency.target
            if reason := self._fixed(target.module):
                return f"it reaches {self._label(target)}, which {reason}"
            if self._unsafe(dependency, root):
                return f"it reaches {self._label(target)}"
        return None

    def _fixed(self, layer: Any) -> str | None:
        """Return why a layer cannot change at all, or None."""
        if layer in self._tied:
            return f"shares its weight with {self._tied[layer]}"
        if is_computed(layer):
            return "computes its weight from other parameters"
        if _uneven(layer):
            return "has groups of one channel on one side only"
        return None

    def _label(self, node: Any) -> str:
        """Return the name of a module in the graph, or of an operation."""
        name = self.names.get(node.module)
        kind = type(node.module).__name__
        return f"{name} ({kind})" if name else str(node.grad_fn.name() if node.grad_fn else kind)

    def _reached(self, root: nn.Module) -> list[Any]:
        """Return all dependencies that pruning `root` may touch, whatever the indices.

        The time is linear in the size of the graph.
        """
        start = self._graph.get_pruner_of_module(root).prune_out_channels
        pending, reached = [(self._graph.module2node[root], start)], {}
        while pending:
            node, handler = pending.pop()
            for dependency in node.dependencies:
                key = id(dependency.target), dependency.handler
                if dependency.is_triggered_by(handler) and key not in reached:
                    reached[key] = dependency
                    pending.append((dependency.target, dependency.handler))
        return list(reached.values())

    def _unsafe(self, dependency: Any, root: nn.Module) -> bool:
        node = dependency.target
        layer = isinstance(node.module, (nn.modules.conv._ConvNd, nn.Linear))
        read_only = layer and not self.leaves(dependency)
        if node.type in _UNSAFE or (node.grad_fn in self._ends and not read_only):
            return True
        if node.type == OPTYPE.ELEMENTWISE:
            operation = str(getattr(node.module, "_grad_fn", type(node.module).__name__))
            return any(name in operation for name in _UNSAFE_OPERATIONS)
        if node.type == OPTYPE.CONCAT:
            return _concat_axis(node.grad_fn) != 1
        if node.type == OPTYPE.RESHAPE:
            before, after = _reshaped(node.grad_fn)
            # A linear layer's channels are the last; a flatten is followed as if they were the
            # first.
            flat = _flattens(before, after) and isinstance(root, nn.modules.conv._ConvNd)
            return not (before[-1:] == after[-1:] or flat)
        return bool(self._graph.is_out_channel_pruning_fn(dependency.handler) and not node.outputs)


def _is_depthwise(module: nn.Module) -> bool:
    return bool(tp.ops.module2type(module) == OPTYPE.DEPTHWISE_CONV)


def is_computed(layer: nn.Module) -> bool:
    """Return whether a layer's weight is no parameter: weight_norm, spectral_norm."""
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    return isinstance(layer, kinds) and layer._parameters.get("weight") is None


def _uneven(module: nn.Module) -> bool:
    """Return whether a convolution has as many groups as channels on one side only.

    DepGraph mistakes it for another kind.
    """
    if not isinstance(module, nn.modules.conv._ConvNd) or module.groups == 1:
        return False
    return (module.groups == module.in_channels) != (module.groups == module.out_channels)


def _tied(root: nn.Module) -> dict[nn.Module, str]:
    """Return the modules that share a parameter, each with the name of another owner.

    DepGraph does not know shared parameters.
    """
    owners: dict[int, list[tuple[str, nn.Module]]] = {}
    for name, module in root.named_modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append((name, module))
    tied = {}
    for group in owners.values():
        if len(group) > 1:
            for (_, module), (partner, _) in zip(group, group[1:] + group[:1], strict=True):
                tied[module] = partner
    return tied


def _reshaped(operation: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes before and after a view, as autograd keeps them."""
    before = tuple(getattr(operation, "_saved_self_sym_sizes", ()))
    metadata = getattr(operation, "_input_metadata", None)
    return before, tuple(metadata[0].shape) if metadata else ()


def _flattens(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Return whether channels and positions [batch, channels, ...] become one axis."""
    return len(before) in (3, 4, 5) and len(after) == 2 and after[1] == math.prod(before[1:])


def _concat_axis(operation: Any) -> int:
    """Return the axis of a torch.cat: autograd keeps -1 as 2**64 - 1."""
    rank, axis = len(operation._input_metadata[0].shape), int(operation._saved_dim)
    return axis if axis < rank else axis - 2**64 + rank


@contextlib.contextmanager
def _repaired() -> Iterator[None]:
    """Replace two functions of Torch-Pruning 1.6.1, which read names that autograd no longer has.

    It takes every view for a flatten, and guesses the widths of concatenated values by walking at
    most 500 nodes.
    """
    reshape, concat = (
        index_mapping.update_reshape_index_mapping,
        index_mapping.update_concat_index_mapping,
    )

    def flatten_only(graph: Any, node: Any) -> None:
        before, after = _reshaped(node.grad_fn)
        if _flattens(before, after):
            graph._2d_4d = True  # its condition on the inputs' ranks was checked for this one
            reshape(graph, node)

    def channels_only(graph: Any, node: Any) -> None:
        if _concat_axis(node.grad_fn) != 1:
            return
        if node.module.concat_sizes is None:
            inputs = [
                edge for edge in node.grad_fn.next_functions if hasattr(edge[0], "_input_metadata")
            ]
            if len(inputs) == len(node.inputs):
                metadata = [operation._input_metadata[index] for operation, index in inputs]
                node.module.concat_sizes = [value.shape[1] for value in metadata]
        concat(graph, node)

    index_mapping.update_reshape_index_mapping = flatten_only
    index_mapping.update_concat_index_mapping = channels_only
    try:
        yield
    finally:
        index_mapping.update_reshape_index_mapping = reshape
        index_mapping.update_concat_index_mapping = concat


@contextlib.contextmanager
def _indexed_once() -> Iterator[None]:
    """Keep the index mappings, which stay valid: nothing is pruned while groups are read."""
    before = index_mapping.update_index_mapping
    index_mapping.update_index_mapping = lambda graph: None
    try:
        yield
    finally:
        index_mapping.update_index_mapping = before
