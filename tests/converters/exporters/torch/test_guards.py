"""Guards of exported programs: their conditions, lines, and those that restrict nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.export._patches import register_lstm_while_loop_decomposition

from converters.errors import ExportError
from converters.exporters.job import ExportJob
from converters.exporters.torch.guards import find_guards, recorded_sources
from converters.exporters.torch.program import capture_program
from converters.exporters.torch.restrictions import find_restrictions

MakeJob = Callable[..., ExportJob]


class Twice(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.shape[1] < 100 else x


class Rooted(nn.Module):
    """A guard that torch writes with functions of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = max(1, int(0.7 * x.shape[1]))
        return x[:, :kept].sum(1)


class Frames(nn.Module):
    """A product over windows, of which the shortest input has one."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.project(x.unfold(1, 6, 3))  # type: ignore[no-any-return]


class Gram(nn.Module):
    """A product whose operator sets size 1 apart."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ x.transpose(-1, -2) + x


def branch(x: torch.Tensor) -> torch.Tensor:
    return x * 2 if x.sum() > 0 else x


def number(x: torch.Tensor) -> torch.Tensor:
    return x * 2 if float(x.mean()) > 0.5 else x


def masked(x: torch.Tensor) -> torch.Tensor:
    return x * 2 if x[x > 0].shape[0] > 3 else x


class Function(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


@pytest.mark.parametrize("strict", [False, True])
def test_a_guard_has_the_dimension_and_the_line_of_its_condition(
    strict: bool, make_job: MakeJob
) -> None:
    job = make_job(Twice(), {"x": ["batch", "length"]}, {"batch": (1, 4), "length": (2, 99, 8)})
    args, _ = job.example_call()
    with recorded_sources():
        program = torch.export.export(
            job.module, args, dynamic_shapes=job.dynamic_shapes(hints=True), strict=strict
        )
    [guard] = [guard for guard in find_guards(program, job.facts) if "100" in guard.condition]
    assert (guard.condition, guard.dims) == ("length < 100", ("length",))
    assert [guard.holds({"length": size}) for size in (2, 99, 100)] == [True, True, False]
    assert guard.source is not None
    assert guard.source.startswith("test_guards.py, line ")
    assert "x.shape[1] < 100" in guard.source


@pytest.mark.parametrize("oblivious", [False, True])
def test_an_operators_choice_at_a_single_window_restricts_nothing(
    oblivious: bool, make_job: MakeJob
) -> None:
    job = make_job(Frames(), {"x": ["batch", "n"]}, {"batch": (1, 4), "n": (6, 40, 16)})
    module = capture_program(job, oblivious=oblivious).result.module()
    for size in (6, 8, 9, 11, 40):
        x = torch.randn(1, size)
        torch.testing.assert_close(module(x), job.module(x))


def test_guards_with_quotients_of_sizes_are_evaluated(make_job: MakeJob) -> None:
    dims = {"batch": (1, 4), "length": (8, 64, 16)}
    job = make_job(Rooted(), {"x": ["batch", "length"]}, dims)
    module = capture_program(job).result.module()
    for size in (8, 9, 33, 64):
        x = torch.randn(2, size)
        torch.testing.assert_close(module(x), job.module(x))


@pytest.mark.parametrize("method", ["non-strict", "strict"])
def test_an_operators_choice_at_size_1_restricts_nothing(method: str, make_job: MakeJob) -> None:
    dims = {"batch": (1, 4), "height": (1, 64, 8), "width": "height"}
    job = make_job(Gram(), {"x": ["batch", "height", "width"]}, dims)
    module = capture_program(job, method).result.module()
    for size in (1, 2, 5):
        x = torch.randn(1, size, size)
        torch.testing.assert_close(module(x), job.module(x))


class Cell(nn.Module):
    """A layer that says `batch >= 2`, since it sets size 1 apart."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(4, 3)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return self.cell(x, state)


def test_a_cell_is_right_for_a_batch_of_one(make_job: MakeJob) -> None:
    job = make_job(Cell(), {"x": ["batch", 4], "state": ["batch", 3]}, {"batch": (1, 6)})
    module = capture_program(job).result.module()
    x, state = torch.randn(1, 4), torch.randn(1, 3)
    torch.testing.assert_close(module(x=x, state=state), job.module(x, state))


class Recurrent(nn.Module):
    """A layer whose guard at size 1 is multiplied by a stride: `6*length != 6`."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(6, 4, num_layers=2, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cells(x)[0]


def test_so_does_one_that_a_stride_multiplies(make_job: MakeJob) -> None:
    dims = {"batch": (1, 4), "length": (1, 20, 12)}
    job = make_job(Recurrent().eval(), {"x": ["batch", "length", 6]}, dims)
    with register_lstm_while_loop_decomposition():
        program = capture_program(job, oblivious=True).result
    assert find_restrictions(program, job.facts) == []


@pytest.mark.parametrize("method", ["non-strict", "strict"])
@pytest.mark.parametrize("function", [branch, number, masked], ids=lambda f: f.__name__)
def test_a_look_at_values_is_told_with_its_line(
    function: Callable[[torch.Tensor], torch.Tensor], method: str, make_job: MakeJob
) -> None:
    job = make_job(Function(function), {"x": ["batch", 3]}, {"batch": (1, 4)})
    with pytest.raises(ExportError) as error:
        capture_program(job, method)
    message = str(error.value)
    assert "the code looks at values (test_guards.py, line " in message
    assert "torch.where" in message
    assert len(message) < 400, "torch's own text has pages"
