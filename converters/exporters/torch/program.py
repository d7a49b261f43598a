"""The exported program, which several formats start from, and the counts of its nodes."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from converters.errors import ExportError
from converters.exporters.base import Attempt, try_in_turn
from converters.exporters.job import ExportJob
from converters.exporters.torch.guards import (
    drop_operators_guards,
    explain_data_dependence,
    recorded_sources,
)
from converters.exporters.torch.restrictions import check_sizes, find_restrictions
from converters.recipe.artifact import ExporterOptions
from runtimes.precision.judge import ComputingLayer
from runtimes.precision.table import Kind

if TYPE_CHECKING:
    import torch

_CONVOLUTIONS = (
    "conv1d conv2d conv3d convolution conv_transpose1d conv_transpose2d conv_transpose3d"
)
_PRODUCTS = (
    "linear bilinear matmul mm bmm addmm baddbmm addbmm mv dot einsum scaled_dot_product_attention"
)
_RECURRENT = "lstm gru rnn_tanh rnn_relu"
_COMPUTE = frozenset(f"{_CONVOLUTIONS} {_PRODUCTS} {_RECURRENT}".split())
_PRECISIONS = {
    "torch.float32": "fp32",
    "torch.float16": "fp16",
    "torch.bfloat16": "bf16",
    "torch.float64": "fp64",
}


class ProgramOptions(ExporterOptions):
    """Options of every format that starts from torch.export."""

    method: Literal["auto", "non-strict", "strict"] = Field(
        "auto",
        description="Mode of torch.export. auto: non-strict, with strict as the fallback; the "
        "manifest says which and why.",
    )


def export_program(
    job: ExportJob, options: ProgramOptions
) -> tuple[torch.export.ExportedProgram, dict[str, Any]]:
    """Return the exported program and its manifest entries: method, failures, operators.

    Raises:
        NarrowSizes: the program would be right for fewer sizes than the recipe allows.
        ExportError: with torch.export's message.
    """
    attempt = capture_program(job, options.method)
    counts = count_nodes(attempt.result)
    return attempt.result, {"method": attempt.name, "failed": attempt.failed, **counts}


def capture_program(
    job: ExportJob, method: str = "auto", oblivious: bool = False, device: str = "cpu"
) -> Attempt:
    """Export by one method or the other; the result is an ExportedProgram.

    Args:
        job: has the module.
        method: of torch.export, or `auto`.
        oblivious: let no operator look whether a size is 0 or 1, as ONNX graphs need.
        device: that the module is exported on, and is moved to.

    Raises as `export_program`.
    """
    import torch

    args, kwargs = example_call_on(job, device)
    export = partial(torch.export.export, job.module.to(device), args, kwargs)
    capture = partial(_capture, job, oblivious)
    attempts: dict[str, Callable[[], Any]] = {
        "non-strict": partial(capture, partial(export, strict=False)),
        "strict": partial(capture, partial(export, strict=True), named=method == "strict"),
    }
    with warnings.catch_warnings(), torch.no_grad(), recorded_sources():
        warnings.simplefilter("ignore")
        return try_in_turn(method, attempts)


def _capture(
    job: ExportJob, oblivious: bool, export: Callable[..., Any], named: bool = True
) -> torch.export.ExportedProgram:
    """Export a program that is right for all sizes. Raises NarrowSizes, and torch's exceptions.

    At first the dimensions are torch's `named` ones. It may take a relation that always holds for a
    restriction; if it refuses, or a guard is left, its own search for relations decides.
    """
    program: torch.export.ExportedProgram | None = None
    if named:
        program = _with_named_dims(job, oblivious, export)
    if program is None:
        with _sizes_not_special(True):
            program = _readably(export, dynamic_shapes=job.dynamic_shapes(hints=True))
        check_sizes(program, job.facts)
    drop_operators_guards(program)
    return program


def _with_named_dims(job: ExportJob, oblivious: bool, export: Callable[..., Any]) -> Any:
    """Return the exported program; None if torch.export refuses the sizes or a guard is left."""
    from torch._dynamo.exc import UserError, UserErrorType

    try:
        with _sizes_not_special(oblivious):
            program = _readably(export, dynamic_shapes=job.dynamic_shapes())
    except UserError as error:
        if error.error_type is not UserErrorType.CONSTRAINT_VIOLATION:
            raise
        return None
    return None if find_restrictions(program, job.facts) else program


def _readably(export: Callable[..., Any], **options: Any) -> Any:
    """Export; an error at code that looks at values says so in few words."""
    try:
        return export(**options)
    except RuntimeError as error:
        if message := explain_data_dependence(error):
            raise ExportError(message) from error
        raise


def example_call_on(job: ExportJob, device: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return example arguments of the module, on a device."""
    args, kwargs = job.example_call()
    moved = {name: tensor.to(device) for name, tensor in kwargs.items()}
    return tuple(tensor.to(device) for tensor in args), moved


