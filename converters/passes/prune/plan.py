"""Which units go: again and again the cheapest to lose, by worth lost over cost saved, until enough is saved.

What a layer loses is told as a share of the worth that it still has: the narrower it is already, the more it costs
to make it narrower still. (That is the gradient of the sum of the logarithms of what all layers keep.)
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from converters.passes.prune.cost import Costs, Widths
from converters.passes.prune.groups import Choice
from runtimes.errors import UsageError


def plan(choices: Sequence[Choice], costs: Costs, share: float) -> list[int]:
    """How many units each choice keeps, so that `share` of the cost is gone.

    What a step saves can only shrink while others are taken (its layers became narrower), so the best of the heap
    needs to be looked at again only when it comes up.

    Raises UsageError where the limits leave less than that to remove.
    """
    kept = [len(choice.scores) for choice in choices]
    widths = Widths(choices, kept)
    saved, goal = 0.0, share * costs.total
    users = [{use.layer for use in choice.uses} & costs.layers.keys() for choice in choices]
    orders = [sorted(choice.scores) for choice in choices]

    def weigh(index: int) -> tuple[float, float] | None:
        """Worth per cost of the next step of a choice, and the cost that it saves."""
        choice, now = choices[index], kept[index]
        after = max(choice.least, (now - 1) // choice.step * choice.step)
        if after >= now:
            return None
        before = sum(costs.layers[name](*widths.of(name)) for name in users[index])
        widths.move(choice, (now - after) / len(choice.scores))
        cost = before - sum(costs.layers[name](*widths.of(name)) for name in users[index])
        widths.move(choice, (after - now) / len(choice.scores))
        units = len(choice.scores)
        left = orders[index][units - now :]
        worth = float(sum(left[: now - after]) / max(sum(left), 1e-30))
        return (worth / cost if cost > 0 else float("inf")), cost

    heap = [(found[0], index) for index in range(len(choices)) if (found := weigh(index))]
    heapq.heapify(heap)
    while saved < goal and heap:
        _, index = heapq.heappop(heap)
        found = weigh(index)
        if found is None:
            continue
        if heap and found[0] > heap[0][0]:
            heapq.heappush(heap, (found[0], index))
            continue
        choice, now = choices[index], kept[index]
        kept[index] = max(choice.least, (now - 1) // choice.step * choice.step)
        widths.move(choice, (now - kept[index]) / len(choice.scores))
        saved += found[1]
        if again := weigh(index):
            heapq.heappush(heap, (again[0], index))
    if saved < goal:
        raise UsageError(
            f"prune: at most {saved / costs.total:.0%} can be removed, not {share:.0%}: raise `most` or `limits`, "
            "lower `round_to`, or exclude less"
        )
    return kept
