"""No wrong artifact passes, no right one fails: every case gets the verdict that it deserves."""

from __future__ import annotations

import pytest

from tests.adversary.cases import conduct, finite, order, parts, rounding, sizes, values
from tests.adversary.harness import Case, failures

MODULES = (sizes, values, finite, conduct, order, parts, rounding)
CASES: list[Case] = [case for module in MODULES for case in module.CASES]


def _parameter(case: Case) -> object:
    marks = [pytest.mark.xfail(strict=True, reason=case.limit)] if case.limit else []
    return pytest.param(case, id=f"{case.subject}, {case.precision}: {case.id}", marks=marks)


@pytest.mark.parametrize("case", [_parameter(case) for case in CASES])
def test_a_verdict_is_right(case: Case) -> None:
    failed = failures(case)
    details = "; ".join(f"{result.gate}: {result.detail}" for result in failed)
    if case.gate is None:
        assert not failed, details
    else:
        assert case.gate in [result.gate for result in failed], details or "passed"


def test_the_table_is_long_enough() -> None:
    assert len(CASES) >= 120
    assert len({(case.subject, case.id, case.precision) for case in CASES}) == len(CASES)
