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
def told(write: Write) -> Callable[[str], list[str]]:
    """What is wrong with a recipe by its own schema, without the path of the file."""

    def told(text: str) -> list[str]:
        document = read(write(text))
        model, problems = explain(Recipe, document.data, document, ())
        assert (model is None) == bool(problems)
        return [str(problem).removeprefix(str(document.path)) for problem in problems]

    return told


Told = Callable[[str], list[str]]


def test_a_good_recipe_has_no_problems(told: Told) -> None:
    assert told(VALID) == []


def test_an_unknown_key_names_the_nearest(told: Told) -> None:
    assert told(VALID + "artifact: {}\n") == [
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
    told: Told, text: str, expected: str
) -> None:
    assert expected in told(VALID + text)


def test_a_key_that_is_missing(told: Told) -> None:
    assert told("model: torchvision:resnet18\n") == [
        ":1: the key `inputs` is missing",
        ":1: the key `artifacts` is missing",
    ]
    assert told(VALID + "dims:\n  batch: {min: 1}\n") == [
        ":6: dims.batch: the key `max` is missing"
    ]


def test_a_wrong_value_is_shown(told: Told) -> None:
    assert told(VALID + "seed: -4\n") == [":5: seed: must be greater than or equal to 0, not -4"]
    assert told(VALID + "devices: [cpu, gpu]\n") == [
        ":5: devices[1]: must be 'cpu', 'cuda', 'intel-gpu' or 'intel-npu', not 'gpu'"
    ]


def test_a_rule_over_several_values_says_both(told: Told) -> None:
    assert told(VALID + "dims:\n  batch: {min: 8, opt: 4, max: 16}\n") == [
        ":6: dims.batch: sizes must rise: min 8 <= opt 4 <= max 16 does not hold"
    ]


def test_one_place_is_told_of_once_although_a_union_fails_in_every_branch(told: Told) -> None:
    assert len(told(VALID.replace("[1, 3, 8, 8]", "[1, 3.5, 8, 8]"))) == 1
    assert len(told(VALID + "classes: {a: 1}\n")) == 1


def test_lines_of_a_list_item(told: Told) -> None:
    (problem,) = told(VALID.replace("{shape: [1, 3, 8, 8]}", "\n    shape:\n    - 1\n    - [2]"))
    assert problem.startswith(":6: inputs.image.shape[1]: ")
