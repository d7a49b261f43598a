"""Looks of Python at tensors that are being traced: at values they end a fallback, at sizes not."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from converters.errors import Refused
from converters.exporters.job import ExportJob
from converters.exporters.onnx.onnx import OnnxExporter, OnnxOptions
from converters.exporters.torch.restrictions import NarrowSizes
from converters.exporters.torch.torchscript import TorchScriptExporter, TorchScriptOptions
from converters.exporters.torch.tracing import Trace, TracedValues, judge, watched_trace

MakeJob = Callable[..., ExportJob]


class Bright(nn.Module):
    """Bright inputs take another way; a generator keeps scripting from taking it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = sum(part for part in (x, x))
        return y * 3 if 0.7 < float(x.mean()) < 0.9 else y


def branch(x: torch.Tensor) -> torch.Tensor:
    return x + 1 if x.sum() > 0 else x


def item(x: torch.Tensor) -> torch.Tensor:
    return x * x.max().item()


def listed(x: torch.Tensor) -> torch.Tensor:
    return x * x[0].tolist()[0]


def array(x: torch.Tensor) -> torch.Tensor:
    return x * float(np.asarray(x.detach())[0, 0])


def copied(x: torch.Tensor) -> torch.Tensor:
    return x + torch.tensor([x.min(), 1.0]).sum()


def masked(x: torch.Tensor) -> torch.Tensor:
    return x * 2 if x[x > 0].shape[0] > 3 else x


def counted(x: torch.Tensor) -> torch.Tensor:
    return x * len(torch.nonzero(x > 0))


def located(x: torch.Tensor) -> torch.Tensor:
    return x * 2 if torch.where(x > 0)[0].shape[0] > 3 else x


def exchanged(x: torch.Tensor) -> torch.Tensor:
    return x * float(np.from_dlpack(x.detach())[0, 0])


def compared(x: torch.Tensor) -> torch.Tensor:
    return x * 2 if torch.equal(x, x.round()) else x


def filled(x: torch.Tensor) -> torch.Tensor:
    """A size that came from a value, in a tensor of zeros."""
    return x * torch.zeros(int(x.argmax()) + 1).shape[0]


def size(x: torch.Tensor) -> torch.Tensor:
    return x * 2 if x.shape[0] % 2 else x


def size_of_parts(x: torch.Tensor) -> torch.Tensor:
    parts = torch.stack([row * 2 for row in x.chunk(2)])
    return x + 1 if torch.cat([parts, parts]).shape[0] > 2 else x


def size_as_number(x: torch.Tensor) -> torch.Tensor:
    return x / float(x.shape[1]) + torch.tensor(x.shape[0])


def rows(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([row * 2 for row in x])


def constant(x: torch.Tensor) -> torch.Tensor:
    return x * torch.ones(3).sum().item()


def zeros_like_it(x: torch.Tensor) -> torch.Tensor:
    return x + 1 if bool(torch.zeros_like(x).sum() == 0) else x


def aware(x: torch.Tensor) -> torch.Tensor:
    return x + 1 if x.sum() > 0 and not torch.jit.is_tracing() else x


class Buffer(nn.Module):
    """A branch on a weight is the same for all inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * float(self.scale) if self.scale > 1 else x


class Function(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


VALUES = [
    *(branch, item, listed, array, copied),
    *(masked, counted, located, exchanged, compared, filled),
]
SIZES = [size, size_of_parts, size_as_number, rows]
NOTHING = [constant, zeros_like_it, aware]


def traced(module: nn.Module) -> Trace:
    with watched_trace(1) as trace, torch.no_grad():
        torch.jit.trace(module.eval(), torch.rand(4, 6))
    return trace


@pytest.mark.parametrize("function", VALUES, ids=lambda function: function.__name__)
def test_a_look_at_values_is_recorded_with_its_line(function: Any) -> None:
    lines = list(traced(Function(function)).values)
    assert lines
    assert all(line.startswith("test_tracing.py, line ") for line in lines)


@pytest.mark.parametrize("function", SIZES, ids=lambda function: function.__name__)
def test_a_look_at_sizes_is_none_at_values(function: Any) -> None:
    trace = traced(Function(function))
    assert list(trace.values) == []
    assert trace.sizes


@pytest.mark.parametrize("function", NOTHING, ids=lambda function: function.__name__)
def test_constants_and_code_that_knows_of_tracing_are_no_look(function: Any) -> None:
    assert list(traced(Function(function)).values) == []


def test_weights_are_no_values_of_an_input(make_job: MakeJob) -> None:
    assert list(traced(Buffer()).values) == []
    job = make_job(Buffer(), {"x": ["batch", 3]}, {"batch": (1, 4)})
    exported = OnnxExporter().export(job, OnnxOptions(format="onnx"))
    assert exported.build["exporter"] in ("dynamo", "torchscript")
    assert exported.notes == []


def test_a_trace_that_knows_no_values_is_as_it_was_without_a_watch() -> None:
    module = nn.Sequential(nn.Linear(6, 3), nn.ReLU()).eval()
    x = torch.rand(4, 6)
    with watched_trace(1) as trace, torch.no_grad():
        result = torch.jit.trace(module, x)
    assert trace == Trace()
    torch.testing.assert_close(result(x), module(x))


FORMATS = [
    (TorchScriptExporter, TorchScriptOptions, "torchscript", {"method": "trace"}),
    (OnnxExporter, OnnxOptions, "onnx", {"exporter": "torchscript"}),
]


@pytest.mark.parametrize(("exporter", "options", "name", "by_name"), FORMATS)
def test_auto_refuses_a_trace_of_values_and_by_name_it_has_a_note(
    exporter: Any, options: Any, name: str, by_name: dict[str, str], make_job: MakeJob
) -> None:
    job = make_job(Bright(), {"x": ["batch", 3]}, {"batch": (1, 4)})
    with pytest.raises(
        TracedValues, match=r"test_tracing.py, line \d+: `return y \* 3 if"
    ) as error:
        exporter().export(job, options(format=name))
    [(key, value)] = by_name.items()
    assert f"accept it by name (`{key}: {value}`" in str(error.value)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)  # noqa: S301 - just written
    exported = exporter().export(job, options(format=name, **by_name))
    assert any("for other values it may be wrong" in note for note in exported.notes)


def test_onnx_does_not_trace_around_sizes_that_torch_export_refused(make_job: MakeJob) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.shape[0] % 2 else x

    job = make_job(Odd(), {"x": ["batch", 3]}, {"batch": (1, 9)})
    with pytest.raises(NarrowSizes, match="batch: only 2 to 8 in multiples of 2, of 1 to 9"):
        OnnxExporter().export(job, OnnxOptions(format="onnx"))


def test_a_refusal_for_sizes_stands_only_if_the_trace_looks_at_sizes_too() -> None:
    refusal = Refused("for sizes")
    with pytest.raises(Refused, match="for sizes"):
        judge(Trace(sizes={"line": None}), chosen=False, choose="", refusal=refusal)
    assert judge(Trace(), chosen=False, choose="", refusal=refusal) == []
    assert judge(Trace(sizes={"line": None}), chosen=True, choose="") == []


def test_another_answer_of_the_traced_module_is_a_note() -> None:
    [note] = judge(Trace(differs=True), chosen=False, choose="")
    assert "two answers" in note
