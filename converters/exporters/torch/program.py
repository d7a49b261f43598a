"""What the formats that start from torch.export share: the exported program, and what is in it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from converters.exporters.base import first_that_works
from converters.exporters.job import ExportJob
from converters.recipe.artifact import ExporterOptions

if TYPE_CHECKING:
    import torch

_COMPUTE = {
    "conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "linear", "bilinear", "matmul", "mm", "bmm", "addmm", "baddbmm", "addbmm", "mv", "dot", "einsum",
    "scaled_dot_product_attention", "lstm", "gru", "rnn_tanh", "rnn_relu",
}  # fmt: skip
_PRECISIONS = {"torch.float32": "fp32", "torch.float16": "fp16", "torch.bfloat16": "bf16", "torch.float64": "fp64"}


class ProgramOptions(ExporterOptions):
    """Options of every format that starts from torch.export."""

    method: Literal["auto", "non-strict", "strict"] = Field(
        "auto", description="auto: non-strict, and strict where that fails; the manifest says which and why."
    )


def export_program(job: ExportJob, options: ProgramOptions) -> tuple[torch.export.ExportedProgram, dict[str, Any]]:
    """The model's exported program, and what the manifest says of it: method, failures, operators.

    Raises ExportError with torch.export's own words.
    """
    import torch

    args, kwargs = job.example_call()
    export = partial(torch.export.export, job.module, args, kwargs, dynamic_shapes=job.dynamic_shapes())
    methods: dict[str, Callable[[], Any]] = {
        "non-strict": partial(export, strict=False),
        "strict": partial(export, strict=True),
    }
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        method, program, failures = first_that_works(options.method, methods)
    return program, {"method": method, "failed": failures, **count_nodes(program)}


def count_nodes(program: torch.export.ExportedProgram) -> dict[str, dict[str, int]]:
    """Nodes by operator, and computing nodes (convolutions, matrix products) by the precision of their result."""
    operators, compute = Counter[str](), Counter[str]()
    for node in _calls(program):
        operators[str(node.target)] += 1
        if node.target.overloadpacket.__name__ in _COMPUTE:
            compute["int8" if _quantized(node) else _precision(node.meta["val"])] += 1
    return {"operators": dict(operators.most_common()), "compute_layers": dict(compute)}


def float_products(program: torch.export.ExportedProgram) -> list[str]:
    """The products of two computed values (attention) that no quantizer has touched: they have no weights."""
    layers = (node for node in _calls(program) if node.target.overloadpacket.__name__ in _COMPUTE)
    return [
        node.name for node in layers if not _quantized(node) and all(map(_is_computed, node.all_input_nodes[:2]))
    ]


def _is_computed(factor: Any) -> bool:
    """Whether a value is more than a parameter that was moved."""
    while factor.op == "call_function" and len(factor.all_input_nodes) == 1:
        factor = factor.all_input_nodes[0]
    return bool(factor.op == "call_function")


def forget_sources(program: torch.export.ExportedProgram) -> None:
    """Drop what differs from build to build: the author's source lines (absolute paths), addresses in memory.

    `strict` notes from which node of which earlier graph each one comes, and calls modules by their addresses.
    """
    for node in _nodes(program):
        node.meta.pop("stack_trace", None)
        node.meta.pop("from_node", None)
        if modules := node.meta.get("nn_module_stack"):
            node.meta["nn_module_stack"] = {f"L__self__{path}": (path, kind) for path, kind in modules.values()}


def _calls(program: torch.export.ExportedProgram) -> Iterator[Any]:
    """The nodes that call an operator, not the Python functions that only move values (getitem)."""
    import torch

    return (node for node in _nodes(program) if isinstance(node.target, torch._ops.OpOverload))


def _nodes(program: torch.export.ExportedProgram) -> Iterator[Any]:
    """Every node, those of control flow's branches too."""
    import torch

    graphs = (part for part in program.graph_module.modules() if isinstance(part, torch.fx.GraphModule))
    return (node for part in graphs for node in part.graph.nodes)


def _quantized(node: Any) -> bool:
    """Whether both factors of a product come out of integers: a compiler with a kernel for it computes in them."""
    factors = node.args[:2]
    return len(factors) == 2 and all("dequantize" in str(getattr(one, "target", "")) for one in factors)


def _precision(value: Any) -> str:
    """Of a node's first result."""
    first = value[0] if isinstance(value, tuple | list) else value
    return _PRECISIONS.get(str(first.dtype), "other")
