"""Matching calls with nodes, on hand-made graphs."""

from __future__ import annotations

from typing import Any

from converters.debug.match.align import align
from converters.debug.match.graph import Graph, Node, dependencies
from converters.debug.match.kinds import kind_of_operator, replaces
from converters.debug.match.layer import LayerCall, Unmatched

S = (2, 4)


def _call(
    path: str, kind: str = "", index: int = 0, shape: Any = S, source: Any = None, leaf: bool = True
) -> LayerCall:
    return LayerCall((path, index), kind, shape, source, leaf)


def _node(
    op: str, reads: str, makes: str, path: str | None = None, shape: Any = S, origin: str = ""
) -> Node:
    return Node(f"n_{makes}", op, tuple(reads.split()), (makes,), makes, shape, path, origin)


def _names(calls: list[LayerCall], *nodes: Node) -> dict[str, list[str]]:
    layers, _ = align(calls, Graph(nodes, []))
    return {layer.name: [nodes[index].value for index in layer.nodes] for layer in layers}


def test_kinds_are_one_vocabulary() -> None:
    same = [
        ("aten::conv2d", "Conv"),
        ("aten::relu_", "Relu"),
        ("aten::batch_norm", "BatchNormalization"),
    ]
    same += [("aten::hardtanh_", "Clip"), ("aten::addmm", "Gemm"), ("aten::_convolution", "Conv")]
    same += [("aten::max_pool2d", "MaxPool"), ("aten::layer_norm", "LayerNormalization")]
    for aten, onnx in same:
        assert kind_of_operator(aten) == kind_of_operator(onnx)
    assert (
        replaces("relu", "relu")
        > replaces("relu6", "relu")
        > 0
        == replaces("conv", "relu")
        == replaces("", "")
    )


def test_the_path_on_a_node_comes_first() -> None:
    nodes = _node("Relu", "x", "a", "second"), _node("Relu", "a", "b", "first")
    assert _names([_call("first", "relu"), _call("second", "relu")], *nodes) == {
        "second": ["a"],
        "first": ["b"],
    }


def test_a_module_of_several_nodes_has_several_candidates() -> None:
    nodes = [_node("Mul", "x", f"v{number}", "act") for number in range(6)]
    assert _names([_call("act")], *nodes) == {"act": ["v2", "v3", "v4", "v5"]}


def test_only_values_of_the_right_shape_are_candidates() -> None:
    nodes = _node("MatMul", "x", "a", "m"), _node("Transpose", "a", "b", "m", (4, 2))
    assert _names([_call("m")], *nodes) == {"m": ["a"]}
    _, missing = align([_call("m", shape=(9,))], Graph(nodes, []))
    assert missing == [Unmatched("m", "n_b makes [4, 2], the module [9]")]


def test_calls_of_one_module_are_runs_of_its_nodes() -> None:
    nodes = (
        _node("Relu", "x", "a", "relu"),
        _node("Conv", "a", "b", "conv"),
        _node("Relu", "b", "c", "relu"),
    )
    calls = [_call("relu", "relu"), _call("conv", "conv"), _call("relu", "relu", 1)]
    assert _names(calls, *nodes) == {
        "relu (call 1 of 2)": ["a"],
        "conv": ["b"],
        "relu (call 2 of 2)": ["c"],
    }


def test_calls_right_behind_each_other_are_told_apart_by_operation() -> None:
    nodes = (
        _node("Relu", "x", "a", "relu", origin="relu"),
        _node("Relu", "a", "b", "relu", origin="relu_1"),
    )
    calls = [_call("relu", "relu"), _call("relu", "relu", 1)]
    assert _names(calls, *nodes) == {"relu (call 1 of 2)": ["a"], "relu (call 2 of 2)": ["b"]}


def test_runs_that_do_not_fit_are_not_guessed() -> None:
    layers, missing = align(
        [_call("relu", "relu"), _call("relu", "relu", 1)],
        Graph([_node("Relu", "x", "a", "relu"), _node("Relu", "a", "b")], []),
    )
    assert layers == []
    assert {call.why for call in missing} == {"the module ran 2 times, its nodes form 1 runs"}


