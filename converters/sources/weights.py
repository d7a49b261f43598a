"""Weights: an ordered list of sources; the first available one is loaded and recorded."""

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
from converters.sources.kinds import unusual_kind
from converters.sources.pickles import check_pickles, check_zipped_pickle
from converters.sources.programs import exported_state, torchscript_state
from converters.steps.trace import depend, depend_on_module
from runtimes.artifact.artifact import sha256
from runtimes.errors import UsageError
from runtimes.files.regular import check_regular, open_regular

if TYPE_CHECKING:
    import torch

State = dict[str, Any]

SUFFIXES = (".pth", ".pt", ".th", ".pt2", ".safetensors")
# Keys under which training scripts save the state_dict inside a checkpoint.
_NESTED = ("state_dict", "model_state_dict", "model")
# torch.hub's convention: a file name that ends in the first digits of its sha256.
_DIGEST = re.compile(r"-([a-f0-9]{8,64})\.\w+$")
_DOWNLOAD_SECONDS = 20.0  # without an answer for so long, the next source is tried


class Absent(Exception):
    """A source of weights that is not available here; the next one is tried."""


class WeightsError(UsageError):
    """A source of weights that exists, but does not fit the model or cannot be trusted."""


@dataclass(frozen=True)
class WeightsRecord:
    """The weights that were used, and why the sources before them were not.

    `random` is never silent.
    """

    source: str
    sha256: str | None = None
    random: bool = False
    tried: list[dict[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of manifest and build.json."""
        return asdict(self)


@dataclass(frozen=True)
class LoadedState:
    """A loaded state, or none for weights that the model already has."""

    source: str
    state: State | None = None
    sha256: str | None = None
    random_seed: int | None = None


def find_weights(
    sources: Sequence[str], model: str, folder: Path, trust: bool = False
) -> tuple[LoadedState, list[dict[str, str]]]:
    """Return the first available source, and why those before it are not available.

    Args:
        sources: in order of preference.
        model: of the recipe.
        folder: that files are relative to.
        trust: as in `read_state`.

    Raises:
        WeightsError: none is available, or one is damaged, malicious or of an unknown kind.
    """
    tried: list[dict[str, str]] = []
    for source in sources:
        try:
            return _find(source, model, folder, trust), tried
        except Absent as error:
            tried.append({"source": source, "why": str(error)})
    reasons = "\n".join(f"  {attempt['source']}: {attempt['why']}" for attempt in tried)
    raise WeightsError(
        f"no weights found for {model}:\n{reasons}\n"
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
        return LoadedState("DEFAULT")  # the factory's own
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
        prefix = digest.group(1) if digest else None
        torch.hub.download_url_to_file(url, str(path), prefix, progress=False)
    except (
        OSError,
        RuntimeError,
    ) as error:  # URLError is an OSError; a wrong digest is a RuntimeError
        raise Absent(
            f"not in the local cache ({path}), and the download failed: {error}"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _package_file(source: str) -> Path:
    """Return the file of `package:DIST/path`; DIST is an importable package or a distribution."""
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
    digest = _DIGEST.search(path.name)
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


def load_into(module: torch.nn.Module, loaded: LoadedState) -> None:
    """Load a state into the model. Raises WeightsError that lists each key that does not fit."""
    state = loaded.state or {}
    shapes = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    file_shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    missing, unknown, differing = [], [], []
    for name, shape in shapes.items():
        if name not in file_shapes:
            missing.append(f"missing in the file: {name} {shape}")
        elif file_shapes[name] != shape:
            differing.append(
                f"shape differs: {name} is {file_shapes[name]}, the model's is {shape}"
            )
    for name, shape in file_shapes.items():
        if name not in shapes:
            unknown.append(f"unknown to the model: {name} {shape}")
    if problems := [*missing, *unknown, *differing]:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise WeightsError(
            f"{loaded.source} does not fit the model, {len(problems)} keys differ:\n{listed}"
        )
    module.load_state_dict(state)
