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

from converters.debug.match.kinds import kind_of_module
from converters.debug.match.layer import CallKey, LayerCall
from converters.models.call import call
from runtimes.engines.torch.session import flatten
from runtimes.errors import BurnishError
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import torch


LayerValues = dict[CallKey, np.ndarray[Any, Any]]


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

    def calls(self, inputs: Arrays) -> tuple[list[LayerCall], dict[CallKey, tuple[int, ...]]]:
        """Every call in the order in which it ended, and the shapes of the outputs. Keeps no values."""
        watch = _Watch(())
        result = self._run(self._single, inputs, watch)
        shapes = {output_key(name): tuple(one.shape) for name, one in zip(self._outputs, result, strict=True)}
        return watch.calls, shapes

    def values(self, inputs: Arrays, keys: Collection[CallKey], exact: bool) -> LayerValues:
        """Copies of the results of these calls, from one run in float64 (`exact`) or float32."""
        watch = _Watch(keys)
        result = self._run(self._double if exact else self._single, inputs, watch)
        found = [(output_key(name), tensor) for name, tensor in zip(self._outputs, result, strict=True)]
        return watch.values | {key: _copied(tensor) for key, tensor in found if key in keys}

    def entering(self, inputs: Arrays, key: CallKey, exact: bool) -> np.ndarray[Any, Any] | None:
        """A copy of the first tensor that this call is given; None where it is given none."""
        watch = _Watch((), entry=key)
        self._run(self._double if exact else self._single, inputs, watch)
        return watch.entered

    def expected(
        self, inputs: Arrays, found: LayerValues, entry: tuple[CallKey, np.ndarray[Any, Any]] | None = None
    ) -> LayerValues:
        """What the truth model makes of an artifact's own values.

        Each call's result is replaced by the artifact's as soon as it is there, so that what comes after is
        computed from the artifact's values: the difference to them is what each layer gets wrong by itself.

        Args:
            inputs: the model's.
            found: the artifact's values, by call; outputs of the model may be among the keys.
            entry: a call and what it shall be given in place of its first tensor.
        """
        key, value = entry or (None, None)
        watch = _Watch(found, found, entry=key, put=value)
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


def output_key(name: str) -> CallKey:
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
    """Forward hooks of one run; `forced` takes the place of results, `put` of what the call `entry` is given.

    `_made` tells, by its id, which call made a tensor, and in which version.
    """

    keys: Collection[CallKey]
    forced: LayerValues = field(default_factory=dict)
    entry: CallKey | None = None
    put: np.ndarray[Any, Any] | None = None
    entered: np.ndarray[Any, Any] | None = None
    calls: list[LayerCall] = field(default_factory=list)
    values: LayerValues = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)
    _open: list[_Open] = field(default_factory=list)
    _made: dict[int, tuple[weakref.ref[Any], int, CallKey]] = field(default_factory=dict)

    @contextmanager
    def on(self, module: torch.nn.Module) -> Iterator[None]:
        """Watch every module below `module` (not itself: its result is the model's outputs)."""
        handles = []
        for path, part in module.named_modules():
            if path:
                handles.append(part.register_forward_pre_hook(self._before(path), with_kwargs=True))
                handles.append(part.register_forward_hook(self._after(path), with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, path: str) -> Any:
        def hook(module: Any, args: Any, kwargs: Any) -> Any:
            if self._open:
                self._open[-1].leaf = False
            given = [one for value in (*args, *kwargs.values()) if (one := _first_tensor(value)) is not None]
            self._open.append(_Open([(one, one._version) for one in given]))
            if not given or (path, self._counts[path]) != self.entry:
                return None
            self.entered = _copied(given[0])  # now: an in-place module writes over it
            if self.put is None:
                return None
            other = given[0].new_tensor(self.put)
            return (
                tuple(other if one is given[0] else one for one in args),
                {name: other if one is given[0] else one for name, one in kwargs.items()},
            )

        return hook

    def _after(self, path: str) -> Any:
        def hook(module: Any, args: Any, kwargs: Any, result: Any) -> Any:
            opened, tensor = self._open.pop(), _first_tensor(result)
            if tensor is None or (not opened.leaf and self._maker(tensor)):
                return None  # nothing new: no tensor, or the result of a module inside it
            kind, passive = kind_of_module(module), opened.returns_its_own(tensor)
            if passive and (kind == "identity" or not opened.leaf):
                return None
            key = (path, self._counts[path])
            self._counts[path] += 1
            source = next((found for one, version in opened.given if (found := self._source(one, version))), None)
            self.calls.append(LayerCall(key, kind, tuple(tensor.shape), source, opened.leaf, passive))
            if not passive:
                self._made[id(tensor)] = (weakref.ref(tensor), tensor._version, key)
            if key in self.keys:
                self.values[key] = _copied(tensor)
            if key not in self.forced:
                return None
            other = tensor.new_tensor(self.forced[key])
            self._made[id(other)] = (weakref.ref(other), other._version, key)
            return _replaced(result, tensor, other)

        return hook

    def _maker(self, tensor: torch.Tensor) -> CallKey | None:
        """The call that made this tensor, if nothing has written over it since."""
        return self._source(tensor, tensor._version)

    def _source(self, tensor: torch.Tensor, version: int) -> CallKey | None:
        """The call that made this tensor as it was in this version."""
        found = self._made.get(id(tensor))
        return found[2] if found and found[0]() is tensor and found[1] == version else None


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
