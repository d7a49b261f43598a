"""Compare the layers of the eager model with an artifact's values, and report on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from converters.debug.blame import Suspect, examine
from converters.debug.entry import before
from converters.debug.judge import MISLED, Limit, Measure, error_before, judge, measure, own_error, standing_out
from converters.debug.match.align import align
from converters.debug.match.fuse import last_of_each
from converters.debug.match.graph import Dependency, Taps, dependencies
from converters.debug.match.layer import Layer, Unmatched
from converters.debug.result import LayerReport
from converters.debug.search import Search
from converters.debug.truth import Eager, output_key
from runtimes.errors import ArtifactError
from runtimes.progress import task
from runtimes.spec import Arrays

_BYTES_EAGER = 8 + 4  # per element: the truth in float64, eager in float32
_BYTES_FOUND = 4  # and each value of the artifact that may be the layer's


@dataclass(frozen=True)
class Comparison:
    """Layers in the order of the graph, the model's outputs last, and what it takes to measure them.

    Attributes:
        values: per layer the values of the artifact that may be its result.
        outputs: how many layers at the end are the model's outputs.
        unmatched: calls of the eager model that have no value in the artifact.
    """

    eager: Eager
    taps: Taps
    inputs: Arrays
    layers: list[Layer]
    values: list[list[str]]
    outputs: int
    unmatched: list[Unmatched]

    def search(self, limit: Limit, budget: int, top: int) -> Findings:
        """Measure the layers, at most `budget` bytes at once."""
        parents = [one.layers for one in dependencies(self.taps.graph, self.values, self.outputs)]
        own = [
            math.prod(layer.shape) * (_BYTES_EAGER + _BYTES_FOUND * len(values))
            for layer, values in zip(self.layers, self.values, strict=True)
        ]
        sizes = [size + sum(own[one] for one in parents[number]) for number, size in enumerate(own)]
        with task("layers", len(sizes), limit=True) as advance:

            def measure_layers(numbers: Sequence[int]) -> dict[int, Measure]:
                measures = self._measure(parents, numbers)
                advance(len(measures))
                return measures

            search = Search(sizes, parents, self._outputs, measure_layers, limit, budget)
            search.run(top)
        return self._findings(search, limit)

    def _measure(self, parents: Sequence[frozenset[int]], numbers: Sequence[int]) -> dict[int, Measure]:
        """Measure layers; those that they are made of are read too, to tell what each makes of them."""
        every = sorted({*numbers, *(one for number in numbers for one in parents[number])})
        keys = {number: self.layers[number].key for number in every}
        read = self.taps.read(self.inputs, [value for number in every for value in self.values[number]])
        eager = self.eager.values(self.inputs, list(keys.values()), exact=False)
        truth = self.eager.values(self.inputs, list(keys.values()), exact=True)
        nearest = {
            number: min(
                (
                    measure(candidate, read[self.values[number][candidate]], eager[key], truth[key])
                    for candidate in self._candidates(number, read, truth[key])
                ),
                key=lambda one: one.error,
            )
            for number, key in keys.items()
        }
        taken = {key: read[self.values[number][nearest[number].candidate]] for number, key in keys.items()}
        found = {key: value for key, value in taken.items() if value.shape == truth[key].shape}
        expected = self.eager.expected(self.inputs, found)
        for number in numbers:
            key, one = keys[number], nearest[number]
            if key in found:
                own = own_error(found[key], expected[key], truth[key])
            else:  # of another shape, which it may have been given so
                own = math.inf if all(keys[parent] in found for parent in parents[number]) else 0.0
            nearest[number] = replace(one, added=min(own, one.error), misled=own > MISLED * one.error)
        return {number: nearest[number] for number in numbers}

    def _candidates(self, number: int, read: Arrays, truth: np.ndarray[Any, Any]) -> Sequence[int]:
        layer, values = self.layers[number], [read[value] for value in self.values[number]]
        return last_of_each(layer, values, truth) if layer.nodes else range(len(values))

    def _findings(self, search: Search, limit: Limit) -> Findings:
        """Judge once more by the values that were taken: what they are made of is known only now."""
        numbers = sorted(search.found)
        taken = [[self.values[number][search.found[number].candidate]] for number in numbers]
        made_of = dict(zip(numbers, dependencies(self.taps.graph, taken, self._ends(numbers)), strict=True))
        above = {number: frozenset(numbers[position] for position in one.layers) for number, one in made_of.items()}
        verdict = judge(search.found, above, self._outputs, limit)
        if verdict.gradual and (one := standing_out(search.found, above, verdict)) is not None:
            verdict = replace(verdict, first=one, gradual=False)
        reports = {number: self._report(number, search.found, above, made_of[number], limit) for number in numbers}
        if verdict.first is not None:
            first = verdict.first
            reports[first] = self._blamed(reports[first], first, search, made_of[first])
        misread = [self.layers[number].name for number in sorted(verdict.misread)]
        harmless = [self.layers[number].name for number in sorted(verdict.doubtful - verdict.misread)]
        return Findings(
            first=None if verdict.first is None else reports[verdict.first],
            series=list(reports.values()),
            trusted=[report for number, report in reports.items() if number not in verdict.misread],
            complete=search.complete,
            runs=search.runs,
            notes=[*_words(verdict.gradual, misread, harmless), *([] if search.complete else [_SPARSE])],
        )

    @property
    def _outputs(self) -> range:
        return range(len(self.layers) - self.outputs, len(self.layers))

    def _ends(self, numbers: Sequence[int]) -> int:
        return sum(number in self._outputs for number in numbers)

    def _report(
        self,
        number: int,
        found: dict[int, Measure],
        above: dict[int, frozenset[int]],
        made_of: Dependency,
        limit: Limit,
    ) -> LayerReport:
        layer, one, graph = self.layers[number], found[number], self.taps.graph
        value = self.values[number][one.candidate]
        own = layer.made_by[one.candidate] if layer.made_by else graph.makers().get(value)
        return LayerReport(
            layer=layer.name,
            node=value if own is None else graph.nodes[own].name,
            op="" if own is None else graph.nodes[own].op,
            dtype=one.dtype,
            shape=layer.shape,
            error_before=error_before(number, found, above),
            error_after=one.error,
            added=one.added,
            sqnr_db=one.sqnr_db,
            noise=one.noise,
            inputs=tuple(self.layers[other].name for other in sorted(above[number])),
            through=tuple(
                f"{graph.nodes[index].op} {graph.nodes[index].name}"
                for index in before(graph, layer, made_of.through)
                if index != own
            ),
            diverges=limit.exceeded(one),
        )

    def _blamed(self, report: LayerReport, number: int, search: Search, made_of: Dependency) -> LayerReport:
        layer = self.layers[number]
        above = {self.layers[one].key: self._taken(one, search) for one in search.parents[number]}
        room = max(search.budget // (math.prod(layer.shape) * _BYTES_EAGER or 1), 1)
        alike = [one for one in self.layers if one.shape == layer.shape and one.key != layer.key][-room:]
        # An output may hold what another output should; the layer that makes that one is no better name for it.
        alike.sort(key=lambda one: bool(one.nodes) != bool(layer.nodes))
        others = {one.name: one.key for one in alike}
        suspect = Suspect(layer, self._taken(number, search), above, made_of, others)
        return examine(report, suspect, self.taps, self.eager, self.inputs)

    def _taken(self, number: int, search: Search) -> str:
        found = search.found.get(number)
        return self.values[number][found.candidate if found else -1]


@dataclass(frozen=True)
class Findings:
    """What a search found; see `DebugResult`. `trusted` is the series without what was misread."""

    first: LayerReport | None
    series: list[LayerReport]
    trusted: list[LayerReport]
    complete: bool
    runs: int
    notes: list[str]

    def adders(self, top: int) -> list[LayerReport]:
        """The layers that add most error, the largest first; layers that add none are left out."""
        ranked = sorted(self.trusted, key=lambda one: one.added, reverse=True)
        return [one for one in ranked[:top] if one.added > 0]


_SPARSE = (
    "not every layer was measured, since that takes too many runs within the memory budget: the series is "
    "complete only around the faults; a larger --memory measures all"
)


def _words(gradual: bool, misread: Sequence[str], harmless: Sequence[str]) -> list[str]:
    notes = []
    if gradual:
        notes.append(
            "no single layer is to blame: the error builds up; the first diverging layer is where it passes the "
            "limit, the layers that add most tell where it comes from"
        )
    if misread:
        notes.append(
            f"compared with the wrong value, since what is made of them is right: {', '.join(misread)}; what is "
            "said of these counts for nothing"
        )
    if harmless:
        notes.append(
            f"further from the truth than the limit, while the outputs made of them are within it: "
            f"{', '.join(harmless)}"
        )
    return notes


def compare(eager: Eager, taps: Taps, inputs: Arrays, outputs: Sequence[str]) -> Comparison:
    """Match the layers of the eager model, and its outputs in order, with the artifact's values.

    Raises ArtifactError where the artifact has not as many outputs.
    """
    if len(taps.graph.outputs) != len(outputs):
        raise ArtifactError(f"the graph has {len(taps.graph.outputs)} outputs, the model {len(outputs)}")
    calls, shapes = eager.calls(inputs)
    layers, unmatched = align(calls, taps.graph)
    nodes = taps.graph.nodes
    values = [[nodes[index].value for index in layer.nodes] for layer in layers]
    ends = [Layer(f"output {name}", output_key(name), shapes[output_key(name)], ()) for name in outputs]
    values += [[value] for value in taps.graph.outputs]
    return Comparison(eager, taps, inputs, [*layers, *ends], values, len(ends), unmatched)
