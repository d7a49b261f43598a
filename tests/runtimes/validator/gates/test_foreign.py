"""Gates of a foreign artifact: stricter than the default ones they count, else they do not."""

from __future__ import annotations

import pytest

from runtimes.artifact.gates import Gates
from runtimes.spec import TensorSpec
from runtimes.validator.gates.foreign import strict_gates
from tests.runtimes.validator.gates.manifests import manifest_of

X = {"x": TensorSpec(shape=(1,))}


def strict(precision: str = "int8", **limits: object) -> Gates:
    gates = Gates.model_validate(limits)
    return strict_gates(manifest_of(X, X, precision=precision).model_copy(update={"gates": gates}))


@pytest.mark.parametrize(
    "lenient",
    [
        {"noise": 1e9},
        {"sqnr_db": -10},
        {"speedup": None},
        {"speedup": 0.1},
        {"parent_speedup": None},
        {"parent_size": None},
        {"parent_size": 9.0},
        {"top1_agreement": 0},
        {"original_sqnr_db": 0},
        {"outputs": {"x": {"ignore": True}}},
        {"outputs": {"x": {"noise": 1e9}}},
    ],
)
def test_what_asks_for_less_does_not_count(lenient: dict[str, object]) -> None:
    assert strict(**lenient) == Gates()
    assert not strict(**lenient).model_fields_set, "an undecided default fails nothing"


@pytest.mark.parametrize(
    "more",
    [
        {"noise": 2.0},
        {"sqnr_db": 30},
        {"speedup": 3.0},
        {"parent_size": 0.5},
        {"deadline_ms": 5},
        {"max_abs": 1e-6},
        {"top1_agreement": 0.99},
        {"accuracy_drop": 0.01},
    ],
)
def test_what_asks_for_more_counts(more: dict[str, object]) -> None:
    [(name, limit)] = more.items()
    assert getattr(strict(**more), name) == limit
