"""`python:package.module:factory`: a user's model, from the recipe's folder or the Python path."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtimes.errors import BurnishError, UsageError
from runtimes.registry import nearest

if TYPE_CHECKING:
    import torch


class FactoryError(BurnishError):
    """The user's factory raised; the message has its traceback."""


def build(target: str, args: dict[str, Any], folder: Path, location: str) -> torch.nn.Module:
    """Call a user's factory and return its model.

    Args:
        target: "package.module:factory".
        args: keyword arguments of the factory.
        folder: the recipe's folder, first on the import path.
        location: the recipe's file and line, for messages.

    Raises:
        UsageError: there is no such module or factory, or its result is not a torch module.
        FactoryError: importing the module or calling the factory raised.
    """
    import torch

    model = call_factory(target, args, folder, location)
    if not isinstance(model, torch.nn.Module):
        kind = type(model).__name__
        raise UsageError(f"{location}: {target} returned a {kind}, not a torch.nn.Module")
    return model


def call_factory(target: str, args: dict[str, Any], folder: Path, location: str) -> Any:
    """Import a user's function and call it; arguments and errors as those of `build`."""
    factory = find_function(target, folder, location)
    try:
        return factory(**args)
    except (Exception, SystemExit) as error:
        raise FactoryError(f"{location}: {target} raised\n{_user_traceback(error)}") from error


def find_function(target: str, folder: Path, location: str) -> Any:
    """Import a user's function, "package.module:function"; errors as those of `build`."""
    module_name, _, name = target.partition(":")
    module = _import_module(module_name, folder, location)
    function = getattr(module, name, None)
    if function is None:
        public = [public for public in vars(module) if not public.startswith("_")]
        suggestion = nearest(name, public)
        raise UsageError(f"{location}: {module_name} has no {name!r}{suggestion}")
    return function


def _import_module(name: str, folder: Path, location: str) -> Any:
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (name == missing or name.startswith(f"{missing}.")):
            message = f"there is no module {name!r} in {folder} or on the Python path"
            raise UsageError(f"{location}: {message}") from error
        message = f"importing {name} failed\n{_user_traceback(error)}"
        raise FactoryError(f"{location}: {message}") from error


def _user_traceback(error: BaseException) -> str:
    """Return the traceback of the user's frames, without Burnish and the import system."""
    frames = []
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename != __file__ and "importlib" not in frame.filename:
            frames.append(frame)
    lines = traceback.format_list(frames) + traceback.format_exception_only(error)
    return "".join(lines).rstrip()
