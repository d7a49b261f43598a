"""The eager model as a step left it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converters.models.call import call_noting_casts
from converters.models.calls.binding import bind
from converters.models.facts import ModelFacts
from converters.sources.archive import check_zip
from converters.sources.load import Source, build_module, load_model
from converters.sources.pickles import check_zipped_pickle
from runtimes.engines.torch.eager import eager_session
from runtimes.engines.torch.inputs import to_tensors
from runtimes.files.layout import STATE_FILE
from runtimes.session import Session, SessionOptions
from runtimes.spec import Dims, Specs
from runtimes.validator.probes import synthetic_samples

if TYPE_CHECKING:
    import torch


def restore(source: Source, work: Path) -> torch.nn.Module:
    """Restore the model exactly as the load step, or a pass, left it in a folder."""
    import torch

    from converters.models.structure import Structure, apply

    with (work / STATE_FILE).open(
        "rb"
    ) as file:  # `burnish debug` restores models of builds from elsewhere
        check_zip(file)
    check_zipped_pickle(work / STATE_FILE)
    module = build_module(source)
    apply(Structure.load(work), module)
    state = torch.load(work / STATE_FILE, map_location="cpu", weights_only=True, mmap=True)
    module.load_state_dict(state)
    return module.eval()


@dataclass(frozen=True)
class EagerFromState:
    """Opens the eager model of a running build, in the process that times it."""

    source: Source
    facts: ModelFacts
    work: Path
    device: str
    options: SessionOptions

    def __call__(self) -> Session:
        """Restore the model and wrap it."""
        facts = self.facts
        module = restore(self.source, self.work)
        return open_eager(
            module, facts.inputs, facts.outputs, facts.dims, self.device, self.options
        )


@dataclass(frozen=True)
class EagerFromSource:
    """Opens the eager model of a recipe, for artifacts that were built earlier."""

    source: Source
    inputs: Specs
    outputs: Specs
    device: str
    options: SessionOptions

    def __call__(self) -> Session:
        """Load the model with the first weights that are available, and wrap it."""
        module = load_model(self.source).module
        dims = self.source.dims
        return open_eager(module, self.inputs, self.outputs, dims, self.device, self.options)


def open_eager(
    module: torch.nn.Module,
    inputs: Specs,
    outputs: Specs,
    dims: Dims,
    device: str,
    options: SessionOptions,
) -> Session:
    """Wrap a model as a session that binds its inputs as `call` does."""
    from converters.models.calls.flat import flat

    binding = bind(module, list(inputs))
    by_keyword = binding.by_keyword
    if not binding.plain or _casts(module, inputs, dims):
        module, by_keyword = flat(module, list(inputs)), False
    return eager_session(module, inputs, outputs, dims, device, options, by_keyword)


def _casts(module: torch.nn.Module, inputs: Specs, dims: Dims) -> bool:
    """Return whether a model stored in half precision casts to it, or has inputs in it."""
    import torch

    from converters.models.calls.half import stored_in_half

    if not stored_in_half(module):
        return False
    [noise] = synthetic_samples(inputs, dims, count=1)
    tensors = to_tensors(noise.inputs)
    with torch.inference_mode():
        return call_noting_casts(module, tensors)[1]
