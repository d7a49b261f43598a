"""Weights: an ordered list of sources; the first available one is loaded and recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from converters.sources import torchvision
from converters.sources.checkpoint import DIGEST, State, WeightsError, read_state
from converters.steps.trace import depend, depend_on_module
from runtimes.artifact.artifact import sha256

if TYPE_CHECKING:
    import torch

_DOWNLOAD_SECONDS = 20.0  # without an answer for so long, the next source is tried


class Absent(Exception):
    """A source of weights that is not available here; the next one is tried."""


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
        digest = DIGEST.search(path.name)
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
