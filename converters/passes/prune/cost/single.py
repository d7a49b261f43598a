"""A layer by itself, narrower than it is, as an engine can run it: what `latency` measures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from converters.models.attention import HeadAttention

if TYPE_CHECKING:
    import onnx_ir as ir


def depthwise(layer: nn.Module) -> bool:
    """Whether each input channel of a convolution has outputs of its own."""
    groups = getattr(layer, "groups", 1)
    return bool(groups > 1 and groups == getattr(layer, "in_channels", 0))


def widths(layer: Any) -> tuple[int, int]:
    """Inputs and outputs of a layer, of each group where it has some; one input where the outputs tell both."""
    if isinstance(layer, HeadAttention):
        return 1, int(layer.num_heads)
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if depthwise(layer):
        return 1, int(layer.in_channels)
    return layer.in_channels // layer.groups, layer.out_channels // layer.groups


def narrow(layer: Any, ins: int, outs: int) -> nn.Module:
    """A layer of the same kind and these `widths`, with random weights."""
    if isinstance(layer, HeadAttention):
        width = layer.out_proj.out_features
        made = HeadAttention(nn.MultiheadAttention(width, 1, batch_first=True))
        inner = outs * layer.head_dim
        made.num_heads, made.head_dim = outs, layer.head_dim
        made.in_proj_weight = nn.Parameter(torch.randn(3 * inner, width))
        made.in_proj_bias = nn.Parameter(torch.randn(3 * inner)) if layer.in_proj_bias is not None else None
        made.out_proj = nn.modules.linear.NonDynamicallyQuantizableLinear(inner, width)
        return made.eval()
    if isinstance(layer, nn.Linear):
        return nn.Linear(ins, outs, layer.bias is not None)
    each = layer.out_channels // layer.in_channels
    groups, sizes = (outs, (outs, outs * each)) if depthwise(layer) else (layer.groups, (ins, outs))
    sizes = sizes if depthwise(layer) else (groups * ins, groups * outs)
    sides = ("stride", "padding", "dilation", *(("output_padding",) if layer.transposed else ()))
    like = {name: getattr(layer, name) for name in sides}
    same: nn.Module = type(layer)(*sizes, layer.kernel_size, **like, groups=groups, bias=layer.bias is not None)
    return same


def some_input(layer: Any, shape: tuple[int, ...]) -> torch.Tensor:
    """Noise of the shape that the layer is given in its model, with the channels that this one reads."""
    sizes = list(shape)
    if isinstance(layer, nn.modules.conv._ConvNd):
        sizes[1] = layer.in_channels
    elif isinstance(layer, nn.Linear):
        sizes[-1] = layer.in_features
    return torch.randn(sizes)


class Alone(nn.Module):
    """A layer that takes one tensor: attention gets it three times."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's output."""
        if isinstance(self.layer, HeadAttention):
            return self.layer(x, x, x, need_weights=False)[0]  # type: ignore[no-any-return]
        return self.layer(x)  # type: ignore[no-any-return]


def graph(layer: Any, given: torch.Tensor) -> ir.Model:
    """The layer as a graph. Written here where it is one node: an export takes a hundred times as long."""
    import onnx
    import onnx_ir as ir
    from onnx import helper, numpy_helper

    plain = isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and not isinstance(layer.padding, str)
    if not plain and not isinstance(layer, nn.Linear):
        program = torch.onnx.export(Alone(layer).eval(), (given,), input_names=["x"], dynamo=True, verbose=False)
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
    made = helper.make_graph(nodes, "layer", ends[:1], ends[1:], constants)
    return ir.from_proto(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
