"""Precisions of executed layers, and of the products inside of a fused chain."""

from __future__ import annotations

import numpy as np
import openvino
import pytest
from openvino import opset13

from runtimes.engines.openvino.layers import chain_precision, count_layers
from runtimes.engines.openvino.openvino import lacking


def chain() -> openvino.Model:
    """Three products in a row, which one thread computes as one layer at a batch of 1."""
    rng = np.random.default_rng(0)
    x = opset13.parameter([1, 12], np.float32, name="x")
    value = x
    for inner, outer in ((12, 64), (64, 64), (64, 1)):
        weight = rng.standard_normal((inner, outer)).astype(np.float32)
        bias = rng.standard_normal((1, outer)).astype(np.float32)
        value = opset13.relu(opset13.add(opset13.matmul(value, weight, False, False), bias))
    return openvino.Model([value], [x], "chain")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("hint", "precision"), [("f32", "fp32"), ("bf16", "bf16")])
def test_a_chain_has_the_precision_that_it_is_compiled_for(
    hint: str, precision: str, threads: int
) -> None:
    if problem := lacking(precision):
        pytest.skip(problem)
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    network = chain()
    compiled = openvino.Core().compile_model(network, "CPU", settings)
    assert count_layers(compiled, network)["compute_layers"] == {precision: 3}


@pytest.mark.parametrize(
    ("executed", "hint", "precision"),
    [
        ("f32", "f32", "fp32"),
        ("f32", "bf16", "bf16"),
        ("f32", "f16", "fp16"),
        ("bf16", "bf16", "bf16"),
        ("u8", "bf16", "int8"),
        ("f64", "f32", "fp64"),
        ("u4", "f32", "u4"),
    ],
)
def test_a_float32_result_of_a_chain_does_not_hide_the_hint(
    executed: str, hint: str, precision: str
) -> None:
    assert chain_precision(executed, hint) == precision
