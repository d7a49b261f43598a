"""Compare the layers of the eager model with an artifact's values, and report on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from converters.debug.blame import Suspect, examine
from converters.debug.entry import nodes_before
from converters.debug.judge import (
    MISLED,
    Limit,
    Measure,
    error_before,
    judge,
    measure,
    own_error,
    standing_out,
)
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
_BYTES_VALUE = 4  # and each value of the artifact that may be the layer's


@dataclass(frozen=True)
class Comparison:
    """Layers in graph order, the model's outputs last, with all that is needed to measure them.

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
        made_of = dependencies(self.taps.graph, self.values, self.outputs)
        parents = [dependency.layers for dependency in made_of]
        layer_sizes = []
        for layer, values in zip(self.layers, self.values, strict=True):
            bytes_each = _BYTES_EAGER + _BYTES_VALUE * len(values)
            layer_sizes.append(math.prod(layer.shape) * bytes_each)
        sizes = []
        for number, size in enumerate(layer_sizes):
            sizes.append(size + sum(layer_sizes[parent] for parent in parents[number]))
        with task("layers", len(sizes), limit=True) as advance:

            def measure_layers(numbers: Sequence[int]) -> dict[int, Measure]:
                measures = self._measure(parents, numbers)
                advance(len(measures))
                return measures

            search = Search(sizes, parents, self._output_numbers, measure_layers, limit, budget)
            search.run(top)
        return self._findings(search, limit)

    def _measure(
        self, parents: Sequence[frozenset[int]], numbers: Sequence[int]
    ) -> dict[int, Measure]:
        """Measure layers; their parents are read too, to separate each layer's own error."""
        needed = sorted(set(numbers).union(*(parents[number] for number in numbers)))
        keys = {number: self.layers[number].key for number in needed}
        names: list[str] = []
        for number in needed:
            names += self.values[number]
        read = self.taps.read(self.inputs, names)
        eager = self.eager.values(self.inputs, list(keys.values()), exact=False)
        truth = self.eager.values(self.inputs, list(keys.values()), exact=True)
        nearest = {
            number: self._nearest(number, read, eager[key], truth[key])
            for number, key in keys.items()
        }
        artifact = {}
        for number, key in keys.items():
            value = read[self.values[number][nearest[number].candidate]]
            if value.shape == truth[key].shape:
                artifact[key] = value
        expected = self.eager.expected(self.inputs, artifact)
        result = {}
        for number in numbers:
            key, measured = keys[number], nearest[number]
            if key in artifact:
                added = own_error(artifact[key], expected[key], truth[key])
            else:  # of another shape: its fault, unless its input has another shape too
                is_first = all(keys[parent] in artifact for parent in parents[number])
                added = math.inf if is_first else 0.0
            result[number] = replace(
                measured,
                added=min(added, measured.error),
                misled=added > MISLED * measured.error,
            )
        return result

    def _nearest(
        self, number: int, read: Arrays, eager: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]
    ) -> Measure:
        """Measure all values that may be a layer's, and return the nearest to the truth."""
        layer, names = self.layers[number], self.values[number]
        values = [read[name] for name in names]
        candidates = last_of_each(layer, values, truth) if layer.nodes else range(len(values))
        measures = [measure(candidate, values[candidate], eager, truth) for candidate in candidates]
        return min(measures, key=lambda measured: measured.error)

    def _findings(self, search: Search, limit: Limit) -> Findings:
        """Judge again by the chosen values: only now it is known what they are made of."""
        numbers = sorted(search.measures)
        chosen = [[self._value(number, search)] for number in numbers]
        ends = sum(number in self._output_numbers for number in numbers)
        dependency_list = dependencies(self.taps.graph, chosen, ends)
        made_of = dict(zip(numbers, dependency_list, strict=True))
        above = {}
        for number, dependency in made_of.items():
            above[number] = frozenset(numbers[position] for position in dependency.layers)
        verdict = judge(search.measures, above, self._output_numbers, limit)
        if verdict.gradual:
            culprit = standing_out(search.measures, above, verdict)
            if culprit is not None:
                verdict = replace(verdict, first=culprit, gradual=False)
        reports = {}
        for number in numbers:
            reports[number] = self._report(number, search, above, made_of[number], limit)
        first = verdict.first
        if first is not None:
            reports[first] = self._blamed(reports[first], first, search, made_of[first])
        misread = [self.layers[number].name for number in sorted(verdict.misread)]
        harmless = [
            self.layers[number].name for number in sorted(verdict.doubtful - verdict.misread)
        ]
        notes = _notes(verdict.gradual, misread, harmless)
        return Findings(
            first=None if first is None else reports[first],
            series=list(reports.values()),
            trusted=[report for number, report in reports.items() if number not in verdict.misread],
            complete=search.complete,
            runs=search.runs,
            notes=notes if search.complete else [*notes, _SPARSE],
        )

    @property
    def _output_numbers(self) -> range:
        return range(len(self.layers) - self.outputs, len(self.layers))

    def _report(
        self,
        number: int,
        search: Search,
        above: dict[int, frozenset[int]],
        made_of: Dependency,
        limit: Limit,
    ) -> LayerReport:
        layer, measured, graph = self.layers[number], search.measures[number], self.taps.graph
        value = self._value(number, search)
        maker = graph.makers().get(value)
        if layer.made_by:
            maker = layer.made_by[measured.candidate]
        through = []
        for index in nodes_before(graph, layer, made_of.through):
            if index != maker:
                through.append(f"{graph.nodes[index].op} {graph.nodes[index].name}")
        return LayerReport(
            layer=layer.name,
            node=value if maker is None else graph.nodes[maker].name,
            op="" if maker is None else graph.nodes[maker].op,
            dtype=measured.dtype,
            shape=layer.shape,
            error_before=error_before(number, search.measures, above),
            error_after=measured.error,
            added=measured.added,
            sqnr_db=measured.sqnr_db,
            noise=measured.noise,
            inputs=tuple(self.layers[parent].name for parent in sorted(above[number])),
            through=tuple(through),
            diverges=limit.exceeded(measured),
        )

    def _blamed(
        self, report: LayerReport, number: int, search: Search, made_of: Dependency
    ) -> LayerReport:
        """Add to the report of the layer to blame what its values look like."""
        layer = self.layers[number]
        parents = search.parents[number]
        above = {self.layers[parent].key: self._value(parent, search) for parent in parents}
        room = max(search.budget // (math.prod(layer.shape) * _BYTES_EAGER or 1), 1)
        alike = []
        for candidate in self.layers:
            if candidate.shape == layer.shape and candidate.key != layer.key:
                alike.append(candidate)
        alike = alike[-room:]
        # An output may hold what another output should; the layer that produces that output is no
        # better name for it.
        alike.sort(key=lambda candidate: bool(candidate.nodes) != bool(layer.nodes))
        keys = {candidate.name: candidate.key for candidate in alike}
        suspect = Suspect(layer, self._value(number, search), above, made_of, keys)
        return examine(report, suspect, self.taps, self.eager, self.inputs)

    def _value(self, number: int, search: Search) -> str:
        """Return the value that was chosen for a layer; the last one if it was not measured."""
        measured = search.measures.get(number)
        return self.values[number][measured.candidate if measured else -1]


@dataclass(frozen=True)
class Findings:
    """Result of a search; see `DebugResult`. `trusted` is the series without misread layers."""

    first: LayerReport | None
    series: list[LayerReport]
    trusted: list[LayerReport]
    complete: bool
    runs: int
    notes: list[str]

    def adders(self, top: int) -> list[LayerReport]:
        """Return the layers that add most error, the largest first, without those that add none."""
        ranked = sorted(self.trusted, key=lambda report: report.added, reverse=True)
        return [report for report in ranked[:top] if report.added > 0]


_SPARSE = (
    "not all layers were measured, since that takes too many runs within the memory budget: the "
    "series is complete only around the faults; a larger --memory measures all"
)


def _notes(gradual: bool, misread: Sequence[str], harmless: Sequence[str]) -> list[str]:
    notes = []
    if gradual:
        notes.append(
            "no single layer is to blame: the error builds up; the first diverging layer is where "
            "it exceeds the limit, the layers that add most show where it comes from"
        )
    if misread:
        notes.append(
            f"compared with the wrong value, since the layers made of it are right: "
            f"{', '.join(misread)}; ignore what is reported on these"
        )
    if harmless:
        notes.append(
            f"further from the truth than the limit, while the outputs made of them are within it: "
            f"{', '.join(harmless)}"
        )
    return notes


def compare(eager: Eager, taps: Taps, inputs: Arrays, outputs: Sequence[str]) -> Comparison:
    """Match the eager model's layers, and its outputs in order, with the artifact's values.

    Raises ArtifactError if the artifact has another number of outputs.
    """
    if len(taps.graph.outputs) != len(outputs):
        raise ArtifactError(
            f"the graph has {len(taps.graph.outputs)} outputs, the model {len(outputs)}"
        )
    calls, shapes = eager.calls(inputs)
    layers, unmatched = align(calls, taps.graph)
    values = []
    for layer in layers:
        values.append([taps.graph.nodes[index].value for index in layer.nodes])
    values += [[value] for value in taps.graph.outputs]
    for name in outputs:
        key = output_key(name)
        layers.append(Layer(f"output {name}", key, shapes[key], ()))
    return Comparison(eager, taps, inputs, layers, values, len(outputs), unmatched)
