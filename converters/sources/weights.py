"""Weights: an ordered list of sources; the first that can be had is loaded, checked and recorded."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from converters.sources import torchvision
from converters.sources.archive import ArchiveError, check_safetensors, check_zip
from converters.sources.programs import exported_state, torchscript_state
from converters.steps.trace import depend, depend_on_module
from runtimes.artifact.artifact import sha256
from runtimes.errors import UsageError

if TYPE_CHECKING:
    import torch

State = dict[str, Any]

SUFFIXES = (".pth", ".pt", ".th", ".pt2", ".safetensors")
# Where training scripts put the state_dict inside a checkpoint.
_NESTED = ("state_dict", "model_state_dict", "model")
# torch.hub's convention: a file name that ends in the first digits of its sha256.
_DIGEST = re.compile(r"-([a-f0-9]{8,64})\.\w+$")
_DOWNLOAD_SECONDS = 20.0  # without an answer for so long, the next source is tried


class Absent(Exception):
    """A source of weights cannot be had here; the next one is tried."""


class WeightsError(UsageError):
    """A source of weights is there, but is not what the model needs or cannot be trusted."""


@dataclass(frozen=True)
class WeightsRecord:
    """Which weights were used, and why the sources before them were not. `random` is never silent."""

    source: str
    sha256: str | None = None
    random: bool = False
    tried: list[dict[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As manifest and build.json tell it."""
        return asdict(self)


@dataclass(frozen=True)
class LoadedState:
    """A state that was loaded, or none for weights that the model has already."""

    source: str
    state: State | None = None
    sha256: str | None = None
    random_seed: int | None = None


def find_weights(
    sources: Sequence[str], model: str, folder: Path, trust: bool = False
) -> tuple[LoadedState, list[dict[str, str]]]:
    """The first source that can be had, and why those before it cannot; `trust` as in `read_state`.

    Raises:
        WeightsError: none can be had, or one is there but damaged, malicious or of an unknown kind.
    """
    tried: list[dict[str, str]] = []
    for source in sources:
        try:
            return _find(source, model, folder, trust), tried
        except Absent as error:
            tried.append({"source": source, "why": str(error)})
    reasons = "\n".join(f"  {one['source']}: {one['why']}" for one in tried)
    raise WeightsError(
        f"no weights for {model} can be had:\n{reasons}\n"
        "Add a file to `weights:`, or `random:0` to build with random weights knowingly."
    )


def _find(source: str, model: str, folder: Path, trust: bool) -> LoadedState:
    if source.startswith("random:"):
        seed = source.removeprefix("random:")
        if not seed.isdecimal():
            raise WeightsError(f"{source}: the seed must be a whole number, as in random:0")
        if int(seed) >= 1 << 63:
            raise WeightsError(f"{source}: the seed must be below 2**63")
        return LoadedState(source, random_seed=int(seed))
    if source == "DEFAULT":
        return _default(model)
    path = _package_file(source) if source.startswith("package:") else folder / source
    depend(path)
    if not path.is_file():
        raise Absent(f"{path} is not a file" if path.exists() else f"there is no file {path}")
    return LoadedState(source, read_state(path, trust), sha256(path))


def _default(model: str) -> LoadedState:
    kind, _, name = model.partition(":")
    if kind != "torchvision":
        return LoadedState("DEFAULT")  # as the factory made them
    import torch

    url = torchvision.default_weights_url(name)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    depend(path)
    if not path.is_file():
        _download(url, path)
        depend(path)  # as it is now
    return LoadedState(f"DEFAULT ({path.name})", read_state(path), sha256(path))


def _download(url: str, path: Path) -> None:
    import socket

    import torch

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_SECONDS)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = _DIGEST.search(path.name)
        torch.hub.download_url_to_file(url, str(path), digest.group(1) if digest else None, progress=False)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong digest is a RuntimeError
        raise Absent(f"not in the local cache ({path}), and the download failed: {error}") from error
    finally:
        socket.setdefaulttimeout(before)


def _package_file(source: str) -> Path:
    """The file of `package:DIST/path`; DIST names an importable package or a distribution."""
    name, _, inner = source.removeprefix("package:").partition("/")
    if not inner or ".." in PurePosixPath(inner).parts:
        raise WeightsError(f"{source}: must look like package:NAME/path/in/the/package.pth")
    depend_on_module(name)  # it may be installed later
    spec = find_spec(name) if name.isidentifier() else None
    if spec and spec.submodule_search_locations:
        return Path(spec.submodule_search_locations[0]) / inner
    try:
        return Path(str(distribution(name).locate_file(inner)))
    except PackageNotFoundError:
        raise Absent(f"the package {name} is not installed") from None


