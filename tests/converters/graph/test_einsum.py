"""Einsum equations in lower case, without spaces, and still the same equations."""

from __future__ import annotations

import numpy as np
import onnx_ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.graph.einsum import plain_einsums, plain_equation


@pytest.mark.parametrize(
    ("equation", "plain"),
    [
        ("B H I D, B H J D -> B H I J", "abcd,abed->abce"),  # torchvision's maxvit_t
        ("bhid,bhjd->bhij", "abcd,abed->abce"),
        ("...ij,...jk->...ik", "...ab,...bc->...ac"),
        ("ii", "aa"),
        ("aA->Aa", "ab->ba"),
    ],
)
def test_labels_are_renamed_in_order_of_appearance(equation: str, plain: str) -> None:
    assert plain_equation(equation) == plain


def test_more_labels_than_letters_stay_as_they_are() -> None:
    equation = "abcdefghijklmnopqrstuvwxyzA->A"
    assert plain_equation(equation) == equation


labels = st.sampled_from("abcXYZijKL")


@st.composite
def equations(draw: st.DrawFn) -> str:
    terms = draw(st.lists(st.lists(labels, min_size=1, max_size=3, unique=True), min_size=1, max_size=3))
    used = sorted(set().union(*terms))
    output = draw(st.lists(st.sampled_from(used), max_size=3, unique=True))
    space = draw(st.sampled_from(["", " "]))
    return space.join([f"{space},{space}".join(space.join(term) for term in terms), "->", space.join(output)])


@given(equations())
def test_the_plain_equation_computes_the_same(equation: str) -> None:
    plain = plain_equation(equation)
    assert not {letter for letter in plain if letter.isupper() or letter.isspace()}
    assert plain_equation(plain) == plain
    rng, sizes = np.random.default_rng(0), {}
    arrays = []
    for term in equation.replace(" ", "").split("->")[0].split(","):
        arrays.append(rng.integers(0, 9, [sizes.setdefault(label, len(sizes) % 3 + 1) for label in term]))
    assert np.array_equal(np.einsum(equation.replace(" ", ""), *arrays), np.einsum(plain, *arrays))


def test_only_equations_that_change_are_counted() -> None:
    x = onnx_ir.Value(name="x")
    nodes = [onnx_ir.node("Einsum", [x, x], {"equation": text}) for text in ("I J, J K -> I K", "ab,bc->ac")]
    nodes.append(onnx_ir.node("Relu", [x]))
    graph = onnx_ir.Graph([x], [nodes[-1].outputs[0]], nodes=nodes, opset_imports={"": 20})
    assert plain_einsums(onnx_ir.Model(graph, ir_version=10)) == 1
    assert [node.attributes["equation"].as_string() for node in nodes[:2]] == ["ab,bc->ac"] * 2
