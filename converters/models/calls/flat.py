"""A model with flat ends: inputs in order, each one tensor, and a tuple of tensors as the result.

Exporters take tensors in order or by name, and results of tuples, lists and dicts. A model with
other ends (a list of inputs, `**kwargs`, a data class as its result, casts to half precision) is
exported, and timed, in this form.
"""

from __future__ import annotations

import copy
import inspect
import keyword
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from converters.models.calls.binding import bind
from converters.models.calls.half import run_wide
from runtimes.engines.torch.outputs import flatten, widened

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def flat(module: nn.Module, names: Sequence[str]) -> nn.Module:
    """Return the module with flat ends; it shares all parameters and parts with `module`.

    The paths of its parts stay: it is the same module with another forward().

    Args:
        module: the model, in the mode to run it in.
        names: of the inputs, in the order in which the result takes them.
    """
    binding = bind(module, names)
    forward = _forward_of(module)

    def flat_forward(self: nn.Module, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        def run(inputs: Any) -> Any:
            args, kwargs = binding.arguments(inputs)
            return forward(self, *args, **kwargs)

        result, _ = run_wide(self, dict(zip(names, tensors, strict=True)), run)
        return tuple(widened(tensor) for tensor in flatten(result))

    flat_forward.__signature__ = _signature(names)  # type: ignore[attr-defined]
    if isinstance(module, torch.jit.ScriptModule):  # its class cannot be extended
        return _around(module, flat_forward)
    flattened = copy.copy(module)
    vars(flattened).pop("forward", None)
    for name in _HOOKS:  # they expect the arguments of the original forward()
        vars(flattened)[name] = OrderedDict()
    flattened.__class__ = _subclass(type(module), flat_forward)
    return flattened


def _signature(names: Sequence[str]) -> inspect.Signature:
    """Return a signature with a parameter for each input, by which torch.export names them."""
    parameters = ["self"]
    for name in names:
        plain = re.sub(r"\W", "_", f"_{name}" if name[:1].isdecimal() else name)
        while plain in parameters or keyword.iskeyword(plain):
            plain += "_"
        parameters.append(plain)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter(name, kind) for name in parameters])


def _forward_of(module: nn.Module) -> Callable[..., Any]:
    """Return forward() as a function of the module: with hooks, if it has its own."""
    hooked = any(vars(module).get(name) for name in _HOOKS)
    if hooked or "forward" in vars(module) or isinstance(module, torch.jit.ScriptModule):
        return lambda self, *args, **kwargs: module(*args, **kwargs)
    return type(module).forward


def _subclass(kind: type[nn.Module], forward: Callable[..., Any]) -> type[nn.Module]:
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind,), {"forward": forward, **names})


def _around(module: nn.Module, forward: Callable[..., Any]) -> nn.Module:
    outer = nn.Module()
    outer.model = module
    outer.__class__ = _subclass(nn.Module, forward)
    return outer.train(module.training)
