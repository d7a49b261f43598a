"""Reads weights from a checkpoint file, without running any code that it carries."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

from converters.sources.archive import ArchiveError, check_safetensors, check_zip
from converters.sources.kinds import unusual_kind
from converters.sources.pickles import check_pickles, check_zipped_pickle
from converters.sources.programs import exported_state, torchscript_state
from runtimes.artifact.artifact import sha256
from runtimes.errors import UsageError
from runtimes.files.regular import check_regular, open_regular

State = dict[str, Any]

SUFFIXES = (".pth", ".pt", ".th", ".pt2", ".safetensors")
DIGEST = re.compile(r"-([a-f0-9]{8,64})\.\w+$")
"""torch.hub's convention: a file name that ends in the first digits of its sha256."""
# Keys under which training scripts save the state_dict inside a checkpoint.
_NESTED = ("state_dict", "model_state_dict", "model")


class WeightsError(UsageError):
    """A source of weights that exists, but does not fit the model or cannot be trusted."""


def read_state(path: Path, trust: bool = False) -> State:
    """Read the state_dict in a checkpoint file, without running any code that it carries.

    Args:
        path: a checkpoint; or, with `trust`, a program: a TorchScript module, or a file of
            torch.export.
        trust: the recipe trusts programs (`trust: true`).

    Returns:
        Parameter names (without a `module.` prefix) to tensors.

    Raises:
        WeightsError: wrong digest, damaged file, a zip bomb, a program, a pickle that needs more
            than tensors, or no state_dict.
    """
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path}: weights are {', '.join(SUFFIXES)} files")
    try:
        check_regular(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    digest = DIGEST.search(path.name)
    if digest and not sha256(path).startswith(digest.group(1)):
        raise WeightsError(
            f"{path}: its sha256 does not start with {digest.group(1)}, as its name says: "
            "truncated or changed; delete it and download it again"
        )
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path, trust)
    state = _unwrap(content, path)
    _check_kinds(state, path)
    if state and all(name.startswith("module.") for name in state):  # saved from DataParallel
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def _read_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    try:
        with open_regular(path) as file:
            check_safetensors(file)
        return load_file(path)
    except Exception as error:  # SafetensorError, OSError, and KeyError for unknown types
        raise WeightsError(
            f"{path}: damaged, or not a safetensors file ({_first_line(error)})"
        ) from error


def _read_torch(path: Path, trust: bool) -> Any:
    """Read a file of torch after a check of its layout; refuse programs without `trust`."""
    try:
        with open_regular(path) as file:
            start = file.read(2)
            kind = check_zip(file) if start == b"PK" else "checkpoint"
            if start.startswith(b"\x80"):
                check_pickles(file)
        # Otherwise torch takes any text for a forbidden pickle.
        if not start.startswith((b"PK", b"\x80")):
            raise ArchiveError("neither a zip archive nor a pickle")
        if kind != "exported" and start == b"PK":
            check_zipped_pickle(path)
        if kind == "checkpoint":
            return _read_pickle(path)
        if not trust:
            raise WeightsError(_PROGRAM.format(path=path, kind=_PROGRAMS[kind]))
        return torchscript_state(path) if kind == "torchscript" else exported_state(path)
    except WeightsError:
        raise
    except ArchiveError as error:
        raise WeightsError(f"{path}: damaged, or not a checkpoint ({error})") from error
    except Exception as error:  # a truncated zip or pickle ends in any of a dozen exceptions
        raise WeightsError(
            f"{path}: damaged, or not a checkpoint ({type(error).__name__}: {_first_line(error)})"
        ) from error


_PROGRAMS = {"torchscript": "a TorchScript module", "exported": "a program that torch.export saved"}
_PROGRAM = (
    "{path}: refused. It is {kind}: it carries code beside its weights. If you trust its origin, "
    "add `trust: true` to the recipe: then its tensors are read, and its code is not run. Or save "
    "the weights alone in a safe environment: "
    "`safetensors.torch.save_file(module.state_dict(), FILE)`, and name that file in `weights:`."
)


def _read_pickle(path: Path) -> Any:
    import pickle

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error) and "Unsupported" not in str(error):
            raise WeightsError(
                f"{path}: damaged, or not a checkpoint ({_first_line(error)})"
            ) from error
        raise WeightsError(
            f"{path}: refused. Loading it would run code that the file carries "
            f"({_first_line(error)}). If you trust it, load it once in a safe environment and save "
            "`model.state_dict()` with safetensors.torch.save_file; then name that file in "
            "`weights:`."
        ) from error


def _first_line(error: BaseException) -> str:
    text = str(error)
    if match := re.search(r"(Unsupported (?:global|class|operand)[^.\n]*\S+|GLOBAL \S+)", text):
        return match.group(1)
    return text.splitlines()[0][:200] if text else "no reason given"


def _unwrap(content: Any, path: Path) -> State:
    import torch

    for key in ("", *_NESTED):
        inner = content.get(key) if key and isinstance(content, dict) else content
        if not isinstance(inner, dict) or not inner:
            continue
        # A key that is no text or number may be of any size, and is no parameter's name.
        named = all(isinstance(name, str | int) for name in inner)
        if named and all(isinstance(value, torch.Tensor) for value in inner.values()):
            return {str(name): value for name, value in inner.items()}
    keys = f" with the keys {', '.join(_shown_keys(content))}" if isinstance(content, dict) else ""
    raise WeightsError(
        f"{path}: holds a {type(content).__name__}{keys}, no state_dict "
        f"(names to tensors, bare or under {', '.join(map(repr, _NESTED))})"
    )


def _shown_keys(content: dict[Any, Any]) -> list[str]:
    """Return the first keys for a message."""
    return [
        str(key)[:80] if isinstance(key, str | int) else f"(a {type(key).__name__})"
        for key in list(content)[:8]
    ]


def _check_kinds(state: State, path: Path) -> None:
    """Raise WeightsError for tensors without plain values: nothing could be compared with them."""
    for name, tensor in state.items():
        if kind := unusual_kind(tensor):
            raise WeightsError(
                f"{path}: {name} is a {kind} tensor, and weights are plain ones: save "
                "`model.state_dict()` of the float model on the CPU"
            )
