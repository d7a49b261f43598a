"""Tracing: places at which Python code looked at a tensor, and the trace kept the answer.

A trace records operators, not Python. The result of `if`, `float()`, `.item()` or a loop over a traced
tensor is a constant in it. If that came from the values of an input, the trace is wrong for others,
even if no probe shows it. If it came from sizes alone, the probes decide, which have other sizes by
design.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from converters.errors import Refused
from converters.exporters.torch.source_line import source_line

if TYPE_CHECKING:
    import torch

_LOOKS = frozenset(
    {
        "__array__",
        "__bool__",
        "__complex__",
        "__contains__",
        "__dlpack__",
        "__float__",
        "__index__",
        "__int__",
        "__len__",
        "allclose",
        "equal",
        "is_nonzero",
        "item",
        "numpy",
        "tolist",
    }
)
_COPIES = frozenset(
    {
        "as_tensor",
        "asarray",
        "from_numpy",
        "tensor",
    }
)
_SIZE_READERS = frozenset(
    {
        "aten::dim",
        "aten::len",
        "aten::numel",
        "aten::size",
        "aten::sym_size",
        "aten::_shape_as_tensor",
        "prim::shape",
    }
)
# Operators whose result has a size that depends on values.
_SIZED_BY_VALUES = frozenset(
    {
        "aten::argwhere",
        "aten::bincount",
        "aten::masked_select",
        "aten::nonzero",
        "aten::nonzero_numpy",
        "aten::repeat_interleave",
        "aten::unique_consecutive",
        "aten::unique_dim",
        "aten::_unique",
        "aten::_unique2",
        "torchvision::nms",
    }
)
# A line that asks whether it is being traced is written for that (torchvision's detectors).
_AWARE = ("is_tracing", "is_in_onnx_export")
_MISMATCH = "of the traced function does not match"
_DIFFERS = (
    "traced twice, the model gave two answers to the same inputs: ties, or code that knows of tracing; "
    "parity decides"
)
_SHOWN = 5  # source lines that a message names


@dataclass
class Trace:
    """Places at which a traced model's code looked at tensors: source lines, in order.

    Attributes:
        values: where it looked at what was computed from an input's values.
        sizes: where it looked at sizes alone.
        differs: whether the traced module, run again on the same inputs, gave another answer.
    """

    values: dict[str, None] = field(default_factory=dict)
    sizes: dict[str, None] = field(default_factory=dict)
    differs: bool = False


class TracedValues(Refused):
    """A trace that rests on a look at values."""


def judge(trace: Trace, chosen: bool, choose: str, refusal: Exception | None = None) -> list[str]:
    """Return notes on a trace.

    Args:
        trace: of the model.
        chosen: the recipe asks for tracing by name; otherwise it was the last resort.
        choose: what a recipe writes to ask for it, such as "`method: trace`".
        refusal: the error of the exporter that failed before.

    Raises:
        TracedValues: the trace would be wrong for other values, and tracing was not asked for.
        Refused: `refusal`, if it was for sizes and the trace too keeps what code made of sizes.
    """
    if not chosen and isinstance(refusal, Refused) and trace.sizes:
        raise refusal
    notes = [_DIFFERS] if trace.differs else []
    if not trace.values:
        return notes
    lines = "; ".join(list(trace.values)[:_SHOWN])
    kept = f"the trace keeps what Python made of one input's values ({lines})"
    if chosen:
        return [*notes, f"{kept}: for other values it may be wrong"]
    raise TracedValues(
        f"{kept}, and would be wrong for others: write torch.where or torch.cond in place of Python's "
        f"if, float() or .item(), or accept it by name ({choose})"
    )


@contextlib.contextmanager
def watched_trace(inputs: int) -> Iterator[Trace]:
    """Record where code looks at tensors that are being traced; torch's warnings are silenced.

    `inputs`: number of tensors of the call; the graph's further inputs are weights.
    """
    trace = Trace()
    with warnings.catch_warnings(record=True) as caught, _watching(trace, inputs):
        warnings.simplefilter("always")
        yield trace
    trace.differs = any(_MISMATCH in str(warning.message) for warning in caught)


@contextlib.contextmanager
def _watching(trace: Trace, inputs: int) -> Iterator[None]:
    import torch
    from torch.overrides import TorchFunctionMode

    tracer: Any = torch._C  # the stubs lack what the tracer's own Python code calls

    def note(argument: Any, only_size: bool = False) -> None:
        for tensor in _tensors(argument):
            value = tracer._get_value_trace(tensor)
            line = source_line() or "a line inside of torch"
            if any(word in line for word in _AWARE):
                continue
            looks_at_values = depends_on_values(value, inputs, only_size)
            places = trace.values if looks_at_values else trace.sizes
            places[line] = None

    class Watch(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            name = getattr(function, "__name__", "")
            if torch._C._is_tracing() and args and name in _LOOKS | _COPIES:
                note(args[:2] if name in ("allclose", "equal") else args[0], name == "__len__")
            return function(*args, **(kwargs or {}))

    tensor_type: Any = torch.Tensor
    iterate = tensor_type.__iter__

    def noted_iterate(tensor: torch.Tensor) -> Any:
        if torch._C._is_tracing():
            note(tensor, only_size=True)
        return iterate(tensor)

    tensor_type.__iter__ = noted_iterate
    try:
        with Watch():
            yield
    finally:
        tensor_type.__iter__ = iterate


def _tensors(argument: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in an argument: a tensor, or nested sequences of them."""
    import torch

    if isinstance(argument, torch.Tensor):
        yield argument
    elif isinstance(argument, Sequence) and not isinstance(argument, str):
        for item in argument:
            yield from _tensors(item)