def read_state(path: Path, trust: bool = False) -> State:
    """The state_dict in a checkpoint file, without running any code that it carries.

    Args:
        path: a checkpoint; or, with `trust`, a program: a TorchScript module, or what torch.export saved.
        trust: the recipe says that programs are trusted (`trust: true`).

    Returns:
        Parameter names (without a `module.` prefix) to tensors.

    Raises:
        WeightsError: wrong digest, damaged file, a zip bomb, a program, a pickle that needs more than tensors, or
            no state_dict.
    """
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path}: weights are {', '.join(SUFFIXES)} files")
    digest = _DIGEST.search(path.name)
    if digest and not sha256(path).startswith(digest.group(1)):
        raise WeightsError(
            f"{path}: its sha256 does not start with {digest.group(1)}, as its name says: truncated or "
            "changed; delete it and fetch it again"
        )
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path, trust)
    state = _unwrap(content, path)
    if state and all(name.startswith("module.") for name in state):  # saved from DataParallel
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with path.open("rb") as file:
            check_safetensors(file)
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: damaged or no safetensors file ({error})") from error


def _read_torch(path: Path, trust: bool) -> Any:
    """What torch saved: the file's layout is checked first, and programs are refused without `trust`."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
            kind = check_zip(file) if start == b"PK" else "checkpoint"
        if not start.startswith((b"PK", b"\x80")):  # else torch takes any text for a forbidden pickle
            raise ArchiveError("neither a zip archive nor a pickle")
        if kind == "checkpoint":
            return _read_pickle(path)
        if not trust:
            raise WeightsError(_PROGRAM.format(path=path, what=_PROGRAMS[kind]))
        return torchscript_state(path) if kind == "torchscript" else exported_state(path)
    except WeightsError:
        raise
    except ArchiveError as error:
        raise WeightsError(f"{path}: damaged or no checkpoint ({error})") from error
    except Exception as error:  # a truncated zip or pickle ends in any of a dozen exceptions
        raise WeightsError(
            f"{path}: damaged or no checkpoint ({type(error).__name__}: {_first_line(error)})"
        ) from error


_PROGRAMS = {"torchscript": "a TorchScript module", "exported": "a program that torch.export saved"}
_PROGRAM = (
    "{path}: refused. It is {what}: it carries code beside its weights. If you trust where it comes from, add "
    "`trust: true` to the recipe: then its tensors are read, and its code is not run. Or save them as what they "
    "are, where that is safe: `safetensors.torch.save_file(module.state_dict(), FILE)`, and name that file in "
    "`weights:`."
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
            raise WeightsError(f"{path}: damaged or no checkpoint ({_first_line(error)})") from error
        raise WeightsError(
            f"{path}: refused. Loading it would run code that the file carries ({_first_line(error)}). "
            "If you trust it, load it once where that is safe and save `model.state_dict()` with "
            "safetensors.torch.save_file; then name that file in `weights:`."
        ) from error


def _first_line(error: BaseException) -> str:
    text = str(error)
    found = re.search(r"(Unsupported (?:global|class|operand)[^.\n]*\S+|GLOBAL \S+)", text)
    return found.group(1) if found else text.splitlines()[0][:200] if text else "no reason given"


def _unwrap(content: Any, path: Path) -> State:
    import torch

    for key in ("", *_NESTED):
        inner = content.get(key) if key and isinstance(content, dict) else content
        if isinstance(inner, dict) and inner and all(isinstance(value, torch.Tensor) for value in inner.values()):
            return {str(name): value for name, value in inner.items()}
    keys = f" with the keys {', '.join(map(str, list(content)[:8]))}" if isinstance(content, dict) else ""
    raise WeightsError(
        f"{path}: holds a {type(content).__name__}{keys}, no state_dict "
        f"(names to tensors, bare or under {', '.join(map(repr, _NESTED))})"
    )


def load_into(module: torch.nn.Module, found: LoadedState) -> None:
    """Put a state into the model. Raises WeightsError that lists every key that does not fit."""
    state = found.state or {}
    own = module.state_dict()
    problems = [f"missing in the file: {name} {list(own[name].shape)}" for name in own if name not in state]
    problems += [f"unknown to the model: {name} {list(state[name].shape)}" for name in state if name not in own]
    problems += [
        f"shape differs: {name} is {list(state[name].shape)}, the model's is {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems)
        raise WeightsError(f"{found.source} does not fit the model, {len(problems)} keys differ:\n{shown}")
    module.load_state_dict(state)
