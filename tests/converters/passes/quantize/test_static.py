"""Encoders keep their signal in int8, in each spelling of masks, LayerNorm and GELU."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir
import pytest
import torch
from torch import nn
from torch.nn import functional

from converters.graph.flow.attention import has_attention, weighted_sums
from converters.graph.qdq import layers
from converters.passes.quantize.estimators import sqnr_db
from converters.passes.quantize.static import Calibration, quantize_static
from converters.recipe.quantize import QuantizeOptions
from runtimes.spec import Arrays

Function = Callable[[torch.Tensor], torch.Tensor]
WIDTH, TOKENS = 32, 12


def plain_norm(x: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(x, (WIDTH,))


def norm_by_parts(x: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()


def norm_by_rsqrt(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5)


def gelu_by_erf(x: torch.Tensor) -> torch.Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_by_tanh(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_by_sigmoid(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x)


class Encoder(nn.Module):
    """An encoder of two layers over vectors; channels of its residual stream outlie, as trained ones do."""

    def __init__(self, masked: bool, norm: Function, gelu: Function) -> None:
        super().__init__()
        self.masked, self.norm, self.gelu = masked, norm, gelu
        self.enter = nn.Linear(WIDTH, WIDTH)
        sizes = {"parts": (WIDTH, 3 * WIDTH), "out": (WIDTH, WIDTH)}
        sizes |= {"up": (WIDTH, 4 * WIDTH), "down": (4 * WIDTH, WIDTH)}
        self.blocks = nn.ModuleList(
            nn.ModuleDict({name: nn.Linear(*size) for name, size in sizes.items()})
            for _ in range(2)
        )
        with torch.no_grad():
            self.enter.bias[::11] += 6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        keep = (x[..., 0] < 1)[:, None, None] if self.masked else None
        x = self.enter(x)
        for block in self.blocks:
            parts = block["parts"](self.norm(x)).view(-1, TOKENS, 3, 4, 8).permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], keep)
            x = x + block["out"](mixed.transpose(1, 2).flatten(2))
            x = x + block["down"](self.gelu(block["up"](self.norm(x))))
        return self.norm(x).mean(1)


FORMS: dict[str, tuple[bool, Function, Function]] = {
    "no mask": (False, plain_norm, functional.gelu),
    "masked": (True, plain_norm, functional.gelu),
    "norm by parts, gelu by erf": (True, norm_by_parts, gelu_by_erf),
    "norm by rsqrt, gelu by tanh": (True, norm_by_rsqrt, gelu_by_tanh),
    "gelu by sigmoid": (True, plain_norm, gelu_by_sigmoid),
}


def samples(seed: int) -> list[Arrays]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((1, TOKENS, WIDTH)).astype(np.float32)} for _ in range(16)]


@pytest.mark.parametrize("form", FORMS)
def test_an_encoder_keeps_its_signal(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path, target = tmp_path / "graph.onnx", tmp_path / "int8.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Encoder(*FORMS[form]).eval(),
            (torch.from_numpy(samples(0)[0]["x"]),),
            str(path),
            input_names=["x"],
            dynamo=True,
            verbose=False,
            opset_version=20,
            external_data=False,
        )
    model = onnx_ir.load(str(path))
    assert has_attention(model)
    sums = [str(node.name) for node in weighted_sums(model)]
    assert len(sums) == 2
    data = Calibration(samples(1), 16, transformer=True, weighted_sums=sums, smoothing=0.7)
    quantize_static(path, QuantizeOptions(calibrate="min-max"), data, target)
    quantized = {layer.node.name: layer.quantized for layer in layers(onnx_ir.load(str(target)))}
    weighted = [name for name, constant in with_weights(model).items() if constant]
    assert all(quantized[name] for name in weighted)
    assert not any(quantized[name] for name in sums)
    assert sqnr_db(model, target, samples(2)) >= 20


def with_weights(model: onnx_ir.Model) -> dict[str | None, bool]:
    """Return for each product by its name whether it has a weight."""
    products = [node for node in model.graph if node.op_type in ("MatMul", "Gemm")]
    return {node.name: node.inputs[1].is_initializer() for node in products if node.inputs[1]}
