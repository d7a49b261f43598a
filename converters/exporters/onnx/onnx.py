"""ONNX: by torch.export (dynamo), or by the older TorchScript exporter if that fails."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from converters.exporters.base import Attempt, Exporter, check_work, try_in_turn, work_notes
from converters.exporters.job import Exported, ExportJob
from converters.exporters.onnx.counts import count_nodes
from converters.exporters.onnx.optimize import optimize_graph
from converters.exporters.onnx.sizes import InexactSizes
from converters.exporters.onnx.write import (
    MODEL_FILE,
    check_graph,
    export_dynamo,
    export_torchscript,
    is_large,
    save_graph,
)
from converters.exporters.torch.tracing import judge
from converters.graph.lower import lower_for_onnxruntime
from converters.graph.ranges import cast_checked
from converters.graph.sparsity import sparse_layers
from converters.graph.unfused.onnxruntime import find_unfused_in_onnxruntime
from converters.graph.unfused.report import listed, notes
from converters.recipe.artifact import CastOptions, GraphExporter
from converters.recipe.quantize import MIXED_SHARE
from runtimes.machine import machine
from runtimes.machine.bound import vectors

BF16_OPSET = 22
"""bf16 is in the schema of Conv only from this opset on."""
_TARGET_NOTES = {
    "fp16": "float16 is for CUDA: on x86 CPUs ONNX Runtime computes it in float32, which only "
    "reduces the size and hides overflows",
    "bf16": "bfloat16 is for CUDA: ONNX Runtime has no kernels for it on the CPU",
}


class OnnxOptions(CastOptions):
    """Options of `format: onnx`."""

    exporter: GraphExporter = "auto"
    opset: int = Field(
        20, ge=13, le=25, description="ONNX operator set; for bf16 the default is 22."
    )
    precision: Literal["fp32", "fp16", "bf16"] = Field(
        "fp32",
        description="Precision of the layers; inputs and outputs stay float32. fp16: for CUDA; "
        "bf16: CUDA only.",
    )
    optimize: Literal["none", "basic", "extended", "all"] = Field(
        "none",
        description="ONNX Runtime's graph optimizations, done ahead of time for a faster load. "
        "basic: standard operators; extended: its own too, for CPUs; all: laid out for the kind "
        "of CPU that builds, and no other.",
    )

    cpu: Literal["auto", "x86", "arm"] = Field(
        "auto",
        description="CPU whose kernels a statically quantized graph is lowered for: activations "
        "become uint8 (x86) or int8 (arm); auto: this machine's. It runs correctly, if slower, on "
        "the other one too.",
    )

    @model_validator(mode="after")
    def _cpu(self) -> Self:
        if self.cpu != "auto" and not self.calibrated:
            raise ValueError(
                "cpu is for static quantization: other graphs are the same for every CPU"
            )
        return self

    @property
    def calibrated(self) -> bool:
        """Whether the graph's activations are quantized too: only with `mode: static`."""
        return self.quantize is not None and self.quantize.mode == "static"

    @model_validator(mode="before")
    @classmethod
    def _opset(cls, value: Any) -> Any:
        """Raise the default opset for bf16: the schema of Conv has it only from there on."""
        if isinstance(value, dict) and value.get("precision") == "bf16":
            return {"opset": BF16_OPSET, **value}
        return value

    @model_validator(mode="after")
    def _float32_is_optimized(self) -> Self:
        """Refuse other precisions: the CPU provider would write float32 casts into an fp16 graph.

        It refuses a bf16 graph.
        """
        if self.optimize != "none" and self.precision != "fp32":
            raise ValueError(
                f"optimize: {self.optimize} cannot be combined with precision: {self.precision}: "
                "ONNX Runtime's CPU provider does it, which computes neither fp16 nor bf16"
            )
        return self


