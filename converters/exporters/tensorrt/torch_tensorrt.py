"""torch-tensorrt: an exported program with TensorRT engines, PyTorch for other operators."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, PositiveInt

from converters.errors import ExportError
from converters.exporters.base import Exporter
from converters.exporters.job import Exported, ExportJob
from converters.exporters.torch.program import capture_program, example_call_on
from converters.recipe.artifact import PrecisionOptions
from runtimes.engines.torch.torch_tensorrt import missing_torch_tensorrt
from runtimes.spec import profile_shapes

MODEL_FILE = "model.pt2"
DRY_RUN_FILE = "dry_run.txt"
# A line such as "torch.ops.aten.nonzero.default: 2".
_UNSUPPORTED = re.compile(r"^\s*(\S.*?): (\d+)$", re.MULTILINE)


class TorchTensorRtOptions(PrecisionOptions):
    """Options of `format: torch-tensorrt`."""

    min_block_size: PositiveInt = Field(
        5, description="Smallest number of operators for an engine."
    )
    require_full_compilation: bool = Field(
        False, description="Fail if an operator would run in PyTorch."
    )
    workspace_mb: int = Field(
        0, ge=0, description="Limit of the builder's scratch memory in MB; 0: no limit."
    )
    optimization_level: int = Field(
        3, ge=0, le=5, description="TensorRT's optimization level: builder effort."
    )


class TorchTensorRtExporter(Exporter):
    """Writes `model.pt2`."""

    format = "torch-tensorrt"
    runtime = "torch-tensorrt"
    devices = ("cuda",)
    Options = TorchTensorRtOptions

    def missing(self, options: TorchTensorRtOptions) -> str | None:
        """Return the missing package or driver: the package cannot be imported without one."""
        return super().missing(options) or missing_torch_tensorrt()

    def unrepeatable(self, options: TorchTensorRtOptions) -> str | None:
        """Return that TensorRT decides by timings."""
        return "TensorRT chooses kernels by timing them"

    def export(self, job: ExportJob, options: TorchTensorRtOptions) -> Exported:
        """Export, dry-run to find the operators that fall back to PyTorch, compile, save."""
        import torch_tensorrt

        program = capture_program(job, device="cuda").result
        args, kwargs = example_call_on(job, "cuda")
        inputs = [_trt_input(job, name) for name in job.facts.inputs]
        by_name = dict(zip(job.facts.inputs, inputs, strict=True)) if kwargs else None
        settings = {
            "arg_inputs": () if by_name else inputs,
            "kwarg_inputs": by_name,
            **_settings(options),
        }
        # Everything but the conversion: the partitioner's report of operators that TensorRT would
        # not take.
        report = job.folder / DRY_RUN_FILE
        torch_tensorrt.dynamo.compile(program, **settings, dryrun=str(report))
        if not report.exists():  # written only if TensorRT takes at least one operator
            raise ExportError("TensorRT takes none of this model's operators")
        fallback = parse_dry_run(report.read_text(encoding="utf-8"))
        if fallback and options.require_full_compilation:
            raise ExportError(f"operators that TensorRT lacks: {', '.join(sorted(fallback))}")
        compiled = torch_tensorrt.dynamo.compile(program, **settings)
        torch_tensorrt.save(
            compiled,
            str(job.folder / MODEL_FILE),
            output_format="exported_program",
            arg_inputs=() if by_name else args,
            kwarg_inputs=kwargs or None,
            dynamic_shapes=job.dynamic_shapes(),
        )
        build = {"version": torch_tensorrt.__version__, "fallback": fallback}
        notes = [f"runs in PyTorch: {', '.join(sorted(fallback))}"] if fallback else []
        return Exported(MODEL_FILE, options.precision, build, notes)


def parse_dry_run(report: str) -> dict[str, int]:
    """Count the operators that would run in PyTorch, from torch-tensorrt's dry-run report."""
    return {name: int(count) for name, count in _UNSUPPORTED.findall(_section(report))}


def _section(report: str) -> str:
    """Return the report's paragraph on unsupported operators, empty if it has none."""
    _, heading, text = report.partition("listed with their op-count in the graph:")
    return text.split("\n\n")[0] if heading else ""


def _settings(options: TorchTensorRtOptions) -> dict[str, Any]:
    import torch

    settings: dict[str, Any] = {
        "min_block_size": options.min_block_size,
        "require_full_compilation": options.require_full_compilation,
        "workspace_size": options.workspace_mb << 20,
        "optimization_level": options.optimization_level,
        "disable_tf32": True,  # float32 means float32, as everywhere in Burnish
    }
    if options.precision != "fp32":
        low = torch.float16 if options.precision == "fp16" else torch.bfloat16
        settings |= {"enable_autocast": True, "autocast_low_precision_type": low}
    return settings


def _trt_input(job: ExportJob, name: str) -> Any:
    import torch
    import torch_tensorrt

    spec, dims = job.facts.inputs[name], job.facts.dims
    shapes = profile_shapes(spec, dims)
    dtype = getattr(torch, spec.dtype)
    if not dims:
        return torch_tensorrt.Input(shape=shapes[0], dtype=dtype)
    return torch_tensorrt.Input(
        min_shape=shapes[0], opt_shape=shapes[1], max_shape=shapes[2], dtype=dtype
    )
