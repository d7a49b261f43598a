"""What a recipe may say of pruning and recovery, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from converters.recipe.order import on_the_model, order_problem
from converters.recipe.passes import PassOptions
from converters.recipe.prune import PruneOptions


def passes(*found: dict[str, Any]) -> list[PassOptions]:
    return [PassOptions.model_validate(one) for one in found]


PRUNE, RECOVER, QUANTIZE = {"prune": {"structured": 0.5}}, {"recover": "logits"}, {"quantize": "int8"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "name one of structured, pattern, unstructured"),
        ({"structured": 0.5, "pattern": "2:4"}, "not structured and pattern"),
        ({"structured": 0}, "greater than 0"),
        ({"structured": 1}, "less than 1"),
        ({"unstructured": 1.5}, "less than 1"),
        ({"pattern": "1:4"}, "'2:4'"),
        ({"pattern": "2:4", "round_to": 8}, "round_to is for `structured`, not for `pattern`"),
        ({"structured": 0.5, "engine": "onnx"}, "engine is where `of: latency` measures"),
        ({"structured": 0.5, "most": 1}, "less than 1"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        PruneOptions.model_validate(given)


@pytest.mark.parametrize(
    "order",
    [
        (PRUNE,),
        (PRUNE, RECOVER),
        (PRUNE, RECOVER, QUANTIZE),
        (PRUNE, RECOVER, PRUNE, RECOVER, QUANTIZE),
        (RECOVER, QUANTIZE),
        (PRUNE, {"recover": {"aware": True}}, QUANTIZE),
        (PRUNE, {"recover": {"iterative": 3}}),
    ],
)
def test_legal_orders(order: tuple[dict[str, Any], ...]) -> None:
    assert order_problem(passes(*order)) is None


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ((QUANTIZE, PRUNE), "prune cannot follow quantize: the legal order is prune -> recover -> quantize"),
        ((QUANTIZE, RECOVER), "recover cannot follow quantize"),
        ((QUANTIZE, QUANTIZE), "quantize cannot follow quantize"),
        (({"recover": {"aware": True}},), "add `- quantize: int8` behind it"),
        (({"recover": {"iterative": 2}},), "`iterative` alternates with a prune"),
        (({"prune": {"pattern": "2:4"}}, {"recover": {"iterative": 2}}), "`iterative` alternates with a prune"),
        ((PRUNE, {"recover": {"iterative": 3, "epochs": 2}}), "2 epochs are too few for 3 turns"),
        (({"prune": {"pattern": "2:4"}}, {"recover": {}}, PRUNE), "`structured` cannot follow `pattern`"),
        (({"recover": {"aware": True}}, {"quantize": "int4"}), "`aware` rounds to int8, not to int4"),
    ],
)
def test_illegal_orders_name_the_legal_one(order: tuple[dict[str, Any], ...], words: str) -> None:
    assert words in str(order_problem(passes(*order)))


def test_a_pattern_needs_no_quotes() -> None:
    assert PruneOptions.model_validate(yaml.safe_load("pattern: 2:4")).pattern == "2:4"


def test_prune_and_recover_in_turns_remove_as_much_together() -> None:
    iterative = {"recover": {"iterative": 3, "epochs": 9, "minutes": 6}}
    turns = on_the_model(passes(PRUNE, iterative, QUANTIZE))
    assert [one.name for one in turns] == ["prune", "recover"] * 3
    left = 1.0
    for one in turns[::2]:
        assert one.prune is not None
        left *= 1 - (one.prune.structured or 0)
    assert left == pytest.approx(0.5)
    lesson = turns[1].recover
    assert lesson is not None
    assert (lesson.epochs, lesson.minutes, lesson.iterative) == (3, 2, 1)
    zeros = on_the_model(passes({"prune": {"unstructured": 0.8}}, iterative))
    shares = [one.prune.unstructured or 0 for one in zeros[::2] if one.prune]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(0.8)
