"""Dead and constant channels: those that were put in are found, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.graph import taps
from converters.passes.quantize import channels as module
from converters.passes.quantize.channels import SAMPLES, channel_summary, silent_channels
from runtimes.spec import Arrays

FLOAT = TensorProto.FLOAT
RNG = np.random.default_rng(3)
Constants = dict[str, np.ndarray[Any, Any]]


def graph(
    nodes: Sequence[onnx.NodeProto], constants: Constants, shape: Sequence[Any], opset: int = 20
) -> onnx_ir.Model:
    """A model from `x` to the last node's output."""
    ends = [
        helper.make_tensor_value_info("x", FLOAT, shape),
        helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None),
    ]
    arrays = [
        numpy_helper.from_array(np.asarray(value, np.float32), name)
        for name, value in constants.items()
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "graph", ends[:1], ends[1:], arrays),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=9,
    )
    return onnx_ir.from_proto(onnx.shape_inference.infer_shapes(model, strict_mode=True))


def node(operator: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], name=f"make {output}", **attributes)


def noise(count: int, *shape: int) -> list[Arrays]:
    """Samples of a batch that is made of one, as calibration makes them."""
    samples = RNG.standard_normal((count, 1, *shape[1:])).astype(np.float32)
    return [{"x": np.repeat(sample, shape[0], 0)} for sample in samples]


