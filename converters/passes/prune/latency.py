"""What each layer takes, measured in an engine at some widths: the cost model of `of: latency`.

Multiply-adds do not tell: a layer of a quarter of the operations may take half of the time, or all of it. So each
layer is run by itself, as a graph of one node at some widths of its inputs and outputs, and the engine's own
profiler says what that node took: the reordering of a graph's inputs does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from converters.passes.prune.attention import HeadAttention
from converters.passes.prune.cost import Costs, LayerCost, is_layer
from converters.passes.prune.importance import Run
from runtimes.child import tell

if TYPE_CHECKING:
    import onnx_ir as ir

GRID = (0.25, 0.5, 0.75, 1.0)
"""Shares of a layer's widths at which it is measured; between them the time is interpolated."""
_STEP = 8  # widths are measured at multiples of this


@dataclass(frozen=True)
class Table:
    """Microseconds by the shares of inputs and outputs that are left [inputs, outputs]; bilinear in between."""

    times: np.ndarray[Any, Any]

    def __call__(self, ins: float, outs: float) -> float:
        """The time at these shares; below the smallest measured one that of the smallest."""
        rows = [float(np.interp(outs, GRID, row)) for row in self.times]
        return float(np.interp(ins, GRID, rows))


def measured(module: nn.Module, run: Run, engine: str) -> Costs:
    """The time of every layer in an engine, as a function of its widths.

    Args:
        module: the module.
        run: a forward pass at the sizes to be fastest at.
        engine: onnx, openvino or torch.
    """
    shapes = _input_shapes(module, run)
    known: dict[str, LayerCost] = {}
    layers: dict[str, LayerCost] = {}
    for name, shape in shapes.items():
        layer = module.get_submodule(name)
        signature = f"{layer} {shape}"
        if signature not in known:
            tell(f"measuring {name} in {engine}, {len(known) + 1} of at most {len(shapes)}")
            known[signature] = _table(layer, shape, engine)
        layers[name] = known[signature]
    return Costs(sum(cost(1, 1) for cost in layers.values()), layers)


def _input_shapes(module: nn.Module, run: Run) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}

    def hook(name: str) -> Callable[..., None]:
        def note(layer: nn.Module, given: Any, made: Any) -> None:
            found[name] = tuple(given[0].shape)

        return note

    hooks = [one.register_forward_hook(hook(name)) for name, one in module.named_modules() if is_layer(one)]
    with torch.no_grad():
        run(module)
    for one in hooks:
        one.remove()
    return found


def _table(layer: Any, shape: tuple[int, ...], engine: str) -> Table:
    """A layer at all pairs of widths; what ties inputs to outputs is measured along the diagonal."""
    tied = isinstance(layer, HeadAttention) or getattr(layer, "groups", 1) > 1
    times = np.zeros((len(GRID), len(GRID)))
    for column, outs in enumerate(GRID):
        if tied:
            times[:, column] = _microseconds(_narrow(layer, outs, outs), shape, outs, engine)
            continue
        for row, ins in enumerate(GRID):
            times[row, column] = _microseconds(_narrow(layer, ins, outs), shape, ins, engine)
    # Noise must not make a narrower layer the slower one: no more units, no more time.
    return Table(np.maximum.accumulate(np.maximum.accumulate(times, axis=0), axis=1))


