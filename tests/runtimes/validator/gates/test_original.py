"""A pruned model that is no classifier keeps near the model before."""

from __future__ import annotations

import numpy as np
import pytest

from runtimes.artifact.gates import Gates
from runtimes.spec import Arrays, TensorSpec
from runtimes.validator.judge import Answers, judge
from runtimes.validator.probes import Probe, ProbeKind
from runtimes.validator.reference import Reference
from tests.runtimes.validator.gates.manifests import manifest_of

SPEC = TensorSpec(shape=(1, 6))


def details(
    error: float, kind: ProbeKind = "data", task: str | None = None, **limits: object
) -> dict[str, bool | None]:
    """Results about the distance of a model that passes moved by a relative error."""
    rng = np.random.default_rng(0)
    before = [300 + rng.standard_normal((1, 6)) for _ in range(24)]
    after = [values + error * rng.standard_normal((1, 6)) for values in before]
    probes = [Probe(f"s {n}", {"x": v.astype(np.float32)}, kind) for n, v in enumerate(before)]
    eager: list[Arrays] = [{"y": values.astype(np.float32)} for values in after]
    original: list[Arrays] = [{"y": values.astype(np.float32)} for values in before]
    reference = Reference(probes, eager, [{"y": values} for values in after], original=original)
    manifest = manifest_of({"x": SPEC}, {"y": SPEC}).model_copy(update={"task": task})
    _, results = judge(manifest, Gates.model_validate(limits), reference, Answers(eager))
    return {r.detail: r.ok for r in results if "the model before its passes" in r.detail}


@pytest.mark.parametrize(("error", "holds"), [(0.1, True), (0.25, True), (0.5, False), (2, False)])
def test_what_varies_is_compared_whatever_the_offset(error: float, holds: bool) -> None:
    assert list(details(error).values()) == [holds]


def test_a_classifier_is_judged_by_its_classes() -> None:
    assert not any("SQNR" in detail for detail in details(2, task="classification"))


def test_the_recipe_sets_another_limit_or_none() -> None:
    assert list(details(0.5, original_sqnr_db=3).values()) == [True]
    assert list(details(0.25, original_sqnr_db=20).values()) == [False]
    assert details(2, original_sqnr_db=None) == {}


def test_noise_says_nothing_by_default_and_fails_a_limit() -> None:
    assert list(details(2, "noise").values()) == [None]
    assert list(details(0.1, "noise", original_sqnr_db=3).values()) == [False]
