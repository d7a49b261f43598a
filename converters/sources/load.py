"""The eager model that a recipe names: build it, find its weights, load them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters import user_code as python
from converters.models.call import call
from converters.sources import torchvision
from converters.sources.randomize import randomize
from converters.sources.weights import LoadedState, WeightsRecord, find_weights, load_into
from runtimes.engines.torch.inputs import to_tensors
from runtimes.errors import UsageError
from runtimes.spec import Dims, Specs, complete_sizes, free_dims
from runtimes.validator.inputs.draws import draw_all

if TYPE_CHECKING:
    import torch

_RANDOM_BATCH = 4  # samples per dynamic dimension while BatchNorm statistics are estimated


@dataclass(frozen=True)
class Source:
    """Everything that loading a model needs; picklable, so that each process can do it."""

    model: str
    args: dict[str, Any]
    weights: tuple[str, ...]
    folder: Path
    where: str
    inputs: Specs
    dims: Dims = field(default_factory=dict)
    trust: bool = False


@dataclass(frozen=True)
class Loaded:
    """An eager model in eval mode and the record of its weights."""

    module: torch.nn.Module
    weights: WeightsRecord


def code_notes(source: Source) -> list[str]:
    """Return a note if the recipe had this process run a user's code, with its origin."""
    kind, _, target = source.model.partition(":")
    if kind != "python":
        return []
    return [f"python:{target} is code that was run, from {source.folder} or the Python path"]


def build_module(source: Source) -> torch.nn.Module:
    """Build the model by its factory, under the seed of `random:SEED` or seed 0.

    Weights in half precision become float32: see `widen`.
    """
    import torch

    from converters.models.calls.half import widen

    torch.manual_seed(_seed(source))
    kind, _, name = source.model.partition(":")
    try:
        if kind == "torchvision":
            return torchvision.build(name, source.args).eval()
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{source.where}: torchvision cannot build {name} with {source.args}: {error}"
        ) from error
    return widen(python.build(name, source.args, source.folder, source.where).eval())


def _seed(source: Source) -> int:
    last = source.weights[-1] if source.weights else ""
    seed = last.removeprefix("random:")
    return int(seed) if last.startswith("random:") and seed.isdecimal() else 0


def load_model(source: Source) -> Loaded:
    """Build the model and load the first weights that are available."""
    kind = source.model.partition(":")[0]
    names = source.weights or ("DEFAULT",)
    loaded, tried = find_weights(names, source.model, source.folder, source.trust)
    module = build_module(source)
    record = WeightsRecord(loaded.source, loaded.sha256, loaded.random_seed is not None, tried)
    if loaded.random_seed is not None:
        randomize(module, loaded.random_seed, lambda: _forward_noise(module, source, loaded))
    elif loaded.state is not None:
        load_into(module, loaded)
    elif kind == "python":
        record = WeightsRecord("as the factory made them", None, False, tried)
    return Loaded(module.eval(), record)


def _forward_noise(module: torch.nn.Module, source: Source, loaded: LoadedState) -> None:
    import numpy as np

    rng = np.random.default_rng(loaded.random_seed)
    free = free_dims(source.dims).items()
    sizes = {name: max(dim.best, min(dim.max, _RANDOM_BATCH)) for name, dim in free}
    noise = draw_all(source.inputs, complete_sizes(sizes, source.dims), rng)
    call(module, to_tensors(noise))
