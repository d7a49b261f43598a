"""Lowering keeps the numbers of random graphs bit for bit, except biases, which move within a step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from converters.graph.lower import (
    absorb_activations,
    guard_float_layers,
    integer_biases,
    lower_for_onnxruntime,
    positive_axes,
    signed_activations,
    unsigned_activations,
)
from converters.graph.lower_tensorrt import lower_for_tensorrt
from converters.graph.qdq import constant, layers, quantizers, scale_of, zero_point_of
from converters.passes.quantize.budgets.restore import restore
from runtimes.machine.machine import Cpu

SHAPE = [1, 4, 6, 6]
FLOAT = TensorProto.FLOAT


class Chain:
    """A chain of quantized convolutions, each with an activation before the next quantizer."""

    def __init__(self, seed: int) -> None:
        """Everything is drawn from `seed`."""
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}
        self.value = "x"

    def _constant(self, name: str, array: Any) -> str:
        self.constants[name] = np.asarray(array)
        return name

    def quantize(self, kind: type[np.generic]) -> None:
        """A pair with a scale and a zero point that are drawn; of 8 bits."""
        number = len(self.nodes)
        limits = np.iinfo(kind)
        scale = self._constant(f"scale{number}", np.float32(self.rng.uniform(0.005, 0.05)))
        ends = [limits.min, limits.max, int(self.rng.integers(limits.min, limits.max))]
        zero = self._constant(f"zero{number}", np.array(self.rng.choice(ends), kind))
        for operator, name in (
            ("QuantizeLinear", f"q{number}"),
            ("DequantizeLinear", f"d{number}"),
        ):
            self.nodes.append(
                helper.make_node(
                    operator, [self.value, scale, zero], [name], name=f"{operator}{number}"
                )
            )
            self.value = name

    def convolve(self, quantized: bool = True) -> None:
        """A 3x3 convolution with a bias; its weights in int8 per channel, or float."""
        number = len(self.nodes)
        codes = self.rng.integers(-127, 128, (4, 4, 3, 3)).astype(np.int8)
        steps = self.rng.uniform(0.001, 0.01, 4).astype(np.float32)
        bias = self._constant(f"bias{number}", self.rng.normal(0, 0.1, 4).astype(np.float32))
        if quantized:
            weight = f"weight{number}"
            names = [
                self._constant(f"codes{number}", codes),
                self._constant(f"steps{number}", steps),
                self._constant(f"none{number}", np.zeros(4, np.int8)),
            ]
            axis = int(self.rng.choice([0, -4]))
            self.nodes.append(
                helper.make_node("DequantizeLinear", names, [weight], name=f"dw{number}", axis=axis)
            )
        else:
            weight = self._constant(f"weight{number}", codes * steps[:, None, None, None])
        name = f"conv{number}"
        node = helper.make_node(
            "Conv", [self.value, weight, bias], [name], name=name, pads=[1, 1, 1, 1]
        )
        self.nodes.append(node)
        self.value = name

    def activate(self, kind: str) -> None:
        """Add a Relu, or a Clip with bounds that saturation may or may not replace."""
        number = len(self.nodes)
        if kind == "none":
            return
        if kind == "Relu":
            self.nodes.append(
                helper.make_node("Relu", [self.value], [f"a{number}"], name=f"a{number}")
            )
        else:
            low = self._constant(f"low{number}", np.float32(self.rng.choice([0.0, -1.0])))
            high = self._constant(f"high{number}", np.float32(self.rng.choice([0.5, 6.0])))
            self.nodes.append(
                helper.make_node("Clip", [self.value, low, high], [f"a{number}"], name=f"a{number}")
            )
        self.value = f"a{number}"

    def model(self) -> onnx_ir.Model:
        """Return the model of the nodes so far."""
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info("x", FLOAT, SHAPE)],
            [helper.make_tensor_value_info(self.value, FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        return onnx_ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def run(
    model: onnx_ir.Model, x: np.ndarray[Any, Any], optimized: bool = False
) -> np.ndarray[Any, Any]:
    """Return the first output; without `optimized`, run operator by operator."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = onnx_ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    result: np.ndarray[Any, Any] = session.run(None, {session.get_inputs()[0].name: x})[0]
    return result


