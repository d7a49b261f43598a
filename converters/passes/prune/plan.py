"""Which units go: again and again the cheapest to lose, by worth lost over cost saved, until enough is saved.

What a layer loses is told as a share of the worth that it still has: the narrower it is already, the more it costs
to make it narrower still. (That is the gradient of the sum of the logarithms of what all layers keep.)
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from converters.passes.prune.cost.cost import Costs, Widths
from converters.passes.prune.groups import Choice
from runtimes.errors import UsageError


def plan(choices: Sequence[Choice], costs: Costs, share: float) -> list[int]:
    """How many units each choice keeps, so that `share` of the cost is gone.

    Raises UsageError where the limits leave less than that to remove.
    """
    planned = _Plan(choices, costs)
    goal = share * costs.total
    planned.save(goal)
    if planned.saved < goal:
        raise UsageError(
            f"prune: at most {planned.saved / costs.total:.0%} can be removed, not {share:.0%}: raise `most` or "
            "`limits`, lower `round_to`, or exclude less"
        )
    return planned.kept


@dataclass(frozen=True)
class _Step:
    """Units taken from a choice: the worth that is lost per cost that is saved, that cost, and what is kept."""

    price: float
    cost: float
    kept: int


class _Plan:
    """Units that are kept so far, and what the others saved."""

    def __init__(self, choices: Sequence[Choice], costs: Costs) -> None:
        self.choices, self.costs, self.saved = choices, costs, 0.0
        self.kept = [len(choice.scores) for choice in choices]
        self._widths = Widths(choices, self.kept)
        self._layers = [{use.layer for use in choice.uses} & costs.layers.keys() for choice in choices]
        self._sorted = [sorted(choice.scores) for choice in choices]

    def save(self, goal: float) -> None:
        """Take steps until so much is saved, or nothing is left.

        What a step saves can only shrink while others are taken (its layers became narrower), so the best of the
        heap needs to be looked at again only when it comes up. The last step is the smallest that reaches the goal.
        """
        heap = [(step.price, index) for index in range(len(self.choices)) if (step := self._next(index))]
        heapq.heapify(heap)
        while self.saved < goal and heap:
            _, index = heapq.heappop(heap)
            step = self._next(index)
            if step is None:
                continue
            if heap and step.price > heap[0][0]:
                heapq.heappush(heap, (step.price, index))
            elif self.saved + step.cost > goal:
                self._take(*self._last(goal - self.saved))
            else:
                self._take(index, step)
                if step := self._next(index):
                    heapq.heappush(heap, (step.price, index))

    def _last(self, missing: float) -> tuple[int, _Step]:
        """The step that saves least of those that save enough."""
        steps = [(index, step) for index in range(len(self.choices)) for step in self._steps(index)]
        return min((one for one in steps if one[1].cost >= missing), key=lambda one: one[1].cost)

    def _next(self, index: int) -> _Step | None:
        """The best next step of a choice; None where it can take none."""
        return min(self._steps(index), key=lambda one: one.price, default=None)

    def _steps(self, index: int) -> list[_Step]:
        """The next steps of a choice that save anything: a kernel may take as long for a few units less."""
        choice, kept, found = self.choices[index], self.kept[index], list[_Step]()
        left = self._sorted[index][len(choice.scores) - kept :]
        while kept > choice.least and len(found) < self.costs.ahead:
            kept = max(choice.least, (kept - 1) // choice.step * choice.step)
            if (cost := self._saving(index, kept)) > 0:
                worth = sum(left[: self.kept[index] - kept]) / max(sum(left), 1e-30)
                found.append(_Step(float(worth / cost), cost, kept))
        return found

    def _saving(self, index: int, kept: int) -> float:
        """The cost that goes where a choice keeps so many units."""
        choice, layers = self.choices[index], self._layers[index]
        share = (self.kept[index] - kept) / len(choice.scores)
        before = sum(self.costs.layers[name](*self._widths.of(name)) for name in layers)
        self._widths.move(choice, share)
        after = sum(self.costs.layers[name](*self._widths.of(name)) for name in layers)
        self._widths.move(choice, -share)
        return before - after

    def _take(self, index: int, step: _Step) -> None:
        choice = self.choices[index]
        self._widths.move(choice, (self.kept[index] - step.kept) / len(choice.scores))
        self.kept[index] = step.kept
        self.saved += step.cost
