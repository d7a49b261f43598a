"""The eager module as a session, with which every artifact is compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtimes.engines.torch.session import TorchSession, use_threads
from runtimes.session import SessionOptions
from runtimes.spec import Dims, Specs

if TYPE_CHECKING:
    import torch


def eager_session(
    module: torch.nn.Module,
    inputs: Specs,
    outputs: Specs,
    dims: Dims,
    device: str = "cpu",
    options: SessionOptions | None = None,
    by_keyword: bool = False,
) -> TorchSession:
    """Wrap an eager module, in eval mode, as a session on `device`."""
    use_threads(options.threads if options else None)
    return TorchSession(module.eval().to(device), inputs, outputs, dims, device, by_keyword)