KINDS = st.lists(
    st.tuples(
        st.sampled_from([np.int8, np.uint8]),
        st.sampled_from(["Clip", "Relu", "none"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


def drawn(seed: int, layers: list[tuple[type[np.generic], str, bool]]) -> onnx_ir.Model:
    """Draw a chain of layers by kind: type of the input, activation, whether it is quantized."""
    chain = Chain(seed)
    for kind, activation, quantized in layers:
        chain.quantize(kind)
        chain.convolve(quantized)
        chain.activate(activation)
    chain.quantize(np.int8)
    return chain.model()


@given(st.integers(0, 2**32 - 1), KINDS)
def test_every_rewrite_but_that_of_biases_is_exact_to_the_bit(seed: int, kinds: list[Any]) -> None:
    model, x = (
        drawn(seed, kinds),
        np.random.default_rng(seed).normal(0, 2, SHAPE).astype(np.float32),
    )
    expected = run(model, x)
    recode = (unsigned_activations, signed_activations, unsigned_activations)
    for rewrite in (positive_axes, *recode, absorb_activations, guard_float_layers):
        rewrite(model)
        assert np.array_equal(run(model, x), expected), rewrite.__name__


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.int8, np.uint8]))
def test_an_integer_bias_moves_the_layer_s_output_by_less_than_a_step(
    seed: int, kind: type[np.generic]
) -> None:
    chain = Chain(seed)
    chain.quantize(kind)
    chain.convolve()
    model, x = chain.model(), np.random.default_rng(seed).normal(0, 2, SHAPE).astype(np.float32)
    expected = run(model, x)
    positive_axes(model)
    assert integer_biases(model) == 1
    steps = chain.constants["scale0"] * chain.constants["steps2"]
    moved = np.abs(run(model, x) - expected).max(axis=(0, 2, 3))
    assert (moved <= 0.5 * steps + 1e-5 * np.abs(expected).max()).all()


SIGNS: dict[Cpu, type[np.generic]] = {"x86": np.uint8, "arm": np.int8}


@pytest.mark.parametrize("cpu", SIGNS)
@given(seed=st.integers(0, 2**32 - 1), kinds=KINDS)
def test_all_rewrites_together_leave_a_graph_of_the_sign_that_the_cpu_wants(
    cpu: Cpu, seed: int, kinds: list[Any]
) -> None:
    model = drawn(seed, [(kind, activation, True) for kind, activation, _ in kinds])
    counts = lower_for_onnxruntime(model, cpu)
    assert counts["integer_biases"] == len(kinds)
    zeros = [zero_point_of(node).dtype for node in quantizers(model)]
    assert zeros == [SIGNS[cpu]] * (len(kinds) + 1)
    x = np.random.default_rng(seed).normal(0, 2, SHAPE).astype(np.float32)
    assert np.isfinite(run(model, x, optimized=True)).all()


@given(st.integers(0, 2**32 - 1), KINDS)
def test_both_cpus_get_the_same_numbers_to_the_bit(seed: int, kinds: list[Any]) -> None:
    x = np.random.default_rng(seed).normal(0, 2, SHAPE).astype(np.float32)
    mine, theirs = drawn(seed, kinds), drawn(seed, kinds)
    lower_for_onnxruntime(mine, "x86")
    lower_for_onnxruntime(theirs, "arm")
    assert np.array_equal(run(mine, x), run(theirs, x))


def test_a_zero_point_that_is_left_out_is_one_of_uint8() -> None:
    chain = Chain(0)
    chain.constants["step"] = np.float32(0.02)
    chain.nodes = [
        helper.make_node("QuantizeLinear", ["x", "step"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step"], ["d"]),
    ]
    chain.value = "d"
    model, x = chain.model(), np.random.default_rng(0).normal(0, 2, SHAPE).astype(np.float32)
    expected = run(model, x)
    assert signed_activations(model) == 1
    (node,) = quantizers(model)
    assert (zero_point_of(node).dtype, int(zero_point_of(node))) == (np.int8, -128)
    assert np.array_equal(run(model, x), expected)


@pytest.mark.parametrize(
    "reads", [["code"], ["code", "step", "other"]], ids=["a cast", "another zero point"]
)
def test_codes_that_others_read_as_they_are_keep_their_sign(reads: list[str]) -> None:
    chain = Chain(0)
    chain.constants |= {"step": np.float32(0.02), "zero": np.uint8(3), "other": np.uint8(4)}
    reader = "DequantizeLinear" if len(reads) > 1 else "Cast"
    chain.nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["code"]),
        helper.make_node(reader, reads, ["y"], **({} if len(reads) > 1 else {"to": FLOAT})),
    ]
    chain.value = "y"
    model, x = chain.model(), np.random.default_rng(0).normal(0, 2, SHAPE).astype(np.float32)
    expected = run(model, x)
    assert signed_activations(model) == 0
    assert np.array_equal(run(model, x), expected)


def optimized(model: onnx_ir.Model, path: Path, cpu: Cpu = "x86") -> list[str]:
    """The operators that ONNX Runtime makes of a graph, with the fusions of that CPU."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1" if cpu == "arm" else "0")
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(onnx_ir.to_proto(model).SerializeToString(), options)
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("cpu", SIGNS)
def test_onnx_runtime_computes_the_lowered_layers_with_integers(cpu: Cpu, tmp_path: Path) -> None:
    model = drawn(1, [(np.int8, "none", True), (np.uint8, "none", True)])
    lower_for_onnxruntime(model, cpu)
    operators = optimized(model, tmp_path / "optimized.onnx", cpu)
    assert operators.count("QLinearConv") == 2
    assert "Conv" not in operators


def test_onnx_runtime_does_not_quantize_the_weights_of_a_layer_that_stays_float(
    tmp_path: Path,
) -> None:
    """Behind a DequantizeLinear it would, per tensor and unasked."""
    model = drawn(
        1, [(np.uint8, "none", True), (np.uint8, "none", False), (np.uint8, "none", True)]
    )
    x = np.random.default_rng(1).normal(0, 2, SHAPE).astype(np.float32)
    lower_for_onnxruntime(model, "x86")
    operators = optimized(model, tmp_path / "optimized.onnx")
    assert (operators.count("QLinearConv"), operators.count("Conv")) == (2, 1)
    assert np.isfinite(run(model, x)).all()


@pytest.mark.parametrize(("high", "absorbed"), [(6.0, 1), (0.3, 0)])
def test_a_clip_goes_only_where_saturation_does_its_work(high: float, absorbed: int) -> None:
    chain = Chain(0)
    chain.constants |= {"low": np.float32(0), "high": np.float32(high), "step": np.float32(0.02)}
    chain.constants["zero"] = np.uint8(0)
    chain.nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["d"]),
    ]
    chain.value = "d"
    model, x = chain.model(), np.linspace(-1, 8, math.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    expected = run(model, x)
    assert absorb_activations(model) == absorbed, "at 0.02 the codes end at 5.1"
    assert np.array_equal(run(model, x), expected)


@given(st.integers(0, 2**32 - 1), KINDS)
def test_tensorrt_gets_symmetric_int8_that_holds_every_range(seed: int, kinds: list[Any]) -> None:
    model = drawn(seed, kinds)
    ranges = [ends(node) for node in quantizers(model)]
    integer_biases(model)  # as another quantizer may have written them
    lower_for_tensorrt(model)
    lowered = quantizers(model)
    assert all(
        zero_point_of(node).dtype == np.int8 and not zero_point_of(node).any() for node in lowered
    )
    for (low, high), node in zip(ranges, lowered, strict=True):
        widened = ends(node)
        assert widened[0] <= low + 1e-4 and widened[1] >= high - 1e-4
    assert not any(
        tensor.dtype == onnx_ir.DataType.INT32 for tensor in model.graph.initializers.values()
    )


def ends(node: onnx_ir.Node) -> tuple[float, float]:
    """Return the smallest and the largest number that a quantizer represents."""
    zero, scale = zero_point_of(node), scale_of(node)
    limits = np.iinfo(zero.dtype)
    return float((limits.min - float(zero)) * scale), float((limits.max - float(zero)) * scale)


def test_restored_layers_compute_as_before_quantization() -> None:
    quantized = drawn(3, [(np.uint8, "Relu", True), (np.uint8, "none", True)])
    chain = Chain(4)
    for _ in range(2):
        chain.convolve(False)
        chain.activate("Relu")
    original = chain.model()
    names = [layer.node.name for layer in layers(quantized)]
    renamed = [layer.node for layer in layers(original)]
    for node, name in zip(renamed, names, strict=True):
        node.name = name
    x = np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float32)
    restore(quantized, original, [str(name) for name in names])
    assert [layer.weight for layer in layers(quantized)] == [None, None]
    first, second = (layer.node for layer in layers(quantized))
    assert first.inputs[0] is quantized.graph.inputs[0], "between floats the pair goes"
    assert np.isfinite(run(quantized, x)).all()
    for mine, theirs in ((first, renamed[0]), (second, renamed[1])):
        assert np.array_equal(constant(mine.inputs[1]), constant(theirs.inputs[1]))
        assert np.array_equal(constant(mine.inputs[2]), constant(theirs.inputs[2]))
