"""What the eager model computes, module call by module call: in float64 (the truth) and in float32."""

from __future__ import annotations

import copy
import weakref
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.debug.kinds import kind_of_module
from converters.sources.load import call
from runtimes.engines._torch import flatten
from runtimes.errors import BurnishError
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import torch

Key = tuple[str, int]
"""A module's path and which of its calls, from 0; an output of the model is (its label, 0)."""

Values = dict[Key, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Call:
    """One call of a module that computed something new.

    Attributes:
        key: path and number of the call.
        kind: what it computes ("conv", "relu"), or "" where its class does not tell (`converters.debug.kinds`).
        shape: of the first tensor of its result.
        source: the call whose output it takes first, where it takes one unchanged.
        leaf: no other module ran inside it. Other calls are kept only where an operator of their own made
            their result, as the addition at the end of a residual block.
    """

    key: Key
    kind: str
    shape: tuple[int, ...]
    source: Key | None
    leaf: bool


class Eager:
    """The eager model in both precisions. Hooks are set only while it runs."""

    def __init__(self, module: torch.nn.Module, outputs: Sequence[str], exact: bool) -> None:
        """Keep the module and a float64 copy; `exact` is False for a model that cannot run in float64."""
        self._single = module.eval()
        self._double = copy.deepcopy(module).double() if exact else module
        self._outputs = list(outputs)

    @property
    def paths(self) -> frozenset[str]:
        """The paths of all modules."""
        return frozenset(name for name, _ in self._single.named_modules() if name)

    def calls(self, inputs: Arrays) -> tuple[list[Call], dict[Key, tuple[int, ...]]]:
        """Every call in the order in which it ended, and the shapes of the outputs. Keeps no values."""
        watch = _Watch(())
        result = self._run(self._single, inputs, watch)
        shapes = {output_key(name): tuple(one.shape) for name, one in zip(self._outputs, result, strict=True)}
        return watch.calls, shapes

    def values(self, inputs: Arrays, keys: Collection[Key], exact: bool) -> Values:
        """Copies of the results of these calls, from one run in float64 (`exact`) or float32."""
        watch = _Watch(keys)
        result = self._run(self._double if exact else self._single, inputs, watch)
        found = [(output_key(name), tensor) for name, tensor in zip(self._outputs, result, strict=True)]
        return watch.values | {key: _copied(tensor) for key, tensor in found if key in keys}

    def expected(self, inputs: Arrays, found: Values) -> Values:
        """What the truth model makes of an artifact's own values.

        Each call's result is replaced by the artifact's as soon as it is there, so that what comes after is
        computed from the artifact's values: the difference to them is what each layer gets wrong by itself.

        Args:
            inputs: the model's.
            found: the artifact's values, by call; outputs of the model may be among the keys.
        """
        watch = _Watch(found, found)
        result = self._run(self._double, inputs, watch)
        ends = [(output_key(name), tensor) for name, tensor in zip(self._outputs, result, strict=True)]
        return watch.values | {key: _copied(tensor) for key, tensor in ends if key in found}

    def _run(self, module: torch.nn.Module, inputs: Arrays, watch: _Watch) -> list[torch.Tensor]:
        import torch

        wide = module is self._double and module is not self._single
        tensors = {
            name: torch.from_numpy(array.astype(np.float64) if wide and array.dtype == np.float32 else array)
            for name, array in inputs.items()
        }
        # Not inference_mode: its tensors have no version, which tells a value from what was later written over it.
        with torch.no_grad(), watch.on(module):
            return flatten(call(module, tensors))


def output_key(name: str) -> Key:
    """The key of one of the model's outputs."""
    return f"output {name}", 0


@dataclass
class _Open:
    """A call that has not ended: the tensors it was given, with their versions, and whether it is a leaf."""

    given: list[tuple[torch.Tensor, int]]
    leaf: bool = True

    def returns_its_own(self, result: torch.Tensor) -> bool:
        """Whether the result is an input as it came, as of Identity or Dropout in eval mode."""
        return any(result is one and result._version == version for one, version in self.given)


@dataclass
class _Watch:
    """Forward hooks of one run; `forced` takes the place of results.

    `_made` tells, by its id, which call made a tensor, and in which version.
    """

    keys: Collection[Key]
    forced: Values = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    values: Values = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)
    _open: list[_Open] = field(default_factory=list)
    _made: dict[int, tuple[weakref.ref[Any], int, Key]] = field(default_factory=dict)

    @contextmanager
    def on(self, module: torch.nn.Module) -> Iterator[None]:
        """Watch every module below `module` (not itself: its result is the model's outputs)."""
        handles = []
        for path, part in module.named_modules():
            if path:
                handles.append(part.register_forward_pre_hook(self._before, with_kwargs=True))
                handles.append(part.register_forward_hook(self._after(path), with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, module: Any, args: Any, kwargs: Any) -> None:
        if self._open:
            self._open[-1].leaf = False
        given = [one for value in (*args, *kwargs.values()) if (one := _first_tensor(value)) is not None]
        self._open.append(_Open([(one, one._version) for one in given]))

    def _after(self, path: str) -> Any:
        def hook(module: Any, args: Any, kwargs: Any, result: Any) -> Any:
            opened, tensor = self._open.pop(), _first_tensor(result)
            if tensor is None or opened.returns_its_own(tensor) or (not opened.leaf and self._maker(tensor)):
                return None  # nothing new: no tensor, its own input, or the result of a module inside it
            key = (path, self._counts[path])
            self._counts[path] += 1
            source = next((found for one, _ in opened.given if (found := self._source(one))), None)
            self.calls.append(Call(key, kind_of_module(module), tuple(tensor.shape), source, opened.leaf))
            self._made[id(tensor)] = (weakref.ref(tensor), tensor._version, key)
            if key in self.keys:
                self.values[key] = _copied(tensor)
            if key not in self.forced:
                return None
            other = tensor.new_tensor(self.forced[key])
            self._made[id(other)] = (weakref.ref(other), other._version, key)
            return _replaced(result, tensor, other)

        return hook

    def _maker(self, tensor: torch.Tensor) -> Key | None:
        """The call that made this tensor, if nothing has written over it since."""
        key = self._source(tensor)
        return key if key and self._made[id(tensor)][1] == tensor._version else None

    def _source(self, tensor: torch.Tensor) -> Key | None:
        """As `_maker`, also after an in-place call, whose input is its result."""
        found = self._made.get(id(tensor))
        return found[2] if found and found[0]() is tensor else None


def _first_tensor(value: Any) -> torch.Tensor | None:
    try:
        return next(iter(flatten(value)), None)
    except BurnishError:  # something that holds no tensors, such as a number or a module's own class
        return None


def _replaced(result: Any, tensor: torch.Tensor, other: torch.Tensor) -> Any:
    """The result with `other` for its first tensor; None, which leaves it, where it is packed in another way."""
    if result is tensor:
        return other
    return (other, *result[1:]) if type(result) is tuple and result[0] is tensor else None


def _copied(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """A copy, since a later call may write over the tensor; bfloat16 as float32, which numpy knows."""
    import torch

    found = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
    copied: np.ndarray[Any, Any] = found.cpu().numpy().copy()
    return copied
