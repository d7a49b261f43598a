"""Writing ONNX files: by PyTorch's exporters or onnx_ir, with external data, checked."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.errors import ExportError
from converters.exporters.job import ExportJob
from converters.exporters.onnx.ends import name_ends
from converters.exporters.onnx.limits import check_versions
from converters.exporters.onnx.sizes import check_size_arithmetic, exact_division
from converters.exporters.torch.program import capture_program
from converters.exporters.torch.tracing import Trace, watched_trace
from converters.graph.names import value_names
from runtimes.spec import Specs, graph_outputs

if TYPE_CHECKING:
    import onnx_ir as ir

MODEL_FILE = "model.onnx"
_END = "burnish"  # no exporter's name for an inner value
# protobuf cannot hold more than 2 GiB in one message; stay clear of it.
_EXTERNAL_DATA_BYTES = 2_000_000_000
# The exporter writes the author's source lines into each node: absolute paths, different on each
# machine.
_PRIVATE_METADATA = ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node")


def is_large(path: Path) -> bool:
    """Return whether a graph's weights, in the file or beside it, are too large for one file."""
    import onnx_ir

    return weight_bytes(onnx_ir.load(str(path))) > _EXTERNAL_DATA_BYTES


def save_graph(model: ir.Model, path: Path) -> None:
    """Write a graph, with the weights beside it if they are too large for one file."""
    import onnx_ir

    big = weight_bytes(model) > _EXTERNAL_DATA_BYTES
    onnx_ir.save(model, str(path), external_data=f"{MODEL_FILE}.data" if big else None)


def weight_bytes(model: ir.Model) -> int:
    """Return the bytes of all constants of a graph."""
    constants = [value.const_value for value in model.graph.initializers.values()]
    return sum(constant.nbytes for constant in constants if constant)


def export_dynamo(job: ExportJob, opset: int, path: Path) -> None:
    """Export by torch.export.

    torch.onnx gets the exported program: of a module it would make one itself, and if torch.export
    finds that this holds for some sizes only, take those without a word.

    Raises:
        NarrowSizes: the graph would be right for fewer sizes than the recipe allows.
        InexactSizes: it would compute some sizes otherwise than the model.
        ExportError, and any exception of torch's exporter.
    """
    import torch
    from torch.export._patches import (
        register_gru_while_loop_decomposition,
        register_lstm_while_loop_decomposition,
    )

    with contextlib.ExitStack() as stack:
        if job.facts.dims:  # as torch.onnx does: a recurrence over a dynamic axis is a loop
            stack.enter_context(register_lstm_while_loop_decomposition())
            stack.enter_context(register_gru_while_loop_decomposition())
        exported = capture_program(job, oblivious=True).result
        check_size_arithmetic(exported, job.facts)
        program = torch.onnx.export(
            exported,
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=_axis_names(job),
            custom_translation_table=exact_division(exported),
            verbose=False,
        )
    if program is None:
        raise ExportError("the dynamo exporter returned nothing")
    name_ends(program.model, list(job.facts.inputs), _graph_outputs(job))
    for node in program.model.graph.all_nodes():
        for key in _PRIVATE_METADATA:
            node.metadata_props.pop(key, None)
    program.save(str(path), external_data=weight_bytes(program.model) > _EXTERNAL_DATA_BYTES)


def _axis_names(job: ExportJob) -> Any:
    """Return the names of dynamic axes, structured as the call; None if all sizes are fixed."""
    dynamic = {name for name, dim in job.facts.dims.items() if dim.min != dim.max}
    if not dynamic:
        return None
    names = {}
    for name, spec in job.facts.inputs.items():
        sizes = enumerate(spec.shape)
        names[name] = {axis: str(size) for axis, size in sizes if size in dynamic}
    return names if job.facts.by_keyword else tuple(names.values())


def export_torchscript(job: ExportJob, opset: int, path: Path) -> Trace:
    """Export by the older TorchScript exporter, which traces; return where code looked at tensors.

    Raises any exception of that exporter.
    """
    import onnx
    import onnx_ir
    import torch

    args, kwargs = job.example_call()
    inputs = [f"{_END}_input_{index}" for index in range(len(job.facts.inputs))]
    outputs = [f"{_END}_output_{index}" for index in range(len(job.facts.outputs))]
    specs = [*job.facts.inputs.values(), *job.facts.outputs.values()]
    dynamic_axes = {}
    for name, spec in zip([*inputs, *outputs], specs, strict=True):
        if axes := _named_axes(spec.shape):
            dynamic_axes[name] = axes
    with watched_trace(len(job.facts.inputs)) as trace:
        torch.onnx.export(
            job.module,
            args,
            str(path),
            kwargs=kwargs or None,
            dynamo=False,
            opset_version=min(opset, 20),  # the newest that this exporter knows
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=dynamic_axes or None,
        )
    model = onnx_ir.load(str(path))
    name_ends(model, list(job.facts.inputs), _graph_outputs(job))
    onnx_ir.save(model, str(path))  # weights that are beside it stay there
    onnx.shape_inference.infer_shapes_path(
        str(path), str(path)
    )  # this exporter leaves inner values untyped
    return trace


def _graph_outputs(job: ExportJob) -> list[str]:
    return list(graph_outputs(job.facts.inputs, job.facts.outputs).values())


def _named_axes(shape: tuple[int | str, ...]) -> dict[int, str]:
    return {axis: size for axis, size in enumerate(shape) if isinstance(size, str)}


def check_graph(path: Path, inputs: Specs, outputs: Specs) -> int:
    """Check the file's versions, graph and names, by onnx's checker; return its opset."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    opset = int(
        next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    )
    check_versions(opset, model.ir_version)
    onnx.checker.check_model(str(path), full_check=path.stat().st_size < _EXTERNAL_DATA_BYTES)
    graph = model.graph
    names = value_names(graph.input), value_names(graph.output)
    wanted = list(inputs), list(graph_outputs(inputs, outputs).values())
    if names != wanted:
        raise ExportError(
            f"the graph's inputs and outputs are {names}, not {wanted}: is an input unused?"
        )
    return opset
