"""TensorRT engines from the ONNX graph, classic and RTX: one API under two module names.

RTX builds an engine without a GPU; the classic one needs the device. Networks are strongly typed in
both: an engine computes in the types of the graph, so precision is chosen by a cast of the graph,
and is counted on the network before anything is built.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator

from converters.errors import ExportError
from converters.exporters.base import Exporter, check_work, work_notes
from converters.exporters.job import Exported, ExportJob
from converters.exporters.onnx.onnx import BF16_OPSET
from converters.exporters.onnx.write import weight_bytes
from converters.exporters.tensorrt.network import (
    computing_layers,
    count_layers,
    integer_layers,
    parse_network,
)
from converters.exporters.tensorrt.timings import load_timings, save_timings, timings_file
from converters.graph.names import module_path
from converters.graph.ranges import CheckedCast, cast_checked
from converters.graph.sparsity import sparse_layers
from converters.graph.unfused.report import listed, notes
from converters.graph.unfused.tensorrt import find_unfused_in_tensorrt, listening_logger
from converters.models.facts import ModelFacts
from converters.recipe.artifact import CastOptions, GraphExporter
from converters.recipe.quantize import MIXED_SHARE
from runtimes.engines.tensorrt import INSTALL, PACKAGES, missing_flavor, quiet_logger
from runtimes.machine.devices import absent, gpus
from runtimes.precision.judge import Work
from runtimes.spec import Dims, Specs, profile_shapes

ENGINE_FILE = "model.engine"
# Target if the machine has no GPU: Ada, the most common RTX generation.
_DEFAULT_CAPABILITY = "8.9"


class TensorRtOptions(CastOptions):
    """Options of `format: tensorrt`."""

    flavor: Literal["auto", "tensorrt", "rtx"] = Field(
        "auto",
        description="TensorRT library. auto: the classic TensorRT if it and a GPU are available, "
        "otherwise TensorRT for RTX.",
    )
    exporter: GraphExporter = "auto"
    opset: int | None = Field(
        None, ge=13, le=25, description="Opset of the ONNX graph; default 20, for bf16 22."
    )
    compute_capabilities: tuple[str, ...] = Field(
        (),
        description='GPUs to build for ahead of time, as in ["8.9", "12.0"] (rtx); default: those '
        "of this machine.",
    )
    workspace_mb: PositiveInt | None = Field(
        None, description="Limit of the builder's scratch memory in MB."
    )
    optimization_level: int = Field(
        3, ge=0, le=5, description="TensorRT's optimization level: builder effort."
    )
    timing_cache: str | None = Field(
        None,
        description="Timing cache: file that tactic timings are read from and added to, so that "
        "the next build chooses the same tactics; default: one in the user's cache folder "
        "(classic TensorRT).",
    )

    @field_validator("compute_capabilities")
    @classmethod
    def _capabilities(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for capability in value:
            major, _, minor = capability.partition(".")
            if not (major.isdigit() and minor.isdigit()):
                raise ValueError(f'a compute capability looks like "8.9", not {capability!r}')
        return value


class TensorRtExporter(Exporter):
    """Writes `model.engine`."""

    format = "tensorrt"
    runtime = "tensorrt"
    devices = ("cuda",)
    packages = ("torch", "onnx", "onnx_ir", "onnxscript")
    quantization = ("static",)
    Options = TensorRtOptions

    def missing(self, options: TensorRtOptions) -> str | None:
        """Return what is missing: the flavor's package, or for the classic one a GPU."""
        if problem := super().missing(options):
            return problem
        flavor = pick_flavor(options.flavor)
        if flavor is None:
            command = INSTALL["rtx"]
            return (
                f"neither tensorrt nor tensorrt_rtx is installed: {command} (or burnish[tensorrt])"
            )
        if flavor == "tensorrt" and (problem := absent("cuda")):
            return f"the classic TensorRT needs a GPU: {problem}; flavor: rtx builds without one"
        return missing_flavor(flavor)

    def graph_options(self, options: TensorRtOptions) -> dict[str, Any]:
        """Return options of a float32 ONNX graph; the cast is done here."""
        opset = options.opset or (BF16_OPSET if options.precision == "bf16" else 20)
        return {"exporter": options.exporter, "opset": opset}

    def unrepeatable(self, options: TensorRtOptions) -> str | None:
        """Return why the classic one varies: it decides by timings, RTX only at loading."""
        if pick_flavor(options.flavor) == "rtx":
            return None
        return "TensorRT chooses kernels by timing them"

    def export(self, job: ExportJob, options: TensorRtOptions) -> Exported:
        """Rewrite the graph for TensorRT, parse it, count its layers' precisions, build, save."""
        if job.graph is None:
            raise ExportError("this exporter needs an ONNX graph")
        flavor = pick_flavor(options.flavor)
        assert flavor is not None  # the plan has called `missing`
        trt = importlib.import_module(PACKAGES[flavor])
        lowered = lower(job.graph, job, options)
        logger, log = listening_logger(trt, quiet_logger(trt))
        builder = trt.Builder(logger)
        network = parse_network(trt, builder, lowered.path, lowered.names)
        layers = count_layers(network, trt)
        cast = lowered.cast
        computing = computing_layers(network, trt, lowered.path, job.facts.dims)
        share = MIXED_SHARE if cast.kept_layers else options.least_share
        check_work(computing, options, share, cast.why)
        config = builder.create_builder_config()
        capabilities = configure(trt, builder, config, job.facts, options, flavor)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise ExportError("TensorRT could not build the engine; the log has its messages")
        unfused = None
        if options.quantize:
            unfused = find_unfused_in_tensorrt(integer_layers(network, trt), log, lowered.names)
        (job.folder / ENGINE_FILE).write_bytes(memoryview(plan))
        for file in job.folder.glob("lowered.onnx*"):
            file.unlink()
        if flavor == "tensorrt":
            timings = timings_file(options.timing_cache, trt.__version__)
            save_timings(config, timings, bool(options.timing_cache))
        build = {
            "flavor": flavor,
            "version": trt.__version__,
            "compute_capabilities": capabilities,
            "opset": self.graph_options(options)["opset"],
            "rewrites": lowered.rewrites,
            **({"kept_layers": cast.kept_layers} if cast.kept_layers else {}),
            **({"unfused": listed(unfused)} if unfused is not None else {}),
            **layers,
            "work": Work.of(computing, options.asked_precision).for_build(),
        }
        remarks = [*cast.notes, *_notes(layers, options, flavor), *notes(unfused or [])]
        remarks += work_notes(computing, options)
        return Exported(ENGINE_FILE, options.asked_precision, build, remarks)


