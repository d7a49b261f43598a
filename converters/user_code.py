"""`python:package.module:factory`: a user's own model, from the recipe's folder or the Python path."""

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
    """The user's factory raised; the message carries its traceback."""


def build(target: str, args: dict[str, Any], folder: Path, where: str) -> torch.nn.Module:
    """Call the factory.

    Args:
        target: "package.module:factory".
        args: keyword arguments of the factory.
        folder: the recipe's folder, first on the import path.
        where: the recipe's file and line, for messages.

    Raises:
        UsageError: no such module or factory, or it makes something that is no torch module.
        FactoryError: importing the module or calling the factory raised.
    """
    import torch

    model = call_factory(target, args, folder, where)
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"{where}: {target} returned a {type(model).__name__}, not a torch.nn.Module")
    return model


def call_factory(target: str, args: dict[str, Any], folder: Path, where: str) -> Any:
    """Import a user's function and call it; arguments and errors as those of `build`."""
    module_name, _, factory_name = target.partition(":")
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise UsageError(
                f"{where}: there is no module {module_name!r} in {folder} or on the Python path"
            ) from error
        raise FactoryError(f"{where}: importing {module_name} failed\n{_own_traceback(error)}") from error
    except (Exception, SystemExit) as error:
        raise FactoryError(f"{where}: importing {module_name} failed\n{_own_traceback(error)}") from error
    factory = getattr(module, factory_name, None)
    if factory is None:
        public = [name for name in vars(module) if not name.startswith("_")]
        raise UsageError(f"{where}: {module_name} has no {factory_name!r}{nearest(factory_name, public)}")
    try:
        return factory(**args)
    except (Exception, SystemExit) as error:
        raise FactoryError(f"{where}: {target} raised\n{_own_traceback(error)}") from error


def _own_traceback(error: BaseException) -> str:
    """The traceback from the user's first frame on: Burnish's own frames and the import system say nothing."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
    lines = traceback.format_list(own) + traceback.format_exception_only(error)
    return "".join(lines).rstrip()
