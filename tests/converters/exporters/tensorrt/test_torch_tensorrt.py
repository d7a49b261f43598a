"""torch-tensorrt: skipped with a reason if it cannot be imported; its dry-run report."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
from pydantic import ValidationError

from converters.exporters.tensorrt.torch_tensorrt import (
    TorchTensorRtExporter,
    TorchTensorRtOptions,
    parse_dry_run,
)
from runtimes.machine.devices import absent

REPORT = """
++++++++++++++++++++++++++++++ Dry-Run Results for Graph ++++++++++++++++++++++++++++++

The graph consists of 24 Total Operators, of which 21 operators are supported, 87.5% coverage

The following ops are currently unsupported or excluded from conversion, and are listed with their op-count in \
the graph:
 torch.ops.aten.nonzero.default: 2
torch.ops.torchvision.nms.default: 1

The following nodes are currently set to run in Torch:
Node: torch.ops.aten.nonzero.default, with layer location: head/nonzero
Node: torch.ops.aten.add.Tensor, with layer location: head/add: 7

Compiled with: CompilationSettings(workspace_size=0, optimization_level: 3)

  Graph Structure:

   Inputs: List[Tensor: (1, 3, 224, 224)@float32]
    ...
    TRT Engine #1 - Submodule name: _run_on_acc_0
     Number of Operators in Engine: 21
"""


def options(**values: Any) -> TorchTensorRtOptions:
    return TorchTensorRtOptions(format="torch-tensorrt", **values)


def test_the_dry_run_report_tells_which_operators_fall_back() -> None:
    assert parse_dry_run(REPORT) == {
        "torch.ops.aten.nonzero.default": 2,
        "torch.ops.torchvision.nms.default": 1,
    }


def test_a_report_without_unsupported_operators_tells_of_none() -> None:
    start, _, rest = REPORT.partition("The following ops")
    assert parse_dry_run(start + rest[rest.index("Compiled with") :]) == {}


@pytest.mark.skipif(absent("cuda") is None, reason="this machine has an NVIDIA driver")
def test_without_a_driver_it_is_missing_and_the_reason_says_so() -> None:
    reason = TorchTensorRtExporter().missing(options())
    assert reason is not None
    assert "needs an NVIDIA driver even to be imported" in reason


@pytest.mark.parametrize(
    "wrong", [{"precision": "int8"}, {"min_block_size": 0}, {"optimization_level": 9}]
)
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(**wrong)


def test_the_precision_that_is_asked_for() -> None:
    assert options(precision="bf16").asked_precision == "bf16"


@pytest.mark.gpu
@pytest.mark.skipif(not find_spec("torch_tensorrt"), reason="torch-tensorrt is not installed")
def test_a_model_is_compiled_and_runs_in_tensorrt(make_job: Any) -> None:
    import torch
    from torch import nn

    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten()
    )
    job = make_job(model, {"image": ["batch", 3, 8, 8]}, {"batch": (1, 8)})
    exported = TorchTensorRtExporter().export(job, options(min_block_size=1))
    assert exported.build["fallback"] == {}
    program = torch.export.load(str(job.folder / exported.entry)).module()
    x = torch.randn(3, 3, 8, 8, device="cuda")
    assert torch.allclose(program(x), model.cuda()(x), atol=1e-2)