def depends_on_values(value: Any, inputs: int, only_size: bool = False) -> bool:
    """Return whether a value of a graph that is being traced depends on the values of its inputs.

    Sizes of the inputs do not count; sizes that depend on values (of `nonzero`, say) do.

    Args:
        value: of the graph.
        inputs: number of the graph's tensors that are inputs.
        only_size: look at the size of `value` alone.
    """
    pending, seen = [(value, only_size)], set()
    while pending:
        current, only_size = pending.pop()
        if (current.unique(), only_size) in seen:
            continue
        seen.add((current.unique(), only_size))
        node = current.node()
        kind = node.kind()
        if kind in ("prim::Constant", "prim::GetAttr"):
            continue
        if kind == "prim::Param":
            if not only_size and _is_input(current, node, inputs):
                return True
            continue
        if only_size and _sized_by_values(node):
            return True
        for position, argument in enumerate(node.inputs()):
            of_size = _holds_tensors(argument) and (only_size or _reads_size(kind, position))
            pending.append((argument, of_size))
    return False


def _holds_tensors(value: Any) -> bool:
    """Return whether a value is a tensor, or a list or tuple of them, rather than numbers."""
    return "Tensor" in str(value.type())


def _reads_size(kind: str, position: int) -> bool:
    """Return whether an operator's result depends on no more than the size of an argument."""
    name = kind.partition("::")[2]
    if name.endswith("_like") or name.startswith("new_"):
        return position == 0
    if name.endswith("_as"):
        return position == 1
    return kind in _SIZE_READERS


def _is_input(value: Any, node: Any, inputs: int) -> bool:
    tensors = [output for output in node.outputs() if output.type().kind() != "ClassType"]
    positions = [output.unique() for output in tensors]
    return positions.index(value.unique()) < inputs


def _sized_by_values(node: Any) -> bool:
    """Return whether the size of an operator's result depends on values."""
    kind = node.kind()
    only_condition = kind == "aten::where" and len(list(node.inputs())) == 1
    return kind in _SIZED_BY_VALUES or only_condition or _picks_by_mask(node)


def _picks_by_mask(node: Any) -> bool:
    """Return whether an index of a tensor is a mask: it then picks as many as the mask has."""
    import torch

    if node.kind() not in ("aten::index", "aten::index_put_", "aten::index_put"):
        return False
    indices = list(node.inputs())[1].node()
    for index in indices.inputs():
        if index.type().kind() == "TensorType" and index.type().dtype() in (
            torch.bool,
            torch.uint8,
        ):
            return True
    return False