def _narrow(layer: Any, ins: float, outs: float) -> nn.Module:
    """A layer of the same kind with these shares of its widths and random weights."""
    if isinstance(layer, HeadAttention):
        width, heads = layer.out_proj.out_features, max(1, round(outs * layer.num_heads))
        made = HeadAttention(nn.MultiheadAttention(width, layer.num_heads, batch_first=True))
        made.head_dim = layer.head_dim
        made.keep(range(heads))
        return made.eval()
    if isinstance(layer, nn.Linear):
        return nn.Linear(_units(layer.in_features, ins), _units(layer.out_features, outs), layer.bias is not None)
    groups = layer.groups
    if groups == layer.in_channels:  # depthwise: as many groups as channels
        groups = channels = _units(layer.in_channels, outs)
        sizes = channels, channels * (layer.out_channels // layer.in_channels)
    else:
        ins_each, outs_each = layer.in_channels // groups, layer.out_channels // groups
        sizes = groups * _units(ins_each, ins), groups * _units(outs_each, outs)
    same: nn.Module = type(layer)(
        *sizes,
        layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=groups,
        bias=layer.bias is not None,
    )
    return same


def _units(width: int, share: float) -> int:
    return width if share == 1 else max(1, min(width, _STEP * math.ceil(width * share / _STEP)))


def _microseconds(layer: Any, shape: tuple[int, ...], ins: float, engine: str) -> float:
    """What the layer takes on one input of this shape, with the channels that it has left."""
    width = next((getattr(layer, name) for name in ("in_channels", "in_features") if hasattr(layer, name)), None)
    axis = 1 if isinstance(layer, nn.modules.conv._ConvNd) else len(shape) - 1
    sizes = [width if index == axis and width is not None else size for index, size in enumerate(shape)]
    given = torch.randn(sizes)
    if engine == "torch":
        return _in_torch(layer, given)
    from converters.passes.quantize.trial import trial

    profile = trial(engine, _graph(layer, given), "fp32").profile({"x": given.numpy()})
    return sum(taken for name, taken in profile.items() if "eorder" not in name and "onvert" not in name)


class _Alone(nn.Module):
    """A layer that takes one tensor: attention gets it three times."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.layer, HeadAttention):
            return self.layer(x, x, x)[0]  # type: ignore[no-any-return]
        return self.layer(x)  # type: ignore[no-any-return]


def _graph(layer: Any, given: torch.Tensor) -> ir.Model:
    """The layer as a graph. Written here where it is one node: an export takes a hundred times as long."""
    import onnx
    import onnx_ir as ir
    from onnx import helper, numpy_helper

    plain = isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and not isinstance(layer.padding, str)
    if not plain and not isinstance(layer, nn.Linear):
        program = torch.onnx.export(_Alone(layer).eval(), (given,), input_names=["x"], dynamo=True, verbose=False)
        assert program is not None  # only an export to a file returns nothing
        return program.model
    weight = layer.weight.detach() if plain else layer.weight.detach().T
    constants = [numpy_helper.from_array(weight.contiguous().numpy(), "weight")]
    product = helper.make_node("Conv" if plain else "MatMul", ["x", "weight"], ["y"], name="layer")
    nodes, last = [product], "y"
    if plain:
        sizes = {"kernel_shape": layer.kernel_size, "strides": layer.stride, "dilations": layer.dilation}
        product.attribute.extend(helper.make_attribute(name, list(size)) for name, size in sizes.items())
        product.attribute.append(helper.make_attribute("pads", list(layer.padding) * 2))
        product.attribute.append(helper.make_attribute("group", layer.groups))
    if layer.bias is not None:
        constants.append(numpy_helper.from_array(layer.bias.detach().numpy(), "bias"))
        if plain:
            product.input.append("bias")
        else:
            nodes.append(helper.make_node("Add", ["y", "bias"], ["z"], name="bias"))
            last = "z"
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size) for name, size in
            (("x", list(given.shape)), (last, None))]  # fmt: skip
    graph = helper.make_graph(nodes, "layer", ends[:1], ends[1:], constants)
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def _in_torch(layer: nn.Module, given: torch.Tensor) -> float:
    """The lower quartile of some runs."""
    import time

    module, times = _Alone(layer).eval(), []
    with torch.inference_mode():
        for _ in range(40):
            start = time.perf_counter()
            module(given)
            times.append(time.perf_counter() - start)
    return float(np.percentile(times[10:], 25) * 1e6)
