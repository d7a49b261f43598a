"""What torch.export knows of sizes: programs that are right for fewer than `dims:` are refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from converters.exporters.base import Exporter
from converters.exporters.job import ExportJob
from converters.exporters.onnx.onnx import OnnxExporter, OnnxOptions
from converters.exporters.torch.aot_inductor import AotInductorExporter, AotInductorOptions
from converters.exporters.torch.program import capture_program
from converters.exporters.torch.restrictions import NarrowSizes
from converters.exporters.torch.torch_export import TorchExportExporter, TorchExportOptions

MakeJob = Callable[..., ExportJob]


class PadIfNeeded(nn.Module):
    """Pads to a multiple of 8 only where that is needed, as restorers do."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Conv2d(1, 2, 8, stride=8)
        self.back = nn.ConvTranspose2d(2, 1, 8, stride=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        padded = x
        if height % 8 or width % 8:  # here: pad
            padded = F.pad(x, (0, -width % 8, 0, -height % 8), mode="reflect")
        return self.back(self.inside(padded))[..., :height, :width] + x


class PadAlways(PadIfNeeded):
    """The same without a branch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % 8, 0, -height % 8))
        return self.back(self.inside(padded))[..., :height, :width] + x


class Portrait(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-2] > x.shape[-1]:  # here: portrait
            return x * 2
        return x * 3


class LongSequences(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] > 128:  # here: long
            return x * 2
        return x * 3


class SingleSize(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] == 33:  # here: single
            return x * 2
        return x * 3


class FirstSize(nn.Module):
    """A branch at size 1: the user's own, and no choice of an operator."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] == 1:  # here: first
            return x * 2
        return x * 3


class Loop(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = x[:, 0] * 0
        for index in range(x.shape[1]):  # here: loop
            total = total + x[:, index]
        return total


class Float(nn.Module):
    """A share that goes through Python's floats."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        share = round(x.shape[1] * 0.3)
        return x[:, :share].sum(1)


class Half(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, : int(x.shape[1] / 2)]


class Smaller(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, : min(x.shape[1], 64)].sum(1)


class Positions(nn.Module):
    """A table that covers all sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(256))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.table[: x.shape[1]] + torch.arange(x.shape[1])


class IntBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(int(x.shape[0]), -1) * 2


class Attention(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.unsqueeze(-1) * torch.ones(4)
        return F.scaled_dot_product_attention(tokens, tokens, tokens)


class Fours(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.shape[0], -1, 4).sum(-1)


class Square(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x.transpose(-1, -2)


class Step(nn.Module):
    """A decoder's step: a cache of keys, and a mask with a column for each of all keys."""

    def forward(
        self, x: torch.Tensor, past: torch.Tensor, mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        keys = torch.cat([past, x], 1)
        weights = (x @ keys.transpose(1, 2) + mask).softmax(-1)
        return {"y": weights @ keys, "keys": keys}


@dataclass(frozen=True)
class Case:
    """A model, its dimensions as written, and what the message says of the sizes (None: right)."""

    model: type[nn.Module]
    dims: Mapping[str, Any]
    says: str | None = None
    line: str | None = None
    fix: str | None = None


PICTURE = {"batch": (1, 4), "height": (16, 64, 32), "width": (16, 64, 32)}
SEQUENCE = {"batch": (1, 8), "length": (2, 256, 32)}
EIGHTS = {"min": 16, "max": 64, "multiple_of": 8}
WRONG = [
    Case(
        PadIfNeeded,
        PICTURE,
        "height: only 16 to 64 in multiples of 8, of 16 to 64",
        "if height % 8 or width % 8:  # here: pad",
        "`height: {multiple_of: 8}`, `width: {multiple_of: 8}`",
    ),
    Case(Portrait, PICTURE, "height <= width, 1225 of 2401 combinations", "# here: portrait"),
    Case(
        LongSequences,
        SEQUENCE,
        "length: only 2 to 128, of 2 to 256",
        "if x.shape[1] > 128:  # here: long",
        "`length: {max: 128}`",
    ),
    Case(SingleSize, SEQUENCE, "length: only 254 of 255 sizes (2, 3, 4, ...)", "# here: single"),
    Case(FirstSize, {**SEQUENCE, "length": (1, 9, 4)}, "length: only 2 to 9", "# here: first"),
    Case(Loop, {**SEQUENCE, "length": (2, 9, 4)}, "length: only 4, of 2 to 9", "# here: loop"),
]
RIGHT = [
    Case(PadIfNeeded, {**PICTURE, "height": EIGHTS, "width": EIGHTS}),
    Case(PadAlways, PICTURE),
    Case(Portrait, {**PICTURE, "width": "height"}),
    Case(LongSequences, {**SEQUENCE, "length": (2, 128, 32)}),
    Case(Float, SEQUENCE),
    Case(Half, SEQUENCE),
    Case(Smaller, SEQUENCE),
    Case(Positions, SEQUENCE),
    Case(IntBatch, SEQUENCE),
    Case(Attention, {**SEQUENCE, "length": (1, 64, 8)}),
    Case(Fours, {**SEQUENCE, "length": {"min": 4, "max": 256, "multiple_of": 4}}),
    Case(Square, {**PICTURE, "width": "height"}),
]


def job_of(case: Case, make_job: MakeJob) -> ExportJob:
    is_picture = "height" in case.dims
    shape = ["batch", 1, "height", "width"] if is_picture else ["batch", "length"]
    return make_job(case.model(), {"x": shape}, case.dims)


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.model.__name__)
def test_a_program_for_fewer_sizes_is_refused_with_line_and_sizes(
    case: Case, make_job: MakeJob
) -> None:
    with pytest.raises(NarrowSizes) as refused:
        capture_program(job_of(case, make_job), oblivious=True)
    message = str(refused.value)
    assert case.says is not None and case.says in message
    assert case.line is not None and case.line in message
    assert "test_restrictions.py, line " in message and "/test_restrictions.py" not in message
    assert (case.fix or "rewrite the code") in message
    assert 0 < refused.value.share < 1
    copy = pickle.loads(pickle.dumps(refused.value))  # noqa: S301 - it comes from a step's process
    assert (str(copy), copy.share) == (message, refused.value.share)


@pytest.mark.parametrize("case", RIGHT, ids=lambda case: case.model.__name__)
def test_a_program_that_holds_at_all_sizes_is_exported(case: Case, make_job: MakeJob) -> None:
    job = job_of(case, make_job)
    program = capture_program(job).result
    sizes = {name: dim.min for name, dim in job.facts.dims.items()}
    x = torch.randn(job.facts.inputs["x"].concrete(sizes))
    torch.testing.assert_close(program.module()(x), job.module(x))


@pytest.mark.parametrize(
    ("exporter", "options"),
    [
        (TorchExportExporter, TorchExportOptions(format="torch-export")),
        (AotInductorExporter, AotInductorOptions(format="aot-inductor")),
        (OnnxExporter, OnnxOptions(format="onnx")),
    ],
    ids=["torch-export", "aot-inductor", "onnx"],
)
def test_each_format_made_from_the_program_is_refused(
    exporter: type[Exporter], options: Any, make_job: MakeJob
) -> None:
    job = make_job(LongSequences(), {"x": ["batch", "length"]}, SEQUENCE)
    with pytest.raises(NarrowSizes, match="length: only 2 to 128, of 2 to 256"):
        exporter().export(job, options)


def test_equal_sizes_are_proposed_as_a_relation(make_job: MakeJob) -> None:
    """Eager would refuse them too, but a larger program may hide that."""
    job = make_job(Square(), {"x": ["batch", 1, "height", "width"]}, {**PICTURE, "width": "height"})
    wide = {name: dim.model_copy(update={"equals": None}) for name, dim in job.facts.dims.items()}
    job.facts.dims.update(wide)
    with pytest.raises(NarrowSizes, match=r"state it in `dims:` \(`width: height`\)"):
        capture_program(job)


@pytest.mark.parametrize("method", ["non-strict", "strict"])
def test_a_cache_whose_mask_has_a_column_for_each_key(method: str, make_job: MakeJob) -> None:
    inputs = {
        "x": ["batch", "new", 4],
        "past": ["batch", "past", 4],
        "mask": ["batch", "new", "total"],
    }
    dims = {"batch": (1, 4), "past": (1, 32, 6), "new": (1, 8, 3), "total": "past + new"}
    program = capture_program(make_job(Step(), inputs, dims), method).result
    x, past, mask = torch.randn(2, 1, 4), torch.randn(2, 5, 4), torch.zeros(2, 1, 6)
    expected = Step()(x, past, mask)
    torch.testing.assert_close(program.module()(x=x, past=past, mask=mask), expected)
