"""Measure layers within a memory budget: all if that takes few runs, else around the faults."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from converters.debug.judge import Limit, Measure, Verdict, judge, jump

MeasureLayers = Callable[[Sequence[int]], dict[int, Measure]]
"""Measures some layers in one run of each model."""

# Each run is one of eager in float32, one in float64 and one of the artifact. Up to this number,
# all layers are measured; a model that needs more under its budget is searched instead, which takes
# a few runs per blamed layer.
FULL_RUNS = 16


@dataclass
class Search:
    """A search for the layers to blame.

    Attributes:
        sizes: bytes that measuring each layer takes.
        parents: per layer the layers that it is made of.
        outputs: the layers that are the model's outputs.
        measure: measures some layers at once.
        limit: of the artifact's precision.
        budget: bytes for one run; a layer that needs more is measured alone.
        measures: results so far, by layer.
    """

    sizes: Sequence[int]
    parents: Sequence[Collection[int]]
    outputs: Collection[int]
    measure: MeasureLayers
    limit: Limit
    budget: int
    measures: dict[int, Measure] = field(default_factory=dict)
    runs: int = 0

    def run(self, top: int) -> None:
        """Measure the first diverging layer and the `top` layers that add most, among others."""
        layers = range(len(self.sizes))
        groups = self._groups(layers)
        if len(groups) <= FULL_RUNS:
            for group in groups:
                self._measure(group)
            return
        for group in self._groups(sorted(self.outputs)):
            self._measure(group)
        self._measure(self._spread([layer for layer in layers if layer not in self.measures]))
        self._narrow(self._first)
        for layer in sorted(self.measures, key=self._jump, reverse=True)[:top]:
            self._narrow(lambda group: max(group, key=self._jump), [layer])

    @property
    def complete(self) -> bool:
        """Whether all layers were measured."""
        return len(self.measures) == len(self.sizes)

    def _measure(self, layers: Sequence[int]) -> None:
        if layers:
            self.measures |= self.measure(layers)
            self.runs += 1

    def _narrow(
        self, pick: Callable[[Sequence[int]], int | None], among: Sequence[int] | None = None
    ) -> None:
        """Pick a layer, measure between it and those above, and repeat until none is hidden."""
        target = pick(sorted(self.measures) if among is None else among)
        while target is not None and (hidden := self._look_up(target)[1]):
            group = self._spread(sorted(hidden))
            self._measure(group)
            target = pick(sorted([*group, target]))

    def _first(self, layers: Sequence[int]) -> int | None:
        first = self.verdict().first
        return first if first in layers else None

    def verdict(self) -> Verdict:
        """Judge by the layers that were measured so far."""
        above = {layer: self._look_up(layer)[0] for layer in self.measures}
        return judge(self.measures, above, self.outputs, self.limit)

    def _jump(self, layer: int) -> float:
        return jump(layer, self.measures, {layer: self._look_up(layer)[0]})

    def _look_up(self, layer: int) -> tuple[set[int], set[int]]:
        """Return the nearest measured layers above this one, and the unmeasured ones between."""
        measured: set[int] = set()
        hidden: set[int] = set()
        pending = list(self.parents[layer])
        while pending:
            parent = pending.pop()
            if parent in self.measures:
                measured.add(parent)
            elif parent not in hidden:
                hidden.add(parent)
                pending += self.parents[parent]
        return measured, hidden

    def _groups(self, layers: Sequence[int]) -> list[list[int]]:
        """Group neighbours that fit the budget together."""
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
        """Choose as many layers as fit the budget, evenly spread; at least one."""
        total = len(layers)
        for count in range(total, 1, -1):
            positions = [(2 * number + 1) * total // (2 * count) for number in range(count)]
            chosen = [layers[position] for position in positions]
            if sum(self.sizes[layer] for layer in chosen) <= self.budget:
                return chosen
        return [layers[total // 2]] if layers else []
