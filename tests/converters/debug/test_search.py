"""The search on graphs without any model: chains and branches with a fault at a known place."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from converters.debug.judge import Limit, Measure
from converters.debug.search import FULL_RUNS, Search

COUNT = 200
LIMIT = Limit(noise=16, sqnr_db=None)


class Chain:
    """A chain of `COUNT` layers of `size` bytes to an output; from `fault` on the error is large."""

    def __init__(self, fault: int, size: int = 10) -> None:
        self.fault, self.size, self.largest = fault, size, 0
        self.measured: list[int] = []

    def measure(self, layers: Sequence[int]) -> dict[int, Measure]:
        self.largest = max(self.largest, len(layers) * self.size)
        self.measured += layers
        return {layer: self._error(layer) for layer in layers}

    def _error(self, layer: int) -> Measure:
        error = (1e-2 if layer >= self.fault else 1e-7) * 1.01**layer
        return Measure(
            error, 0.0, error / 1e-7, "float32", 0, error if layer == self.fault else error / 10
        )

    def search(self, budget: int) -> Search:
        parents = [[layer - 1] if layer else [] for layer in range(COUNT)]
        search = Search([self.size] * COUNT, parents, [COUNT - 1], self.measure, LIMIT, budget)
        search.run(top=1)
        return search


@pytest.mark.parametrize("fault", [0, 1, 57, 100, COUNT - 2, COUNT - 1])
@pytest.mark.parametrize("budget", [10, 35, 200, 10**6])
def test_finds_the_layer_within_the_budget(fault: int, budget: int) -> None:
    chain = Chain(fault)
    search = chain.search(budget)
    assert search.verdict().first == fault
    assert fault in search.measures and (fault == 0 or fault - 1 in search.measures)
    assert chain.largest <= budget
    assert len(chain.measured) == len(set(chain.measured)), "no layer is measured twice"
    assert search.complete == (budget >= 10 * COUNT / FULL_RUNS)


def test_a_search_takes_few_runs() -> None:
    """Bisecting 200 layers takes about log2(200) runs for the fault, and as many for the adder."""
    assert Chain(123).search(budget=10).runs < 25


def test_a_layer_larger_than_the_budget_is_measured_alone() -> None:
    chain = Chain(150, size=100)
    assert chain.search(budget=10).verdict().first == 150
    assert chain.largest == 100


def test_a_clean_chain_is_soon_done() -> None:
    search = Chain(COUNT).search(budget=10)
    assert search.verdict().first is None
    assert search.runs < 15
