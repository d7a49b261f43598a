"""ONNX: by torch.export (dynamo), or by the older TorchScript exporter where that fails."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from converters.errors import ExportError
from converters.exporters.base import Exporter, check_precision, first_that_works
from converters.exporters.job import Exported, ExportJob
from converters.exporters.onnx.counts import count_nodes
from converters.exporters.onnx.limits import check_versions
from converters.exporters.onnx.optimize import optimize_graph
from converters.graph.lower import lower_for_onnxruntime
from converters.graph.ranges import cast_checked
from converters.graph.sparsity import sparse_layers
from converters.graph.unfused.onnxruntime import find_unfused_in_onnxruntime
from converters.graph.unfused.report import listed, notes
from converters.recipe.artifact import CastOptions
from converters.recipe.quantize import MIXED_SHARE
from runtimes.machine import machine
from runtimes.machine.bound import vectors
from runtimes.spec import Specs

if TYPE_CHECKING:
    import onnx_ir as ir

MODEL_FILE = "model.onnx"
# protobuf cannot hold more than 2 GiB in one message; stay clear of it.
_EXTERNAL_DATA_BYTES = 2_000_000_000
# The exporter notes the author's source lines in every node: absolute paths, different on every machine.
_PRIVATE_METADATA = ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node")
BF16_OPSET = 22
"""bf16 is in the schema of Conv only from this opset on."""
_WHERE = {
    "fp16": "float16 is for CUDA: on x86 CPUs ONNX Runtime computes it in float32, where only size is gained and "
    "an overflow does not show",
    "bf16": "bfloat16 is for CUDA: ONNX Runtime has no kernels for it on the CPU",
}


class OnnxOptions(CastOptions):
    """Options of `format: onnx`."""

    exporter: Literal["auto", "dynamo", "torchscript"] = Field(
        "auto", description="auto: dynamo, and torchscript where that fails; the manifest says which and why."
    )
    opset: int = Field(20, ge=13, le=25, description="ONNX operator set; for bf16 the default is 22.")
    precision: Literal["fp32", "fp16", "bf16"] = Field(
        "fp32",
        description="What the layers compute in; inputs and outputs stay float32. fp16: on CUDA; bf16: only there.",
    )
    optimize: Literal["none", "basic", "extended", "all"] = Field(
        "none",
        description="ONNX Runtime's graph optimizations, done ahead of time for a faster load. basic: standard "
        "operators; extended: its own too, for CPUs; all: laid out for the kind of CPU that builds, and no other.",
    )

    cpu: Literal["auto", "x86", "arm"] = Field(
        "auto",
        description="Whose kernels a statically quantized graph is lowered for: activations become uint8 (x86) or "
        "int8 (arm); auto: this machine's. It runs correctly, if slower, on the other one too.",
    )

    @model_validator(mode="after")
    def _cpu(self) -> Self:
        if self.cpu != "auto" and not self.calibrated:
            raise ValueError("cpu is for static quantization: other graphs are the same for every CPU")
        return self

    @property
    def calibrated(self) -> bool:
        """Whether the graph's activations are quantized too, as only `mode: static` does."""
        return self.quantize is not None and self.quantize.mode == "static"

    @model_validator(mode="before")
    @classmethod
    def _opset(cls, value: Any) -> Any:
        """bf16 is in the schema of Conv only from this opset on."""
        return (
            {"opset": BF16_OPSET, **value}
            if isinstance(value, dict) and value.get("precision") == "bf16"
            else value
        )

    @model_validator(mode="after")
    def _float32_is_optimized(self) -> Self:
        """The CPU provider optimizes: it writes its float32 casts into an fp16 graph, and refuses a bf16 one."""
        if self.optimize != "none" and self.precision != "fp32":
            raise ValueError(
                f"optimize {self.optimize} cannot be had with precision {self.precision}: ONNX Runtime's CPU "
                "provider does it, which computes neither fp16 nor bf16"
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
        """The float32 graph that passes, casts and optimizations start from; without any the module is exported."""
        changed = options.quantize or options.precision != "fp32" or options.optimize != "none"
        return {"exporter": options.exporter, "opset": options.opset} if changed else None

    def runs_on(self, options: OnnxOptions) -> tuple[str, ...]:
        """ONNX Runtime's CPU provider has no bfloat16 kernels, and refuses what it does not have.

        What it fuses beyond `basic` is made of its own kernels, which other providers need not have.
        """
        if options.optimize in ("extended", "all"):
            return ("cpu",)
        return ("cuda",) if options.precision == "bf16" else self.devices

    def depends_on_machine(self, options: OnnxOptions) -> bool:
        """What is quantized or optimized is so for a kind of CPU."""
        return bool(options.quantize) or options.optimize != "none"

    def unrepeatable(self, options: OnnxOptions) -> str | None:
        """Nothing in it depends on when or where it is made."""
        return None

    def export(self, job: ExportJob, options: OnnxOptions) -> Exported:
        """Export, check, infer shapes; names and dynamic dimensions are as the recipe gives them."""
        path = job.folder / MODEL_FILE
        if job.graph is not None:
            make = _optimized if options.optimize != "none" else _lowered if options.precision == "fp32" else _cast
            return make(job, job.graph, path, options)
        ways = {
            "dynamo": lambda: _dynamo(job, options.opset, path),
            "torchscript": lambda: _torchscript(job, options.opset, path),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exporter, _, failures = first_that_works(options.exporter, ways)
        opset = _finish(path, job.facts.inputs, job.facts.outputs)
        build = {
            "exporter": exporter,
            "failed": failures,
            "opset": opset,
            **_sparsity(path, options),
            **count_nodes(path),
        }
        told = [f"opset {opset} instead of {options.opset}"] if opset != options.opset else []
        return Exported(MODEL_FILE, build=build, notes=told)


def _sparsity(path: Path, options: OnnxOptions) -> dict[str, Any]:
    """How many layers of the written graph follow the pattern 2:4, where that was asked for."""
    import onnx_ir

    return {"sparse_layers": sparse_layers(onnx_ir.load(str(path)))} if options.sparse else {}


def _lowered(job: ExportJob, graph: Path, path: Path, options: OnnxOptions) -> Exported:
    """A graph that passes have changed, rewritten for ONNX Runtime's fast kernels, and what they leave."""
    done, told = _lower(graph, path, options)
    opset = _finish(path, job.facts.inputs, job.facts.outputs)
    build = {"opset": opset, **done, **_sparsity(path, options), **count_nodes(path)}
    return Exported(MODEL_FILE, options.asked_precision, build, told)


def _optimized(job: ExportJob, graph: Path, path: Path, options: OnnxOptions) -> Exported:
    """A graph as ONNX Runtime's CPU provider runs it; a quantized one is lowered first."""
    level = options.optimize
    assert level != "none"  # asked only then
    with tempfile.TemporaryDirectory() as scratch:
        start, lowered, told = graph, dict[str, Any](), list[str]()
        if options.quantize:
            start = Path(scratch, MODEL_FILE)
            lowered, told = _lower(graph, start, options)
        sparsity = _sparsity(start, options)
        changes = optimize_graph(start, path, level, _is_big(start))
    opset, done = _finish(path, job.facts.inputs, job.facts.outputs), level if changes else "none"
    rewrites = {**lowered.pop("rewrites", {}), "optimize": changes}
    build: dict[str, Any] = {"opset": opset, "optimize": done, "rewrites": rewrites, **lowered, **sparsity}
    if done == "all":
        build |= {"platform": machine.system(), "isa": vectors()}
    counts = count_nodes(path, fused=level != "basic")
    return Exported(MODEL_FILE, options.asked_precision, {**build, **counts}, [*told, *_remarks(level, changes)])


def _remarks(level: str, changes: Mapping[str, str]) -> list[str]:
    """What the optimization binds the artifact to, and whether it found anything to do."""
    if not changes:
        return [f"optimize: {level} found nothing to do: the exporter had done it"]
    return {
        "basic": [],
        "extended": ["optimized with ONNX Runtime's own operators: no other engine runs the graph"],
        "all": [
            "laid out for CPUs like this one: on others, and in other releases of ONNX Runtime, it does not run"
        ],
    }[level]


def _cast(job: ExportJob, graph: Path, path: Path, options: OnnxOptions) -> Exported:
    """A float32 graph cast to the precision that is asked for; its layers are counted."""
    import onnx_ir

    model = onnx_ir.load(str(graph))
    cast = cast_checked(model, "fp16" if options.precision == "fp16" else "bf16", job.examples, job.folder)
    _save(model, path)
    opset = _finish(path, job.facts.inputs, job.facts.outputs)
    counts = count_nodes(path)
    share = MIXED_SHARE if cast.kept_layers else options.least_share
    check_precision(counts["compute_layers"], options.precision, share, cast.why)
    build = {"opset": opset, "rewrites": {"cast": cast.report}, "kept_layers": cast.kept_layers, **counts}
    return Exported(MODEL_FILE, options.precision, build, [*cast.notes, _WHERE[options.precision]])


def _lower(graph: Path, path: Path, options: OnnxOptions) -> tuple[dict[str, Any], list[str]]:
    """Rewrite a quantized graph for ONNX Runtime's fast kernels; what was done and what they leave, and notes."""
    import onnx_ir

    model = onnx_ir.load(str(graph))
    cpu = machine.own_cpu() if options.cpu == "auto" else options.cpu
    done: dict[str, Any] = {"rewrites": lower_for_onnxruntime(model, cpu)}
    _save(model, path)
    if not options.calibrated:
        return done, []
    unfused = find_unfused_in_onnxruntime(path, cpu)
    return {**done, "cpu": cpu, "unfused": listed(unfused)}, notes(unfused)


def _is_big(path: Path) -> bool:
    """Whether a graph's weights, in the file or beside it, are too many for one file."""
    import onnx_ir

    return weight_bytes(onnx_ir.load(str(path))) > _EXTERNAL_DATA_BYTES


def _save(model: ir.Model, path: Path) -> None:
    import onnx_ir

    big = weight_bytes(model) > _EXTERNAL_DATA_BYTES
    onnx_ir.save(model, str(path), external_data=f"{MODEL_FILE}.data" if big else None)


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all constants of a graph."""
    return sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)


def _dynamo(job: ExportJob, opset: int, path: Path) -> None:
    import torch

    args, kwargs = job.example_call()
    program = torch.onnx.export(
        job.module,
        args,
        kwargs=kwargs or None,
        dynamo=True,
        opset_version=opset,
        input_names=list(job.facts.inputs),
        output_names=list(job.facts.outputs),
        dynamic_shapes=job.dynamic_shapes(),
        verbose=False,
    )
    if program is None:
        raise ExportError("the dynamo exporter returned nothing")
    for node in program.model.graph.all_nodes():
        for key in _PRIVATE_METADATA:
            node.metadata_props.pop(key, None)
    program.save(str(path), external_data=weight_bytes(program.model) > _EXTERNAL_DATA_BYTES)


def _torchscript(job: ExportJob, opset: int, path: Path) -> None:
    import onnx
    import torch

    args, kwargs = job.example_call()
    specs = {**job.facts.inputs, **job.facts.outputs}
    torch.onnx.export(
        job.module,
        args,
        str(path),
        kwargs=kwargs or None,
        dynamo=False,
        opset_version=min(opset, 20),  # the newest that this exporter knows
        input_names=list(job.facts.inputs),
        output_names=list(job.facts.outputs),
        dynamic_axes={name: axes for name, spec in specs.items() if (axes := _named_axes(spec.shape))} or None,
    )
    onnx.shape_inference.infer_shapes_path(str(path), str(path))  # this exporter leaves inner values untyped


def _named_axes(shape: tuple[int | str, ...]) -> dict[int, str]:
    return {axis: size for axis, size in enumerate(shape) if isinstance(size, str)}


def _finish(path: Path, inputs: Specs, outputs: Specs) -> int:
    """Check the file's versions, and the rest with onnx's own checker and shape inference; return its opset."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    opset = int(next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")))
    check_versions(opset, model.ir_version)
    onnx.checker.check_model(str(path), full_check=path.stat().st_size < _EXTERNAL_DATA_BYTES)
    given = [value.name for value in model.graph.input], [value.name for value in model.graph.output]
    wanted = list(inputs), list(outputs)
    if given != wanted:
        raise ExportError(f"the graph's inputs and outputs are {given}, not {wanted}: is an input unused?")
    return opset
