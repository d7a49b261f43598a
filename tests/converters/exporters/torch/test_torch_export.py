"""torch.export: the graph at each size of its range, its counts, no folder in the file."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from converters.errors import ExportError
from converters.exporters.job import ExportJob
from converters.exporters.torch.torch_export import TorchExportExporter, TorchExportOptions

MakeJob = Callable[..., ExportJob]


class Baked(nn.Module):
    """Runs at the example's batch of two alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.ones(2, 3)


class Half(nn.Module):
    """One product in float32, one in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4).bfloat16()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(self.first(x).bfloat16())
        return result.float()


class Either(nn.Module):
    """Control flow that a graph can follow: both branches are in it."""

    def __init__(self) -> None:
        super().__init__()
        self.yes, self.no = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.cond(x.sum() > 0, self.yes, self.no, (x,))
        return result


class Two(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"difference": left - right, "sum": left + right}


def export(job: ExportJob, **options: Any) -> tuple[Any, torch.export.ExportedProgram]:
    exported = TorchExportExporter().export(
        job, TorchExportOptions(format="torch-export", **options)
    )
    return exported, torch.export.load(str(job.folder / exported.entry))


@pytest.mark.parametrize("method", ["non-strict", "strict"])
def test_a_method_that_was_asked_for_is_recorded(make_job: MakeJob, method: str) -> None:
    exported, _ = export(make_job(nn.Linear(4, 2), {"x": [1, 4]}), method=method)
    assert (exported.build["method"], exported.build["failed"]) == (method, {})


def test_a_model_that_no_method_exports_is_told_with_every_reason(
    make_job: MakeJob, branches: nn.Module
) -> None:
    with pytest.raises(
        ExportError, match="this model cannot be exported:\n  non-strict: "
    ) as caught:
        export(make_job(branches, {"x": ["batch", 3]}, {"batch": (1, 4)}))
    assert "\n  strict: " in str(caught.value)


def test_a_size_that_is_baked_in_is_refused_at_once(make_job: MakeJob) -> None:
    job = make_job(nn.Identity(), {"x": ["batch", 3]}, {"batch": (2, 8)})
    with pytest.raises(ExportError, match="batch"):
        export(replace(job, model=Baked()))


def test_the_program_runs_at_a_batch_it_never_saw(make_job: MakeJob) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    _, program = export(make_job(model, {"x": ["batch", 3, 2, 2]}, {"batch": (1, 8)}))
    for batch in (1, 7):
        x = torch.ones(batch, 3, 2, 2)
        assert torch.allclose(program.module()(x), model(x), atol=1e-6)


def test_several_inputs_go_by_keyword(make_job: MakeJob) -> None:
    _, program = export(make_job(Two(), {"right": [2, 3], "left": [2, 3]}))
    left, right = torch.ones(2, 3), torch.zeros(2, 3)
    assert torch.equal(program.module()(right=right, left=left)["difference"], left)


def test_operators_are_counted_and_computing_layers_by_precision(make_job: MakeJob) -> None:
    exported, _ = export(make_job(Half(), {"x": [1, 4]}))
    assert exported.build["operators"]["aten.linear.default"] == 2
    assert exported.build["compute_layers"] == {"fp32": 1, "bf16": 1}


def test_branches_count_too(make_job: MakeJob) -> None:
    exported, _ = export(make_job(Either(), {"x": ["batch", 3]}, {"batch": (1, 4)}))
    assert exported.build["compute_layers"] == {"fp32": 2}


def test_the_file_keeps_example_inputs_and_no_folder_of_this_machine(make_job: MakeJob) -> None:
    job = make_job(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), {"x": [2, 4]})
    exported, program = export(job)
    assert program.example_inputs is not None
    assert program.example_inputs[0][0].shape == (2, 4)
    with zipfile.ZipFile(job.folder / exported.entry) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    for folder in (Path(torch.__file__).parents[1], Path(__file__).parent):
        assert str(folder).encode() not in content


@pytest.mark.parametrize("method", ["strict", "non-strict"])
def test_modules_go_by_their_paths_and_no_address_is_in_the_file(
    make_job: MakeJob, method: str
) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
    job = make_job(model, {"x": ["batch", 4]}, {"batch": (1, 4)})
    _, program = export(job, method=method)
    stacks = [
        node.meta["nn_module_stack"]
        for node in program.graph.nodes
        if node.meta.get("nn_module_stack")
    ]
    assert list(stacks[-1].items())[-1][0] == "L__self__1.1"
    assert [path for path, _ in stacks[-1].values()] == ["", "1", "1.1"]
    with zipfile.ZipFile(job.folder / "model.pt2") as archive:
        text = archive.read("model/models/model.json").decode()
    assert not re.search(r"0x[0-9a-f]{8,}|\b\d{14,}\b", text)
