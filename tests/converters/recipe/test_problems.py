"""pydantic's errors in a recipe's own words: file, line, key, and the word that was meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from converters.recipe.document import read
from converters.recipe.problems import explain
from converters.recipe.schema import Recipe

Write = Callable[..., Path]

VALID = (
    "model: torchvision:resnet18\ninputs:\n  image: {shape: [1, 3, 8, 8]}\nartifacts: {onnx: {}}\n"
)


@pytest.fixture
def problems_of(write: Write) -> Callable[[str], list[str]]:
    """The problems of a recipe by its own schema, without the path of the file."""

    def problems_of(text: str) -> list[str]:
        document = read(write(text))
        model, problems = explain(Recipe, document.data, document, ())
        assert (model is None) == bool(problems)
        return [str(problem).removeprefix(str(document.path)) for problem in problems]

    return problems_of


ProblemsOf = Callable[[str], list[str]]


def test_a_good_recipe_has_no_problems(problems_of: ProblemsOf) -> None:
    assert problems_of(VALID) == []


def test_an_unknown_key_names_the_nearest(problems_of: ProblemsOf) -> None:
    assert problems_of(VALID + "artifact: {}\n") == [
        ":5: unknown key `artifact`; did you mean 'artifacts'?"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "preprocess: {resise: 256}\n",
            ":5: preprocess: unknown key `resise`; did you mean 'resize'?",
        ),
        (
            "data: {evaluation: {image: x}}\n",
            ":5: data.evaluation: unknown key `image`; did you mean 'images'?",
        ),
        (
            "dims:\n  batch: {max: 4, minn: 1}\n",
            ":6: dims.batch: unknown key `minn`; did you mean 'min'?",
        ),
        ("gates: {sped: 1}\n", ":5: gates: unknown key `sped`; did you mean 'speedup'?"),
    ],
)
def test_an_unknown_key_deep_in_the_recipe_names_the_nearest_there(
    problems_of: ProblemsOf, text: str, expected: str
) -> None:
    assert expected in problems_of(VALID + text)


def test_a_key_that_is_missing(problems_of: ProblemsOf) -> None:
    assert problems_of("model: torchvision:resnet18\n") == [
        ":1: the key `inputs` is missing",
        ":1: the key `artifacts` is missing",
    ]
    assert problems_of(VALID + "dims:\n  batch: {min: 1}\n") == [
        ":6: dims.batch: the key `max` is missing"
    ]


def test_a_wrong_value_is_shown(problems_of: ProblemsOf) -> None:
    assert problems_of(VALID + "seed: -4\n") == [
        ":5: seed: must be greater than or equal to 0, not -4"
    ]
    assert problems_of(VALID + "devices: [cpu, gpu]\n") == [
        ":5: devices[1]: must be 'cpu', 'cuda', 'intel-gpu' or 'intel-npu', not 'gpu'"
    ]


def test_a_rule_over_several_values_says_both(problems_of: ProblemsOf) -> None:
    assert problems_of(VALID + "dims:\n  batch: {min: 8, opt: 4, max: 16}\n") == [
        ":6: dims.batch: sizes must rise: min 8 <= opt 4 <= max 16 does not hold"
    ]


def test_a_value_is_reported_once_although_a_union_fails_in_every_branch(
    problems_of: ProblemsOf,
) -> None:
    assert len(problems_of(VALID.replace("[1, 3, 8, 8]", "[1, 3.5, 8, 8]"))) == 1
    assert len(problems_of(VALID + "classes: {a: 1}\n")) == 1


def test_lines_of_a_list_item(problems_of: ProblemsOf) -> None:
    (problem,) = problems_of(
        VALID.replace("{shape: [1, 3, 8, 8]}", "\n    shape:\n    - 1\n    - [2]")
    )
    assert problem.startswith(":6: inputs.image.shape[1]: ")
