"""TorchScript: scripted where that works, else traced, and the manifest says which and why."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from converters.errors import ExportError
from converters.exporters.job import ExportJob
from converters.exporters.torch.restrictions import NarrowSizes
from converters.exporters.torch.torchscript import (
    DEPRECATED,
    TorchScriptExporter,
    TorchScriptOptions,
)

MakeJob = Callable[..., ExportJob]


class Unscriptable(nn.Module):
    """The scripting compiler knows no generator expressions; the tracer does not see them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4)])
        self.inner = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(sum(layer(x) for layer in self.layers))


class Two(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"difference": left - right, "sum": left + right}


def export(job: ExportJob, **options: Any) -> tuple[Any, Any]:
    exported = TorchScriptExporter().export(
        job, TorchScriptOptions(format="torchscript", **options)
    )
    return exported, torch.jit.load(str(job.folder / exported.entry))


def test_auto_scripts_and_keeps_control_flow(make_job: MakeJob, branches: nn.Module) -> None:
    exported, module = export(make_job(branches, {"x": ["batch", 3]}, {"batch": (1, 4)}))
    assert (exported.build["method"], exported.build["failed"]) == ("script", {})
    ones = torch.ones(2, 3)
    assert torch.equal(module(ones), ones + 1)
    assert torch.equal(module(-ones), -ones - 1)


def test_auto_traces_what_cannot_be_scripted_and_records_why(make_job: MakeJob) -> None:
    model = Unscriptable()
    exported, module = export(make_job(model, {"x": ["batch", 4]}, {"batch": (1, 4)}))
    assert exported.build["method"] == "trace"
    assert list(exported.build["failed"]) == ["script"]
    assert "Arguments for call are not valid" in exported.build["failed"]["script"]
    x = torch.randn(3, 4)
    assert torch.allclose(module(x), model(x))


class Windows(Unscriptable):
    """A branch on a size, which a trace freezes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] > 48:
            return super().forward(x) * 2
        return super().forward(x)


class Grown(Unscriptable):
    """A look at a size that never decides anything."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[0] < 1000
        return super().forward(x)


def test_a_trace_that_auto_fell_back_to_holds_for_all_sizes_or_is_refused(
    make_job: MakeJob,
) -> None:
    job = make_job(Windows(), {"x": ["batch", 4]}, {"batch": (1, 64)})
    line = (
        r"batch: only 1 to 48, of 1 to 64 \(test_torchscript.py, line \d+: `if x.shape\[0\] > 48:`"
    )
    with pytest.raises(NarrowSizes, match=line):
        export(job)
    assert export(job, method="trace")[0].build["method"] == "trace"
    assert export(make_job(Windows(), {"x": ["batch", 4]}, {"batch": (1, 40)}))[0].build["failed"]
    job = make_job(Grown(), {"x": ["batch", 4]}, {"batch": (1, 64)})
    assert export(job)[0].build["method"] == "trace"


def test_a_method_that_was_asked_for_is_the_only_one_tried(make_job: MakeJob) -> None:
    with pytest.raises(ExportError, match="this model cannot be exported:\n  script: ") as caught:
        export(make_job(Unscriptable(), {"x": [1, 4]}), method="script")
    assert "trace:" not in str(caught.value)
    exported, _ = export(make_job(nn.Linear(4, 2), {"x": [1, 4]}), method="trace")
    assert exported.build["method"] == "trace"


def test_several_inputs_go_by_keyword(make_job: MakeJob) -> None:
    job = make_job(Two(), {"right": [2, 3], "left": [2, 3]})
    assert job.facts.by_keyword
    for method in ("script", "trace"):
        _, module = export(job, method=method)
        left, right = torch.ones(2, 3), torch.zeros(2, 3)
        assert torch.equal(module(right=right, left=left)["difference"], left)


class Masked(nn.Module):
    def forward(self, x: torch.Tensor, mask=None) -> torch.Tensor:  # type: ignore[no-untyped-def]
        return x if mask is None else x * mask


