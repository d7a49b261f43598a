"""Results of the eager model's module calls, in float64 (the truth) and in float32."""

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
from runtimes.engines.torch.outputs import flatten
from runtimes.errors import BurnishError
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import torch


LayerValues = dict[CallKey, np.ndarray[Any, Any]]


class Eager:
    """The eager model in both precisions. Hooks are set only while it runs."""

    def __init__(self, module: torch.nn.Module, outputs: Sequence[str], exact: bool) -> None:
        """Keep the module and a float64 copy; `exact` is False if it cannot run in float64."""
        self._single = module.eval()
        self._double = copy.deepcopy(module).double() if exact else module
        self._outputs = list(outputs)

    @property
    def paths(self) -> frozenset[str]:
        """The paths of all modules."""
        return frozenset(name for name, _ in self._single.named_modules() if name)

    def calls(self, inputs: Arrays) -> tuple[list[LayerCall], dict[CallKey, tuple[int, ...]]]:
        """Return all calls in the order in which they ended, and the shapes of the outputs.

        Keeps no values.
        """
        watch = _Watch(())
        outputs = self._run(self._single, inputs, watch)
        return watch.calls, {key: tuple(tensor.shape) for key, tensor in outputs.items()}

    def values(self, inputs: Arrays, keys: Collection[CallKey], exact: bool) -> LayerValues:
        """Return copies of these calls' results, from a run in float64 (`exact`) or float32."""
        watch = _Watch(keys)
        outputs = self._run(self._double if exact else self._single, inputs, watch)
        return watch.values | _copies(outputs, keys)

    def entering(self, inputs: Arrays, key: CallKey, exact: bool) -> np.ndarray[Any, Any] | None:
        """Return a copy of the first tensor that this call receives; None if it receives none."""
        watch = _Watch((), entry=key)
        self._run(self._double if exact else self._single, inputs, watch)
        return watch.entered

    def expected(
        self,
        inputs: Arrays,
        artifact_values: LayerValues,
        entry: tuple[CallKey, np.ndarray[Any, Any]] | None = None,
    ) -> LayerValues:
        """Compute from an artifact's own values what the truth model makes of them.

        Each call's result is replaced by the artifact's value at once, so that all later calls are
        computed from the artifact's values: the difference is the error that each layer adds.

        Args:
            inputs: the model's.
            artifact_values: by call; outputs of the model may be among the keys.
            entry: a call, and a value that replaces the first tensor that it receives.
        """
        key, value = entry or (None, None)
        watch = _Watch(artifact_values, artifact_values, entry=key, replacement=value)
        outputs = self._run(self._double, inputs, watch)
        return watch.values | _copies(outputs, artifact_values)

    def _run(
        self, module: torch.nn.Module, inputs: Arrays, watch: _Watch
    ) -> dict[CallKey, torch.Tensor]:
        """Run one of the two models under `watch`; return its outputs by key."""
        import torch

        wide = module is self._double and module is not self._single
        tensors = {}
        for name, array in inputs.items():
            widened = array.astype(np.float64) if wide and array.dtype == np.float32 else array
            tensors[name] = torch.from_numpy(widened)
        # Not inference_mode: its tensors have no version, which distinguishes a value from what was
        # later written over it.
        with torch.no_grad(), watch.on(module):
            outputs = flatten(call(module, tensors))
        keys = list(map(output_key, self._outputs))
        return dict(zip(keys, outputs, strict=True))


def output_key(name: str) -> CallKey:
    """Return the key of one of the model's outputs."""
    return f"output {name}", 0


def _copies(outputs: dict[CallKey, torch.Tensor], keys: Collection[CallKey]) -> LayerValues:
    return {key: _copied(tensor) for key, tensor in outputs.items() if key in keys}


@dataclass
class _OpenCall:
    """A call that has not ended: its input tensors with their versions; whether it is a leaf."""

    inputs: list[tuple[torch.Tensor, int]]
    leaf: bool = True

    def returns_an_input(self, result: torch.Tensor) -> bool:
        """Whether the result is an unchanged input, as of Identity or Dropout in eval mode."""
        unchanged = [tensor for tensor, version in self.inputs if tensor._version == version]
        return any(result is tensor for tensor in unchanged)


