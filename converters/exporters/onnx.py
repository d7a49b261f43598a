"""ONNX: by torch.export (dynamo), or by the older TorchScript exporter where that fails."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from converters.exporters._limits import check_versions
from converters.exporters.base import (
    CastOptions,
    Exported,
    Exporter,
    ExportError,
    Job,
    check_precision,
    first_that_works,
)
from converters.passes.prune.sparsity import sparse_layers
from converters.passes.quantize.lower import lower_for_onnxruntime
from converters.passes.quantize.options import MOST
from converters.passes.quantize.qdq import MOVERS
from converters.passes.quantize.unfused.onnxruntime import left_by_onnxruntime
from converters.passes.quantize.unfused.report import listed, notes
from converters.passes.ranges import cast_checked
from runtimes.machine import own_cpu
from runtimes.spec import Specs

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

MODEL_FILE = "model.onnx"
# protobuf cannot hold more than 2 GiB in one message; stay clear of it.
_EXTERNAL_DATA_BYTES = 2_000_000_000
# The exporter notes the author's source lines in every node: absolute paths, different on every machine.
_PRIVATE_METADATA = ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node")
_COMPUTE = {
    "Conv",
    "ConvTranspose",
    "MatMul",
    "Gemm",
    "Einsum",
    "ConvInteger",
    "MatMulInteger",
    "LSTM",
    "GRU",
    "RNN",
}
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


class OnnxExporter(Exporter):
    """Writes `model.onnx`, with the weights beside it above 2 GB."""

    format = "onnx"
    runtime = "onnx"
    devices = ("cpu", "cuda")
    packages = ("torch", "onnx", "onnxscript")
    quantization = ("static", "dynamic", "weight-only")
    Options = OnnxOptions

    def graph_options(self, options: OnnxOptions) -> dict[str, Any] | None:
        """The float32 graph that passes and casts start from; without any the module is exported."""
        changed = options.quantize or options.precision != "fp32"
        return {"exporter": options.exporter, "opset": options.opset} if changed else None

    def runs_on(self, options: OnnxOptions) -> tuple[str, ...]:
        """ONNX Runtime's CPU provider has no bfloat16 kernels, and refuses what it does not have."""
        return ("cuda",) if options.precision == "bf16" else self.devices

    def export(self, job: Job, options: OnnxOptions) -> Exported:
        """Export, check, infer shapes; names and dynamic dimensions are as the recipe gives them."""
        path = job.folder / MODEL_FILE
        if job.graph is not None:
            return (_lowered if options.precision == "fp32" else _cast)(job, job.graph, path, options)
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


def _lowered(job: Job, graph: Path, path: Path, options: OnnxOptions) -> Exported:
    """A graph that passes have changed, rewritten for ONNX Runtime's fast kernels, and what they leave."""
    import onnx_ir

    model = onnx_ir.load(str(graph))
    cpu = own_cpu() if options.cpu == "auto" else options.cpu
    rewrites = lower_for_onnxruntime(model, cpu)
    _save(model, path)
    opset = _finish(path, job.facts.inputs, job.facts.outputs)
    build = {"opset": opset, "rewrites": rewrites, **_sparsity(path, options), **count_nodes(path)}
    if not options.calibrated:
        return Exported(MODEL_FILE, options.asked_precision, build)
    unfused = left_by_onnxruntime(path, cpu)
    build |= {"cpu": cpu, "unfused": listed(unfused)}
    return Exported(MODEL_FILE, options.asked_precision, build, notes(unfused))


def _cast(job: Job, graph: Path, path: Path, options: OnnxOptions) -> Exported:
    """A float32 graph cast to the precision that is asked for; its layers are counted."""
    import onnx_ir

    model = onnx_ir.load(str(graph))
    cast = cast_checked(model, "fp16" if options.precision == "fp16" else "bf16", job)
    _save(model, path)
    opset = _finish(path, job.facts.inputs, job.facts.outputs)
    counts = count_nodes(path)
    share = MOST if cast.kept_layers else options.least_share
    check_precision(counts["compute_layers"], options.precision, share, cast.why)
    build = {"opset": opset, "rewrites": {"cast": cast.report}, "kept_layers": cast.kept_layers, **counts}
    return Exported(MODEL_FILE, options.precision, build, [*cast.notes, _WHERE[options.precision]])


def _save(model: ir.Model, path: Path) -> None:
    import onnx_ir

    big = weight_bytes(model) > _EXTERNAL_DATA_BYTES
    onnx_ir.save(model, str(path), external_data=f"{MODEL_FILE}.data" if big else None)


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all constants of a graph."""
    return sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)


def _dynamo(job: Job, opset: int, path: Path) -> None:
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


def _torchscript(job: Job, opset: int, path: Path) -> None:
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


def count_nodes(path: Path) -> dict[str, dict[str, int]]:
    """Nodes by operator, and computing nodes (convolutions, matrix products) by their weight's precision."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    types = _element_types(graph)
    operators, compute = Counter(node.op_type for node in graph.node), Counter[str]()
    integers = _quantized(graph, types)
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            compute[next((f"int{one.i}" for one in node.attribute if one.name == "bits"), "unknown")] += 1
        elif node.op_type in _COMPUTE:
            # An engine computes with integers where both sides are dequantized; a float weight makes it float.
            both = [integers.get(name) for name in node.input[:2]]
            known = [types[name] for name in (*node.input[1::-1], node.output[0]) if name in types]
            compute[next((one for one in both if one and all(both)), None) or next(iter(known), "unknown")] += 1
    return {"operators": dict(operators.most_common()), "compute_layers": dict(compute)}


def _quantized(graph: onnx.GraphProto, types: dict[str, str]) -> dict[str, str]:
    """Values that come out of a DequantizeLinear, also through operators that only move them."""
    found: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and types.get(node.input[0], "int8") == "int8":
            found[node.output[0]] = "int8"
        elif node.op_type in MOVERS and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _element_types(graph: onnx.GraphProto) -> dict[str, str]:
    import onnx

    short = {
        onnx.TensorProto.FLOAT: "fp32",
        onnx.TensorProto.FLOAT16: "fp16",
        onnx.TensorProto.BFLOAT16: "bf16",
        onnx.TensorProto.DOUBLE: "fp64",
        onnx.TensorProto.INT8: "int8",
        onnx.TensorProto.UINT8: "int8",
    }
    types = {tensor.name: short.get(tensor.data_type, "other") for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        types.setdefault(value.name, short.get(value.type.tensor_type.elem_type, "other"))
    return types