def pick_flavor(flavor: str) -> str | None:
    """Return the flavor to build with, or None if `auto` finds neither package."""
    if flavor != "auto":
        return flavor
    if find_spec("tensorrt") and gpus():
        return "tensorrt"
    if find_spec("tensorrt_rtx"):
        return "rtx"
    return "tensorrt" if find_spec("tensorrt") else None


@dataclass(frozen=True)
class Lowered:
    """A graph for TensorRT.

    Attributes:
        path: the new file.
        rewrites: number of rewrites of each kind.
        names: each node's name to its module path.
        cast: result of the cast to the precision.
    """

    path: Path
    rewrites: dict[str, Any]
    names: dict[str, str]
    cast: CheckedCast


def lower(graph: Path, job: ExportJob, options: TensorRtOptions) -> Lowered:
    """Rewrite the graph for TensorRT."""
    import onnx_ir

    from converters.graph.einsum import plain_einsums
    from converters.graph.lower_tensorrt import lower_for_tensorrt

    model = onnx_ir.load(str(graph))
    names = {}
    for node in model.graph:
        if scope := module_path(node.metadata_props):
            names[node.name or ""] = scope
    rewrites: dict[str, Any] = {"einsums": plain_einsums(model), **lower_for_tensorrt(model)}
    cast = CheckedCast({})
    if options.sparse:
        rewrites["sparse_layers"] = sparse_layers(model)
    if options.precision != "fp32":
        cast = cast_checked(
            model, "fp16" if options.precision == "fp16" else "bf16", job.examples, job.folder
        )
        rewrites["cast"] = cast.report
    path = job.folder / "lowered.onnx"
    big = weight_bytes(model) > 1 << 30
    onnx_ir.save(model, str(path), external_data="lowered.onnx.data" if big else None)
    return Lowered(path, rewrites, names, cast)


def configure(
    trt: Any, builder: Any, config: Any, facts: ModelFacts, options: TensorRtOptions, flavor: str
) -> list[str]:
    """Set profiles, limits, caches and targets; return the target compute capabilities."""
    config.builder_optimization_level = options.optimization_level
    config.clear_flag(
        trt.BuilderFlag.TF32
    )  # on by default; float32 means float32, as everywhere in Burnish
    if options.sparse:
        config.set_flag(
            trt.BuilderFlag.SPARSE_WEIGHTS
        )  # kernels for the pattern 2:4 are tried as well
    if options.quantize:
        config.profiling_verbosity = (
            trt.ProfilingVerbosity.DETAILED
        )  # the builder then reports its fusions
    if options.workspace_mb:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    if facts.dims:
        config.add_optimization_profile(_profile(builder, facts.inputs, facts.dims))
    if flavor == "tensorrt":
        load_timings(config, timings_file(options.timing_cache, trt.__version__))
        return _machine_capabilities()[:1]
    targets = list(options.compute_capabilities) or _machine_capabilities() or [_DEFAULT_CAPABILITY]
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        capability = getattr(trt.ComputeCapability, f"SM{target.replace('.', '')}", None)
        if capability is None:
            supported = ", ".join(
                sorted(key for key in dir(trt.ComputeCapability) if key.startswith("SM"))
            )
            raise ExportError(
                f"TensorRT for RTX cannot build for compute capability {target}; it supports "
                f"{supported}"
            )
        config.set_compute_capability(capability, index)
    return targets


def _machine_capabilities() -> list[str]:
    """Return the compute capabilities of this machine's GPUs."""
    capabilities = []
    for gpu in gpus():
        major, minor = gpu.compute_capability
        capabilities.append(f"{major}.{minor}")
    return list(dict.fromkeys(capabilities))


def _profile(builder: Any, inputs: Specs, dims: Dims) -> Any:
    """Return the optimization profile: each input's shape at min, opt and max."""
    profile = builder.create_optimization_profile()
    for name, spec in inputs.items():
        profile.set_shape(name, *profile_shapes(spec, dims))
    return profile


def _notes(layers: dict[str, dict[str, int]], options: TensorRtOptions, flavor: str) -> list[str]:
    notes = []
    if not layers["compute_layers"]:
        notes.append("the network has no convolution or matrix product to count")
    if options.timing_cache and flavor == "rtx":
        notes.append("TensorRT for RTX has no timing cache: `timing_cache` does nothing")
    return notes