def test_without_paths_order_kind_and_shape_decide() -> None:
    nodes = (
        _node("aten::conv2d", "x", "a"),
        _node("aten::add", "a", "noise"),
        _node("aten::conv2d", "noise", "b", shape=(2, 8)),
        _node("aten::relu_", "b", "c", shape=(2, 8)),
    )
    calls = [
        _call("one", "conv"),
        _call("two", "conv", shape=(2, 8)),
        _call("act", "relu6", shape=(2, 8)),
    ]
    assert _names(calls, *nodes) == {"one": ["a"], "two": ["b"], "act": ["c"]}


def test_the_same_kind_wins_over_another_activation() -> None:
    nodes = _node("aten::relu", "x", "a"), _node("aten::gelu", "a", "b")
    assert _names([_call("act", "gelu")], *nodes) == {"act": ["b"]}


def test_a_call_of_no_known_kind_is_looked_for_between_its_neighbours() -> None:
    nodes = (
        _node("aten::add", "x", "before"),
        _node("aten::linear", "before", "a"),
        _node("aten::mul", "a", "b"),
        _node("aten::mul", "b", "wide", shape=(2, 8)),
        _node("aten::linear", "wide", "c"),
        _node("aten::add", "c x", "after"),
    )
    calls = [_call("one", "linear"), _call("custom"), _call("two", "linear")]
    assert _names(calls, *nodes) == {"one": ["a"], "custom": ["b"], "two": ["c"]}


def test_batch_norm_folded_into_a_convolution() -> None:
    calls = [
        _call("conv", "conv"),
        _call("bn", "batchnorm", source=("conv", 0)),
        _call("act", "relu"),
    ]
    both = {"conv + bn": ["a"], "act": ["b"]}
    assert _names(calls, _node("aten::conv2d", "x", "a"), _node("aten::relu", "a", "b")) == both
    assert _names(calls, _node("Conv", "x", "a", "bn"), _node("Relu", "a", "b", "act")) == both


def test_what_is_folded_is_not_looked_for_elsewhere() -> None:
    calls = [_call("conv", "conv"), _call("bn", "batchnorm", source=("conv", 0))]
    nodes = _node("Split", "x", "half"), _node("Conv", "half", "a", "bn")
    assert _names(calls, *nodes) == {"conv + bn": ["a"]}


def test_batch_norm_of_its_own_stays_so() -> None:
    calls = [_call("conv", "conv"), _call("bn", "batchnorm", source=("conv", 0))]
    nodes = _node("aten::conv2d", "x", "a"), _node("aten::batch_norm", "a", "b")
    assert _names(calls, *nodes) == {"conv": ["a"], "bn": ["b"]}
    wide = _node(
        "aten::batch_norm", "a", "b", shape=(9, 9)
    )  # cannot be the call's, yet the conv is no BatchNorm
    assert _names(calls, nodes[0], wide) == {"conv": ["a"]}


def test_a_matrix_product_and_its_bias_are_one_layer() -> None:
    nodes = _node("MatMul", "x", "a"), _node("Add", "a", "b"), _node("Add", "b x", "c")
    assert _names([_call("fc", "linear")], *nodes[:2]) == {"fc": ["a", "b"]}
    assert _names([_call("fc", "linear")], nodes[0], _node("Add", "a x", "c")) == {"fc": ["a"]}


def test_what_a_layer_is_made_of() -> None:
    nodes = (
        _node("Conv", "x", "a"),
        _node("Conv", "a", "b"),
        _node("Add", "a b", "c"),
        _node("Relu", "c", "d"),
        _node("Softmax", "d", "out"),
    )
    parts = dependencies(Graph(nodes, ["out"]), [["a"], ["b"], ["d"], ["out"]], outputs=1)
    assert [set(part.layers) for part in parts] == [set(), {0}, {0, 1}, {2}]
    assert parts[2].through == (2, 3) and parts[3].through == (4,)


def test_an_output_that_is_a_layers_value_depends_on_that_layer() -> None:
    graph = Graph([_node("Conv", "x", "a")], ["a"])
    assert dependencies(graph, [["a"], ["a"]], outputs=1)[1].layers == {0}