@dataclass
class _Watch:
    """Forward hooks of one run.

    `forced` replaces the results of calls, `replacement` the first input of the call `entry`.
    `_makers` maps the id of a tensor to the call that produced it, and to its version then.
    """

    keys: Collection[CallKey]
    forced: LayerValues = field(default_factory=dict)
    entry: CallKey | None = None
    replacement: np.ndarray[Any, Any] | None = None
    entered: np.ndarray[Any, Any] | None = None
    calls: list[LayerCall] = field(default_factory=list)
    values: LayerValues = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)
    _open: list[_OpenCall] = field(default_factory=list)
    _makers: dict[int, tuple[weakref.ref[Any], int, CallKey]] = field(default_factory=dict)

    @contextmanager
    def on(self, module: torch.nn.Module) -> Iterator[None]:
        """Watch all modules below `module` (not itself: its result is the model's outputs)."""
        handles = []
        for path, part in module.named_modules():
            if path:
                enter, leave = self._enter(path), self._leave(path)
                handles.append(part.register_forward_pre_hook(enter, with_kwargs=True))
                handles.append(part.register_forward_hook(leave, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, path: str) -> Any:
        def hook(module: Any, args: Any, kwargs: Any) -> Any:
            if self._open:
                self._open[-1].leaf = False
            tensors = _input_tensors(args, kwargs)
            self._open.append(_OpenCall([(tensor, tensor._version) for tensor in tensors]))
            if not tensors or (path, self._counts[path]) != self.entry:
                return None
            first = tensors[0]
            self.entered = _copied(first)  # now: an in-place module writes over it
            if self.replacement is None:
                return None
            replacement = first.new_tensor(self.replacement)
            return (
                tuple(replacement if value is first else value for value in args),
                {name: replacement if value is first else value for name, value in kwargs.items()},
            )

        return hook

    def _leave(self, path: str) -> Any:
        def hook(module: Any, args: Any, kwargs: Any, result: Any) -> Any:
            opened, tensor = self._open.pop(), _first_tensor(result)
            if tensor is None or (not opened.leaf and self._maker(tensor)):
                return None  # nothing new: no tensor, or the result of a module inside it
            kind, passive = kind_of_module(module), opened.returns_an_input(tensor)
            if passive and (kind == "identity" or not opened.leaf):
                return None
            key = (path, self._counts[path])
            self._counts[path] += 1
            source = self._source_of(opened)
            shape = tuple(tensor.shape)
            self.calls.append(LayerCall(key, kind, shape, source, opened.leaf, passive))
            if not passive:
                self._note_maker(tensor, key)
            if key in self.keys:
                self.values[key] = _copied(tensor)
            if key not in self.forced:
                return None
            replacement = tensor.new_tensor(self.forced[key])
            self._note_maker(replacement, key)
            return _replaced(result, tensor, replacement)

        return hook

    def _note_maker(self, tensor: torch.Tensor, key: CallKey) -> None:
        self._makers[id(tensor)] = (weakref.ref(tensor), tensor._version, key)

    def _maker(self, tensor: torch.Tensor, version: int | None = None) -> CallKey | None:
        """Return the call that produced this tensor, in `version` or as it is now."""
        entry = self._makers.get(id(tensor))
        if entry is None:
            return None
        reference, made_version, key = entry
        same_version = made_version == (tensor._version if version is None else version)
        return key if reference() is tensor and same_version else None

    def _source_of(self, opened: _OpenCall) -> CallKey | None:
        """Return the call whose result a call takes first, if it takes one unchanged."""
        for tensor, version in opened.inputs:
            key = self._maker(tensor, version)
            if key is not None:
                return key
        return None


def _input_tensors(args: Any, kwargs: Any) -> list[torch.Tensor]:
    """Return the first tensor of each argument that holds one."""
    tensors = []
    for value in (*args, *kwargs.values()):
        tensor = _first_tensor(value)
        if tensor is not None:
            tensors.append(tensor)
    return tensors


def _first_tensor(value: Any) -> torch.Tensor | None:
    try:
        return next(iter(flatten(value)), None)
    except BurnishError:  # something that holds no tensors, such as a number or a custom class
        return None


def _replaced(result: Any, tensor: torch.Tensor, replacement: torch.Tensor) -> Any:
    """Return the result with `replacement` for its first tensor.

    Returns None, which leaves the result as it is, if the tensor is packed in another way.
    """
    if result is tensor:
        return replacement
    if type(result) is tuple and result[0] is tensor:
        return (replacement, *result[1:])
    return None


def _copied(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """Copy a tensor, since a later call may write over it; bfloat16 as float32, for numpy."""
    import torch

    detached = tensor.detach()
    if detached.dtype == torch.bfloat16:
        detached = detached.float()
    copied: np.ndarray[Any, Any] = detached.cpu().numpy().copy()
    return copied