class OnnxExporter(Exporter):
    """Writes `model.onnx`, with the weights beside it above 2 GB."""

    format = "onnx"
    runtime = "onnx"
    devices = ("cpu", "cuda")
    packages = ("torch", "onnx", "onnxscript")
    quantization = ("static", "dynamic", "weight-only")
    Options = OnnxOptions

    def graph_options(self, options: OnnxOptions) -> dict[str, Any] | None:
        """Return options of the float32 graph that passes, casts and optimizations start from.

        Without any of these the module is exported.
        """
        changed = options.quantize or options.precision != "fp32" or options.optimize != "none"
        return {"exporter": options.exporter, "opset": options.opset} if changed else None

    def runs_on(self, options: OnnxOptions) -> tuple[str, ...]:
        """Return the devices: ONNX Runtime's CPU provider has no bfloat16 kernels.

        Operators that are fused beyond `basic` are its own, which other providers need not have.
        """
        if options.optimize in ("extended", "all"):
            return ("cpu",)
        return ("cuda",) if options.precision == "bf16" else self.devices

    def depends_on_machine(self, options: OnnxOptions) -> bool:
        """Return whether the graph is quantized or optimized, which is for a kind of CPU."""
        return bool(options.quantize) or options.optimize != "none"

    def unrepeatable(self, options: OnnxOptions) -> str | None:
        """Return None: nothing in the file depends on time or place."""
        return None

    def export(self, job: ExportJob, options: OnnxOptions) -> Exported:
        """Export, check, infer shapes; names and dynamic dimensions are those of the recipe."""
        path = job.folder / MODEL_FILE
        if job.graph is not None:
            if options.optimize != "none":
                return _optimized(job, job.graph, path, options)
            if options.precision == "fp32":
                return _lowered(job, job.graph, path, options)
            return _cast(job, job.graph, path, options)
        attempts = {
            "dynamo": lambda: export_dynamo(job, options.opset, path),
            "torchscript": lambda: export_torchscript(job, options.opset, path),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attempt = try_in_turn(options.exporter, attempts)
        lasting = _judge_trace(attempt, options)
        opset = check_graph(path, job.facts.inputs, job.facts.outputs)
        build = {
            "exporter": attempt.name,
            "failed": attempt.failed,
            "opset": opset,
            **_sparsity(path, options),
            **count_nodes(path, job.facts.dims).for_build("fp32"),
        }
        notes = [f"opset {opset} instead of {options.opset}"] if opset != options.opset else []
        return Exported(MODEL_FILE, build=build, notes=[*lasting, *notes], lasting=lasting)


def _judge_trace(attempt: Attempt, options: OnnxOptions) -> list[str]:
    """Return notes on a graph that was traced. Raises Refused: see `judge`."""
    if attempt.name != "torchscript":
        return []
    chosen = options.exporter == "torchscript"
    refusal = attempt.errors.get("dynamo")
    if isinstance(refusal, InexactSizes):  # the trace's Resize would compute the same
        raise refusal
    return judge(attempt.result, chosen, "`exporter: torchscript`", refusal)


def _sparsity(path: Path, options: OnnxOptions) -> dict[str, Any]:
    """Count the written graph's layers that follow the pattern 2:4, if the recipe prunes to it."""
    import onnx_ir

    return {"sparse_layers": sparse_layers(onnx_ir.load(str(path)))} if options.sparse else {}


def _lowered(job: ExportJob, graph: Path, path: Path, options: OnnxOptions) -> Exported:
    """Rewrite a graph that passes have changed for ONNX Runtime's fast kernels."""
    lowered = _lower(graph, path, options)
    opset = check_graph(path, job.facts.inputs, job.facts.outputs)
    counts = count_nodes(path, job.facts.dims)
    build = {
        "opset": opset,
        **lowered.build,
        **_sparsity(path, options),
        **counts.for_build(options.asked_precision),
    }
    notes = [*lowered.notes, *work_notes(counts.layers, options)]
    return Exported(MODEL_FILE, options.asked_precision, build, notes)


def _optimized(job: ExportJob, graph: Path, path: Path, options: OnnxOptions) -> Exported:
    """Write a graph as ONNX Runtime's CPU provider runs it; a quantized one is lowered first."""
    level = options.optimize
    assert level != "none"  # called only then
    with tempfile.TemporaryDirectory() as scratch:
        start, lowered = graph, _Lowered({}, [])
        if options.quantize:
            start = Path(scratch, MODEL_FILE)
            lowered = _lower(graph, start, options)
        sparsity = _sparsity(start, options)
        changes = optimize_graph(start, path, level, is_large(start))
    opset = check_graph(path, job.facts.inputs, job.facts.outputs)
    applied = level if changes else "none"
    rewrites = {**lowered.build.get("rewrites", {}), "optimize": changes}
    build: dict[str, Any] = {
        "opset": opset,
        "optimize": applied,
        **lowered.build,
        "rewrites": rewrites,
        **sparsity,
    }
    if applied == "all":
        build |= {"platform": machine.system(), "isa": vectors()}
    counts = count_nodes(path, job.facts.dims, fused=level != "basic")
    build |= counts.for_build(options.asked_precision)
    notes = [*lowered.notes, *_remarks(level, changes), *work_notes(counts.layers, options)]
    return Exported(MODEL_FILE, options.asked_precision, build, notes)


def _remarks(level: str, changes: Mapping[str, str]) -> list[str]:
    """Return what the optimization binds the artifact to, or that it changed nothing."""
    if not changes:
        return [f"optimize: {level} changed nothing: the exporter had already optimized the graph"]
    if level == "extended":
        return ["optimized with ONNX Runtime's own operators: no other engine runs the graph"]
    if level == "all":
        return [
            "laid out for CPUs like this one: on others, and in other releases of ONNX Runtime, it "
            "does not run"
        ]
    return []


def _cast(job: ExportJob, graph: Path, path: Path, options: OnnxOptions) -> Exported:
    """Cast a float32 graph to the requested precision, and count its layers."""
    import onnx_ir

    model = onnx_ir.load(str(graph))
    cast = cast_checked(
        model, "fp16" if options.precision == "fp16" else "bf16", job.examples, job.folder
    )
    save_graph(model, path)
    opset = check_graph(path, job.facts.inputs, job.facts.outputs)
    counts = count_nodes(path, job.facts.dims)
    share = MIXED_SHARE if cast.kept_layers else options.least_share
    check_work(counts.layers, options, share, cast.why)
    build = {
        "opset": opset,
        "rewrites": {"cast": cast.report},
        "kept_layers": cast.kept_layers,
        **counts.for_build(options.precision),
    }
    notes = [*cast.notes, _TARGET_NOTES[options.precision]]
    return Exported(MODEL_FILE, options.precision, build, notes)


@dataclass(frozen=True)
class _Lowered:
    """Entries of the manifest, and notes about operators that no fast kernel takes."""

    build: dict[str, Any]
    notes: list[str]


def _lower(graph: Path, path: Path, options: OnnxOptions) -> _Lowered:
    """Rewrite a quantized graph for ONNX Runtime's fast kernels."""
    import onnx_ir

    model = onnx_ir.load(str(graph))
    cpu = machine.own_cpu() if options.cpu == "auto" else options.cpu
    build: dict[str, Any] = {"rewrites": lower_for_onnxruntime(model, cpu)}
    save_graph(model, path)
    if not options.calibrated:
        return _Lowered(build, [])
    unfused = find_unfused_in_onnxruntime(path, cpu)
    return _Lowered({**build, "cpu": cpu, "unfused": listed(unfused)}, notes(unfused))
