"""Lines of the model's code: neither torch's nor Burnish's, and without folders."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import vision_transformer

from converters.exporters.torch.source_line import cite, source_line
from converters.exporters.torch.tracing import watched_trace


class Asks(nn.Module):
    """Asks from inside of torch which line called."""

    line: str | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.line = source_line()
        return x


def test_the_innermost_line_of_the_model_is_cited() -> None:
    model = Asks()
    model(torch.ones(1))
    assert model.line is not None
    assert model.line.startswith("test_source_line.py, line ")
    assert model.line.endswith("`self.line = source_line()`")


def test_a_package_whose_name_begins_as_torchs_is_not_torch() -> None:
    block = vision_transformer.EncoderBlock(2, 4, 8, 0.0, 0.0).eval()
    with watched_trace(1) as trace, torch.no_grad():
        torch.jit.trace(block, torch.ones(2, 3, 4))
    assert any(line.startswith("vision_transformer.py, line ") for line in trace.sizes)


def test_a_citation_has_no_folder() -> None:
    assert cite("/home/me/net.py", 3, "  if x:\n") == "net.py, line 3: `if x:`"