def test_a_default_of_none_that_scripting_takes_for_a_tensor_is_traced(make_job: MakeJob) -> None:
    exported, module = export(make_job(Masked(), {"x": ["batch", 3]}, {"batch": (1, 4)}))
    assert exported.build["method"] == "trace"
    assert "mask=None for a tensor" in exported.build["failed"]["script"]
    assert torch.equal(module(torch.ones(2, 3)), torch.ones(2, 3))


class Named(nn.Module):
    """Keyword-only arguments and a named tuple: flat ends for others, but it can be scripted."""

    def forward(self, *, left: torch.Tensor, right: torch.Tensor) -> Difference:
        return Difference(left - right if bool(left.sum() > 0) else right, left)


class Difference(NamedTuple):
    difference: torch.Tensor
    left: torch.Tensor


def test_a_module_that_can_be_scripted_needs_no_flat_ends(make_job: MakeJob) -> None:
    job = make_job(Named(), {"right": [2, 3], "left": [2, 3]})
    exported, module = export(job)
    assert job.facts.flat
    assert not job.facts.by_keyword
    assert (exported.build["method"], exported.build["by_keyword"]) == ("script", True)
    left, right = torch.ones(2, 3), torch.full((2, 3), 3.0)
    assert torch.equal(module(right=right, left=-left).difference, right)
    traced, module = export(job, method="trace")
    assert traced.build["by_keyword"] is False
    assert torch.equal(module(right, left)[1], left)


def test_the_module_is_frozen_and_its_operators_are_counted(make_job: MakeJob) -> None:
    exported, module = export(
        make_job(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), {"x": [1, 3, 4, 4]})
    )
    assert not list(module.parameters()), "a frozen module holds its weights as constants"
    assert exported.build["operators"] == {"aten::conv2d": 1, "aten::relu": 1} or (
        exported.build["operators"] == {"aten::_convolution": 1, "aten::relu": 1}
    )


def test_that_upstream_deprecates_it_is_said(make_job: MakeJob) -> None:
    exported, _ = export(make_job(nn.Linear(2, 2), {"x": [1, 2]}))
    assert exported.notes == [DEPRECATED]


def test_a_traced_module_runs_at_a_batch_it_never_saw(make_job: MakeJob) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    _, module = export(
        make_job(model, {"x": ["batch", 3, 2, 2]}, {"batch": (1, 8)}), method="trace"
    )
    x = torch.from_numpy(np.ones((7, 3, 2, 2), np.float32))
    assert torch.allclose(module(x), model(x))


@pytest.mark.parametrize("method", ["script", "trace"])
def test_the_file_has_no_source_line_of_the_author_and_loads(
    make_job: MakeJob, method: str, branches: nn.Module
) -> None:
    job = make_job(branches, {"x": ["batch", 3]}, {"batch": (1, 4)})
    export(job, method=method)
    with zipfile.ZipFile(job.folder / "model.pt") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    assert any(name.startswith("model/code/") for name in content)
    assert not [name for name in content if name.endswith(".debug_pkl")]
    for folder in (Path(torch.__file__).parents[1], Path(__file__).parent):
        assert str(folder).encode() not in b"".join(content.values())
    assert [path.name for path in job.folder.iterdir()] == ["model.pt"]


def test_a_module_that_cannot_run_optimized_is_not_optimized(make_job: MakeJob) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU(approximate="tanh"), nn.Flatten()).eval()
    exported, module = export(make_job(model, {"x": ["batch", 3, 8, 8]}, {"batch": (1, 4)}))
    if exported.build["optimize_for_inference"]:
        module = torch.jit.optimize_for_inference(module)
    else:
        assert any("optimize_for_inference is off" in note for note in exported.notes)
    picture = torch.randn(2, 3, 8, 8)
    assert torch.allclose(module(picture), model(picture), atol=1e-5)


def test_what_optimizing_fails_on_is_said(
    make_job: MakeJob, branches: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(module: object) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(torch.jit, "optimize_for_inference", fail)
    exported, _ = export(make_job(branches, {"x": ["batch", 3]}, {"batch": (1, 4)}))
    assert exported.build["optimize_for_inference"] is False
    assert exported.notes[-1].endswith("PyTorch fails on the result (no kernel)")
