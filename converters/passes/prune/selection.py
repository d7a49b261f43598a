"""Selection of the units to remove: repeatedly the cheapest, until enough is saved.

The price of a step is the importance that is lost over the cost that is saved. A layer's loss is a
share of the importance that it still has: the narrower it is already, the more it costs to make it
narrower still. (That is the gradient of the sum of the logarithms of the importance that each layer
keeps.)
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from converters.passes.prune.cost.cost import Costs, Widths
from converters.passes.prune.groups import Choice
from runtimes.errors import UsageError


def select_units(choices: Sequence[Choice], costs: Costs, share: float) -> list[int]:
    """Return how many units each choice keeps, so that `share` of the cost is gone.

    Raises UsageError if the limits leave less than that to remove.
    """
    selection = _Selection(choices, costs)
    goal = share * costs.total
    selection.save(goal)
    if selection.saved < goal:
        raise UsageError(
            f"prune: at most {selection.saved / costs.total:.0%} can be removed, not {share:.0%}: "
            "raise `most` or `limits`, lower `round_to`, or exclude less"
        )
    return selection.kept


@dataclass(frozen=True)
class _Removal:
    """Units removed from a choice.

    Attributes:
        price: importance that is lost per cost that is saved.
        cost: that is saved.
        kept: units that stay.
    """

    price: float
    cost: float
    kept: int


class _Selection:
    """The units that are kept so far, and the cost that the removed ones saved."""

    def __init__(self, choices: Sequence[Choice], costs: Costs) -> None:
        self.choices, self.costs, self.saved = choices, costs, 0.0
        self.kept = [len(choice.scores) for choice in choices]
        self._widths = Widths(choices, self.kept)
        self._layers = [choice.layers & costs.layers.keys() for choice in choices]
        self._sorted = [sorted(choice.scores) for choice in choices]

    def save(self, goal: float) -> None:
        """Remove units until so much is saved, or no more can go.

        A removal's saving can only shrink while others are made (its layers became narrower), so
        the best of the heap is computed again only when it comes up. The last removal is the
        smallest that reaches the goal.
        """
        heap: list[tuple[float, int]] = []
        for index in range(len(self.choices)):
            if removal := self._next(index):
                heapq.heappush(heap, (removal.price, index))
        while self.saved < goal and heap:
            _, index = heapq.heappop(heap)
            removal = self._next(index)
            if removal is None:
                continue
            if heap and removal.price > heap[0][0]:
                heapq.heappush(heap, (removal.price, index))
            elif self.saved + removal.cost > goal:
                self._remove(*self._last(goal - self.saved))
            else:
                self._remove(index, removal)
                if removal := self._next(index):
                    heapq.heappush(heap, (removal.price, index))

    def _last(self, missing: float) -> tuple[int, _Removal]:
        """Return the removal that saves least of those that save enough."""
        enough = []
        for index in range(len(self.choices)):
            enough += [
                (index, removal) for removal in self._removals(index) if removal.cost >= missing
            ]
        return min(enough, key=lambda pair: pair[1].cost)

    def _next(self, index: int) -> _Removal | None:
        """Return the best next removal from a choice, or None if it can lose no more."""
        return min(self._removals(index), key=lambda removal: removal.price, default=None)

    def _removals(self, index: int) -> list[_Removal]:
        """Return the next removals from a choice that save anything.

        A kernel may take as long for a few units less.
        """
        choice, kept, removals = self.choices[index], self.kept[index], list[_Removal]()
        left = self._sorted[index][len(choice.scores) - kept :]
        while kept > choice.least and len(removals) < self.costs.ahead:
            kept = max(choice.least, (kept - 1) // choice.step * choice.step)
            if (cost := self._saving(index, kept)) > 0:
                loss = sum(left[: self.kept[index] - kept]) / max(sum(left), 1e-30)
                removals.append(_Removal(float(loss / cost), cost, kept))
        return removals

    def _saving(self, index: int, kept: int) -> float:
        """Return the cost that is saved if a choice keeps so many units."""
        choice = self.choices[index]
        share = (self.kept[index] - kept) / len(choice.scores)
        before = self._cost(index)
        self._widths.move(choice, share)
        after = self._cost(index)
        self._widths.move(choice, -share)
        return before - after

    def _cost(self, index: int) -> float:
        """Return the cost of a choice's layers at their present widths."""
        return sum(self.costs.layers[name](*self._widths.of(name)) for name in self._layers[index])

    def _remove(self, index: int, removal: _Removal) -> None:
        choice = self.choices[index]
        self._widths.move(choice, (self.kept[index] - removal.kept) / len(choice.scores))
        self.kept[index] = removal.kept
        self.saved += removal.cost
