"""Measure layers within a memory budget: all of them where that takes few runs, else only around the faults."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from converters.debug.judge import Limit, Measure, Verdict, judge, jump

MeasureLayers = Callable[[Sequence[int]], dict[int, Measure]]
"""Measures some layers in one run of each model."""

# Each run is one of eager in float32, one in float64 and one of the artifact. Up to so many, every layer is
# measured; a model that needs more under its budget is searched instead, which takes a few per blamed layer.
FULL_RUNS = 16


@dataclass
class Search:
    """Finds the layers to blame.

    Attributes:
        sizes: bytes that measuring each layer takes.
        parents: per layer the layers that it is made of.
        outputs: the layers that are the model's outputs.
        measure: measures some layers at once.
        limit: of the artifact's precision.
        budget: bytes for one run; a layer that needs more is measured alone.
        found: what was measured.
    """

    sizes: Sequence[int]
    parents: Sequence[Collection[int]]
    outputs: Collection[int]
    measure: MeasureLayers
    limit: Limit
    budget: int
    found: dict[int, Measure] = field(default_factory=dict)
    runs: int = 0

    def run(self, top: int) -> None:
        """Measure; afterwards the first diverging layer and the `top` that add most are in `found`."""
        every = range(len(self.sizes))
        groups = self._groups(every)
        if len(groups) <= FULL_RUNS:
            for group in groups:
                self._measure(group)
            return
        for group in self._groups(sorted(self.outputs)):
            self._measure(group)
        self._measure(self._spread([one for one in every if one not in self.found]))
        self._narrow(self._first)
        for layer in sorted(self.found, key=self._jump, reverse=True)[:top]:
            self._narrow(lambda ones: max(ones, key=self._jump), [layer])

    @property
    def complete(self) -> bool:
        """Whether every layer was measured."""
        return len(self.found) == len(self.sizes)

    def _measure(self, layers: Sequence[int]) -> None:
        if layers:
            self.found |= self.measure(layers)
            self.runs += 1

    def _narrow(self, pick: Callable[[Sequence[int]], int | None], among: Sequence[int] | None = None) -> None:
        """Measure between a layer and those above it until none is hidden, each time from the one picked."""
        target = pick(sorted(self.found) if among is None else among)
        while target is not None and (hidden := self._look_up(target)[1]):
            group = self._spread(sorted(hidden))
            self._measure(group)
            target = pick(sorted([*group, target]))

    def _first(self, layers: Sequence[int]) -> int | None:
        first = self.verdict().first
        return first if first in layers else None

    def verdict(self) -> Verdict:
        """Who is to blame, by what was measured so far."""
        return judge(self.found, {one: self._look_up(one)[0] for one in self.found}, self.outputs, self.limit)

    def _jump(self, layer: int) -> float:
        return jump(layer, self.found, {layer: self._look_up(layer)[0]})

    def _look_up(self, layer: int) -> tuple[set[int], set[int]]:
        """The nearest measured layers that this one is made of, and the unmeasured ones on the way."""
        measured: set[int] = set()
        hidden: set[int] = set()
        todo = list(self.parents[layer])
        while todo:
            one = todo.pop()
            if one in self.found:
                measured.add(one)
            elif one not in hidden:
                hidden.add(one)
                todo += self.parents[one]
        return measured, hidden

    def _groups(self, layers: Sequence[int]) -> list[list[int]]:
        """Neighbours that fit the budget together."""
        groups: list[list[int]] = []
        room = 0
        for layer in layers:
            room -= self.sizes[layer]
            if room < 0 or not groups:
                groups.append([])
                room = self.budget - self.sizes[layer]
            groups[-1].append(layer)
        return groups

    def _spread(self, layers: Sequence[int]) -> list[int]:
        """As many as fit the budget, evenly spread; at least one."""
        count = len(layers)
        while count > 1:
            chosen = [layers[(2 * number + 1) * len(layers) // (2 * count)] for number in range(count)]
            if sum(self.sizes[one] for one in chosen) <= self.budget:
                return chosen
            count -= 1
        return [layers[len(layers) // 2]] if layers else []
