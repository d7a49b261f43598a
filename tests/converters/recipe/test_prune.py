"""The options of pruning and recovery, and the order of passes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from converters.recipe.order import model_passes, order_problem
from converters.recipe.passes import PassOptions
from converters.recipe.prune import PruneOptions


def passes(*options: dict[str, Any]) -> list[PassOptions]:
    return [PassOptions.model_validate(option) for option in options]


PRUNE, RECOVER, QUANTIZE = (
    {"prune": {"structured": 0.5}},
    {"recover": "logits"},
    {"quantize": "int8"},
)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "name one of structured, pattern, unstructured"),
        ({"structured": 0.5, "pattern": "2:4"}, "not structured and pattern"),
        ({"structured": 0}, "greater than 0"),
        ({"structured": 1}, "less than 1"),
        ({"unstructured": 1.5}, "less than 1"),
        ({"pattern": "1:4"}, "'2:4'"),
        ({"pattern": "2:4", "round_to": 8}, "round_to: only for `structured`, not for `pattern`"),
        ({"structured": 0.5, "engine": "onnx"}, "engine: only for `of: latency`"),
        ({"structured": 0.5, "most": 1}, "less than 1"),
    ],
)
def test_contradictory_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        PruneOptions.model_validate(options)


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
        (
            (QUANTIZE, PRUNE),
            "prune cannot follow quantize: the legal order is prune -> recover -> quantize",
        ),
        ((QUANTIZE, RECOVER), "recover cannot follow quantize"),
        ((QUANTIZE, QUANTIZE), "quantize cannot follow quantize"),
        (({"recover": {"aware": True}},), "add `- quantize: int8` after it"),
        (({"recover": {"iterative": 2}},), "`iterative` needs a prune"),
        (
            ({"prune": {"pattern": "2:4"}}, {"recover": {"iterative": 2}}),
            "`iterative` needs a prune",
        ),
        (
            (PRUNE, {"recover": {"iterative": 3, "epochs": 2}}),
            "2 epochs are too few for `iterative: 3`",
        ),
        (
            ({"prune": {"pattern": "2:4"}}, {"recover": {}}, PRUNE),
            "`structured` cannot follow `pattern`",
        ),
        (
            ({"recover": {"aware": True}}, {"quantize": "int4"}),
            "`aware` trains for int8, not for int4",
        ),
    ],
)
def test_illegal_orders_name_the_legal_one(order: tuple[dict[str, Any], ...], words: str) -> None:
    assert words in str(order_problem(passes(*order)))


def test_a_pattern_needs_no_quotes() -> None:
    assert PruneOptions.model_validate(yaml.safe_load("pattern: 2:4")).pattern == "2:4"


def test_rounds_of_prune_and_recover_remove_as_much_together() -> None:
    iterative = {"recover": {"iterative": 3, "epochs": 9, "minutes": 6}}
    rounds = model_passes(passes(PRUNE, iterative, QUANTIZE))
    assert [options.name for options in rounds] == ["prune", "recover"] * 3
    remaining = 1.0
    for options in rounds[::2]:
        assert options.prune is not None
        remaining *= 1 - (options.prune.structured or 0)
    assert remaining == pytest.approx(0.5)
    recover = rounds[1].recover
    assert recover is not None
    assert (recover.epochs, recover.minutes, recover.iterative) == (3, 2, 1)
    unstructured = model_passes(passes({"prune": {"unstructured": 0.8}}, iterative))
    shares = [options.prune.unstructured or 0 for options in unstructured[::2] if options.prune]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(0.8)