def _sizes_not_special(oblivious: bool) -> Any:
    from torch.fx.experimental import _config

    patch: Any = getattr(_config, "patch")  # noqa: B009 - torch adds it at import
    return patch(backed_size_oblivious=oblivious)


def count_nodes(program: torch.export.ExportedProgram) -> dict[str, dict[str, int]]:
    """Count nodes by operator, and computing nodes by the precision of their result."""
    operators = Counter(str(node.target) for node in _calls(program))
    compute = Counter(layer.precision for layer in computing_layers(program))
    return {"operators": dict(operators.most_common()), "compute_layers": dict(compute)}


def computing_layers(program: torch.export.ExportedProgram) -> list[ComputingLayer]:
    """Return the computing nodes of a program; their multiply-adds are not counted."""
    layers = []
    for node in _calls(program):
        if node.target.overloadpacket.__name__ in _COMPUTE:
            precision = "int8" if _quantized(node) else _precision(node.meta["val"])
            layers.append(ComputingLayer(node.name, _module(node), _kind(node), precision))
    return layers


def _kind(node: Any) -> Kind:
    operator = node.target.overloadpacket.__name__
    if operator in _CONVOLUTIONS.split():
        return "convolution"
    if operator in _RECURRENT.split():
        return "lstm" if operator == "lstm" else "recurrent"
    return "product" if all(map(_is_computed, node.all_input_nodes[:2])) else "linear"


def _module(node: Any) -> str:
    """Return the path of a node's module; the node's name if it is not recorded."""
    paths = [str(path) for path, _ in node.meta.get("nn_module_stack", {}).values()]
    return paths[-1] if paths and paths[-1] else str(node.name)


def _is_computed(factor: Any) -> bool:
    """Return whether a value is more than a parameter that was moved."""
    while factor.op == "call_function" and len(factor.all_input_nodes) == 1:
        factor = factor.all_input_nodes[0]
    return bool(factor.op == "call_function")


def forget_sources(program: torch.export.ExportedProgram) -> None:
    """Drop metadata that differs between builds: source lines with paths, memory addresses.

    `strict` records the node of an earlier graph that each one comes from, and names modules by
    their addresses.
    """
    for node in _nodes(program):
        node.meta.pop("stack_trace", None)
        node.meta.pop("from_node", None)
        if stack := node.meta.get("nn_module_stack"):
            modules = {f"L__self__{path}": (path, kind) for path, kind in stack.values()}
            node.meta["nn_module_stack"] = modules


def _calls(program: torch.export.ExportedProgram) -> Iterator[Any]:
    """Yield the nodes that call an operator, not a Python function (getitem)."""
    import torch

    for node in _nodes(program):
        if isinstance(node.target, torch._ops.OpOverload):
            yield node


def _nodes(program: torch.export.ExportedProgram) -> Iterator[Any]:
    """Yield all nodes, those of control flow's branches too."""
    import torch

    for part in program.graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            yield from part.graph.nodes


def _quantized(node: Any) -> bool:
    """Return whether both factors of a product are dequantized: kernels then use integers."""
    factors = node.args[:2]
    if len(factors) < 2:
        return False
    return all("dequantize" in str(getattr(factor, "target", "")) for factor in factors)


def _precision(value: Any) -> str:
    """Return the precision of a node's first result."""
    first = value[0] if isinstance(value, tuple | list) else value
    return _PRECISIONS.get(str(first.dtype), "other")
