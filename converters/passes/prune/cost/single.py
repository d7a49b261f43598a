"""A single layer, at reduced width, as an engine can run it: `latency` measures these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from converters.models.attention import HeadAttention

if TYPE_CHECKING:
    import onnx_ir as ir


def depthwise(layer: nn.Module) -> bool:
    """Return whether each input channel of a convolution has separate outputs."""
    groups = getattr(layer, "groups", 1)
    return bool(groups > 1 and groups == getattr(layer, "in_channels", 0))


def widths(layer: Any) -> tuple[int, int]:
    """Return the inputs and outputs of a layer, per group if it has groups.

    There is one input if the number of outputs decides both.
    """
    if isinstance(layer, HeadAttention):
        return 1, int(layer.num_heads)
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if depthwise(layer):
        return 1, int(layer.in_channels)
    return layer.in_channels // layer.groups, layer.out_channels // layer.groups


def narrow(layer: Any, ins: int, outs: int) -> nn.Module:
    """Return a layer of the same kind and these `widths`, with random weights."""
    if isinstance(layer, HeadAttention):
        return _narrow_attention(layer, outs)
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(ins, outs, bias)
    if depthwise(layer):
        groups, sizes = outs, (outs, outs * (layer.out_channels // layer.in_channels))
    else:
        groups, sizes = layer.groups, (layer.groups * ins, layer.groups * outs)
    names = ["stride", "padding", "dilation"]
    if layer.transposed:
        names.append("output_padding")
    settings = {name: getattr(layer, name) for name in names}
    narrowed: nn.Module = type(layer)(
        *sizes, layer.kernel_size, **settings, groups=groups, bias=bias
    )
    return narrowed


def _narrow_attention(layer: HeadAttention, heads: int) -> nn.Module:
    width = layer.out_proj.out_features
    inner = heads * layer.head_dim
    narrowed = HeadAttention(nn.MultiheadAttention(width, 1, batch_first=True))
    narrowed.num_heads, narrowed.head_dim = heads, layer.head_dim
    narrowed.in_proj_weight = nn.Parameter(torch.randn(3 * inner, width))
    narrowed.in_proj_bias = (
        nn.Parameter(torch.randn(3 * inner)) if layer.in_proj_bias is not None else None
    )
    narrowed.out_proj = nn.modules.linear.NonDynamicallyQuantizableLinear(inner, width)
    return narrowed.eval()


def some_input(layer: Any, shape: tuple[int, ...]) -> torch.Tensor:
    """Return noise of the layer's input shape in its model, with this one's channels."""
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
        """Return the layer's output."""
        if isinstance(self.layer, HeadAttention):
            return self.layer(x, x, x, need_weights=False)[0]  # type: ignore[no-any-return]
        return self.layer(x)  # type: ignore[no-any-return]


def graph(layer: Any, example: torch.Tensor) -> ir.Model:
    """Return the layer as a graph.

    A layer of one node is written here: an export takes a hundred times as long.
    """
    import onnx
    import onnx_ir as ir
    from onnx import helper, numpy_helper

    plain = isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and not isinstance(
        layer.padding, str
    )
    if not plain and not isinstance(layer, nn.Linear):
        single = Alone(layer).eval()
        program = torch.onnx.export(
            single, (example,), input_names=["x"], dynamo=True, verbose=False
        )
        assert program is not None  # only an export to a file returns nothing
        return program.model
    weight = layer.weight.detach() if plain else layer.weight.detach().T
    constants = [numpy_helper.from_array(weight.contiguous().numpy(), "weight")]
    product = helper.make_node("Conv" if plain else "MatMul", ["x", "weight"], ["y"], name="layer")
    nodes, last = [product], "y"
    if plain:
        attributes = {
            "kernel_shape": list(layer.kernel_size),
            "strides": list(layer.stride),
            "dilations": list(layer.dilation),
            "pads": list(layer.padding) * 2,
            "group": layer.groups,
        }
        for name, value in attributes.items():
            product.attribute.append(helper.make_attribute(name, value))
    if layer.bias is not None:
        constants.append(numpy_helper.from_array(layer.bias.detach().numpy(), "bias"))
        if plain:
            product.input.append("bias")
        else:
            nodes.append(helper.make_node("Add", ["y", "bias"], ["z"], name="bias"))
            last = "z"
    source = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(example.shape))
    result = helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None)
    layer_graph = helper.make_graph(nodes, "layer", [source], [result], constants)
    opset = helper.make_opsetid("", 20)
    return ir.from_proto(helper.make_model(layer_graph, opset_imports=[opset], ir_version=10))
