"""The eager model as a step left it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.models.facts import ModelFacts
from converters.sources.archive import check_zip
from converters.sources.load import Source, build_module, load_model
from runtimes.engines.torch.eager import eager_session
from runtimes.files.layout import STATE_FILE
from runtimes.session import Session, SessionOptions

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
        module = restore(self.source, self.work)
        facts = self.facts
        return eager_session(
            module,
            facts.inputs,
            facts.outputs,
            facts.dims,
            self.device,
            self.options,
            facts.by_keyword,
        )


@dataclass(frozen=True)
class EagerFromSource:
    """Opens the eager model of a recipe, for artifacts that were built earlier."""

    source: Source
    inputs: Any
    outputs: Any
    by_keyword: bool
    device: str
    options: SessionOptions

    def __call__(self) -> Session:
        """Load the model with the first weights that are available, and wrap it."""
        module = load_model(self.source).module
        dims = self.source.dims
        return eager_session(
            module, self.inputs, self.outputs, dims, self.device, self.options, self.by_keyword
        )