def look(
    model: onnx_ir.Model, samples: list[Arrays], folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the dead and the constant channels by layer: how many of how many."""
    report = silent_channels(model, samples, len(samples), folder)
    assert list(folder.iterdir()) == [], "no file stays"
    for kind in ("dead", "constant"):
        most = report[kind]["most"]
        assert report[kind]["layers"] == len(most)
        assert report[kind]["channels"] == sum(entry["channels"] for entry in most.values())
    dead, constant = (
        {path: (entry["channels"], entry["of"]) for path, entry in report[kind]["most"].items()}
        for kind in report
    )
    return dead, constant


def conv_constants() -> Constants:
    """Of eight filters 1 and 6 are zeroed, with biases above and below 0; 3 never gets above 0."""
    weight, bias = RNG.standard_normal((8, 3, 3, 3)), np.zeros(8)
    weight[[1, 6]] = 0
    bias[1], bias[6], bias[3] = 0.5, -0.5, -1e3
    return {"w": weight, "b": bias}


@pytest.mark.parametrize("opset", [13, 17, 18, 20])
@pytest.mark.parametrize("activation", ["Relu", "Clip"])
def test_a_zeroed_filter_and_a_relu_that_never_opens(
    tmp_path: Path, opset: int, activation: str
) -> None:
    limits = {"zero": np.zeros(()), "six": np.full((), 6.0)}
    nodes = [
        node("Conv", "x w b", "c"),
        node(activation, "c" if activation == "Relu" else "c zero six", "y"),
    ]
    model = graph(nodes, conv_constants() | limits, ["batch", 3, 8, 8], opset)
    assert look(model, noise(10, 2, 3, 8, 8), tmp_path) == ({"make c": (2, 8)}, {"make c": (1, 8)})


def test_the_layer_is_named_as_its_author_knows_it(tmp_path: Path) -> None:
    model = graph(
        [node("Conv", "x w b", "c"), node("Relu", "c", "y")], conv_constants(), ["batch", 3, 8, 8]
    )
    model.graph[0].metadata_props["pkg.torch.onnx.name_scopes"] = "['', 'features.0', 'conv']"
    assert list(look(model, noise(10, 1, 3, 8, 8), tmp_path)[0]) == ["features.0"]


def test_without_an_activation_only_what_is_zeroed_is_silent(tmp_path: Path) -> None:
    model = graph([node("Conv", "x w b", "y")], conv_constants(), ["batch", 3, 8, 8])
    assert look(model, noise(10, 1, 3, 8, 8), tmp_path) == ({}, {"make y": (2, 8)})


def test_a_healthy_layer_is_not_named(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "y")]
    model = graph(nodes, {"w": RNG.standard_normal((8, 3, 3, 3))}, ["batch", 3, 8, 8])
    report = silent_channels(model, noise(40, 1, 3, 8, 8), 40, tmp_path)
    nothing = {"samples": SAMPLES, "layers": 0, "channels": 0, "most": {}}
    assert report == {"dead": nothing, "constant": nothing}
    assert channel_summary(report) is None


def test_a_relu_after_an_addition_and_one_after_a_normalization(tmp_path: Path) -> None:
    """The addition is of two layers: dead channels after it are reported for the activation."""
    norm = {"scale": np.ones(4), "shift": [0, 0, 0, -1e4], "mean": np.zeros(4), "var": np.ones(4)}
    nodes = [
        node("Conv", "x w", "c"),
        node("BatchNormalization", "c scale shift mean var", "n"),
        node("Relu", "n", "r"),
        node("Conv", "r v", "d"),
        node("Add", "d minus", "lowered"),
        node("Add", "lowered r", "sum"),
        node("Relu", "sum", "y"),
    ]
    wide = {"w": RNG.standard_normal((4, 3, 1, 1)), "v": RNG.standard_normal((4, 4, 1, 1))}
    minus = {"minus": np.array([0, -1e4, -1e4, 0]).reshape(1, 4, 1, 1)}
    model = graph(nodes, {**wide, **norm, **minus}, ["batch", 3, 8, 8])
    assert look(model, noise(10, 1, 3, 8, 8), tmp_path) == (
        {"make y": (2, 4), "make c": (1, 4)},
        {},
    )


@pytest.mark.parametrize("operator", ["MatMul", "Gemm", "turned Gemm"])
def test_the_channels_of_a_matrix_product_are_its_last_axis(tmp_path: Path, operator: str) -> None:
    weight, bias = RNG.standard_normal((6, 5)), np.zeros(5)
    weight[:, 2], weight[:, 4], bias[2] = 0, 0, 7
    flat = operator != "MatMul"
    if operator == "turned Gemm":
        weight = weight.T
    nodes = [
        node("Gemm", "x w b", "m", transB=int(operator == "turned Gemm"))
        if flat
        else node("MatMul", "x w", "p"),
        *([] if flat else [node("Add", "p b", "m")]),
        node("Relu", "m", "y"),
    ]
    shape = [1, 6] if flat else [2, 12, 6]
    model = graph(nodes, {"w": weight, "b": bias}, ["batch", *shape[1:]])
    name = "make m" if flat else "make p"
    assert look(model, noise(20, *shape), tmp_path) == ({name: (1, 5)}, {name: (1, 5)})


def test_what_is_0_on_few_values_is_not_called_dead(tmp_path: Path) -> None:
    """A class that is in no sample is not dead; one value per sample shows too little."""
    nodes = [node("Gemm", "x w b", "m"), node("Relu", "m", "y")]
    model = graph(nodes, {"w": RNG.standard_normal((6, 5)), "b": [0, -99, 0, 0, 0]}, ["batch", 6])
    assert look(model, noise(20, 4, 6), tmp_path) == ({}, {})


def test_one_sample_shows_nothing(tmp_path: Path) -> None:
    model = graph(
        [node("Conv", "x w b", "c"), node("Relu", "c", "y")], conv_constants(), ["batch", 3, 32, 32]
    )
    assert look(model, noise(1, 1, 3, 32, 32), tmp_path) == ({}, {})
    assert look(model, noise(2, 1, 3, 32, 32), tmp_path) == ({"make c": (2, 8)}, {"make c": (1, 8)})


def test_a_value_of_one_sample_of_all_is_enough_to_be_alive(tmp_path: Path) -> None:
    """Its extremes are those of all samples, not of the last."""
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "y")]
    model = graph(nodes, {"w": np.ones((1, 1, 1, 1))}, ["batch", 1, 30, 30])
    low = [{"x": np.full((1, 1, 30, 30), -1, np.float32)} for _ in range(8)]
    assert look(model, low, tmp_path) == ({"make c": (1, 1)}, {})
    low[3]["x"][0, 0, 5, 5] = 1
    assert look(model, low, tmp_path) == ({}, {})


def test_integers_and_products_without_weights_do_no_harm(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", "x x", "square"),
        node("Shape", "square", "shape"),
        node("Clip", "shape", "clipped"),
        node("Reshape", "square clipped", "y"),
    ]
    assert look(graph(nodes, {}, [3, 3]), noise(4, 3, 3), tmp_path) == ({}, {})


def test_an_activation_of_integers_is_none_of_a_layer(tmp_path: Path) -> None:
    nodes = [
        node("Cast", "x", "whole", to=TensorProto.INT64),
        node("Clip", "whole", "clipped"),
        node("Cast", "clipped", "y", to=FLOAT),
    ]
    assert look(graph(nodes, {}, [1, 3, 30, 30]), noise(4, 1, 3, 30, 30), tmp_path) == ({}, {})


def test_every_row_counts_where_rows_are_parts_of_one_sample(tmp_path: Path) -> None:
    """As in the windows of attention: the first of two rows is never active."""
    model = graph(
        [
            node("Concat", "x w", "both", axis=0),
            node("Conv", "both one", "c"),
            node("Relu", "c", "y"),
        ],
        {"w": np.full((1, 1, 30, 30), 1.0), "one": np.ones((1, 1, 1, 1))},
        [1, 1, 30, 30],
    )
    low = [{"x": np.full((1, 1, 30, 30), -1, np.float32)}] * 4
    assert look(model, low, tmp_path) == ({}, {})


def test_only_so_many_samples_are_looked_at_spread_over_all_and_one_by_one(tmp_path: Path) -> None:
    indices: list[int] = []

    class Counted:
        def __iter__(self) -> Iterator[Arrays]:
            for index in range(100):
                indices.append(index)
                yield {"x": np.full((1, 1, 4, 4), 1.0 if index == 99 else index % 3, np.float32)}

    model = graph([node("Conv", "x w", "y")], {"w": np.ones((1, 1, 1, 1))}, ["batch", 1, 4, 4])
    assert silent_channels(model, Counted(), 100, tmp_path)["dead"]["samples"] == SAMPLES
    assert indices == list(range(100)), "gone through once"
    picked = list(module._Spread(range(100), 100))  # type: ignore[arg-type]
    assert len(picked) == SAMPLES
    assert set(np.diff(picked)) == {3, 4}  # type: ignore[arg-type]
    assert len(list(module._Spread(range(7), 7))) == 7  # type: ignore[arg-type]


def test_a_large_graph_is_measured_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [
        node("Conv", "x w b", "c"),
        node("Relu", "c", "r"),
        node("Conv", "r v", "d"),
        node("Relu", "d", "y"),
    ]
    constants = conv_constants() | {"v": RNG.standard_normal((4, 8, 1, 1))}
    model, samples = graph(nodes, constants, ["batch", 3, 8, 8]), noise(10, 1, 3, 8, 8)
    whole = silent_channels(model, samples, 10, tmp_path)
    monkeypatch.setattr(taps, "TAPS", 1)
    assert silent_channels(model, samples, 10, tmp_path) == whole
    assert whole["dead"]["channels"] == 2


def test_the_manifest_names_the_layers_with_most(tmp_path: Path) -> None:
    """Layer k has k + 1 channels, and all are 0: the last ones have most."""
    nodes = [node("Conv", f"x w{k}", f"v{k}") for k in range(15)]
    nodes.append(node("Concat", " ".join(f"v{k}" for k in range(15)), "y", axis=1))
    model = graph(
        nodes, {f"w{k}": np.zeros((k + 1, 1, 1, 1)) for k in range(15)}, ["batch", 1, 2, 2]
    )
    report = silent_channels(model, noise(3, 1, 1, 2, 2), 3, tmp_path)["dead"]
    assert (report["layers"], report["channels"]) == (15, 120)
    assert report["most"] == {
        f"make v{k}": {"channels": k + 1, "of": k + 1} for k in range(14, 4, -1)
    }


def test_the_summary_is_one_sentence() -> None:
    most = {"a.1": {"channels": 37, "of": 1280}, "b": {"channels": 3, "of": 8}}
    dead = {"samples": 32, "layers": 2, "channels": 40, "most": most}
    constant = {"samples": 32, "layers": 1, "channels": 1, "most": {"c": {"channels": 1, "of": 6}}}
    assert channel_summary({"dead": dead, "constant": constant}) == (
        "37 of 1280 channels of a.1, and 3 of other layers, were dead (0 at every place) on all 32 "
        "samples looked at; 1 of 6 channels of c were constant on all 32 samples looked at: the "
        "model could be smaller, or the samples do not show all of its inputs"
    )
