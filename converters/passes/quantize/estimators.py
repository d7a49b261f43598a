"""Choice of ranges and smoothing: the one that leaves most of the calibration samples' signal.

NNCF's choice, the mean of each sample's extremes, cuts rare large values off, which saves steps for
the others; the extremes of all samples cut nothing. Neither is always right:
benchmarks/fast_artifacts.md has a model for each. Nor is NNCF's strength of SmoothQuant (0.95),
which moves nearly all of a transformer's outlying channels from activations to weights: a sentence
encoder of six layers has 23.4 dB with it and 24.3 dB with 0.7 (test_sentences.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converters.passes.quantize.static import Calibration, quantize_static
from converters.passes.quantize.trial import trial
from converters.recipe.quantize import QuantizeOptions
from runtimes.process.child import tell
from runtimes.progress import counted
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import onnx_ir as ir

_SAMPLES = 32
"""Calibration samples to compare on: estimators that matter differ by whole decibels."""
_GENTLE = 0.7
"""Strength of SmoothQuant that is tried beside NNCF's own."""
_GENTLY = ", gentle smoothing"
_LARGEST = 1_900_000_000
"""Bytes of the largest graph that can be tried: protobuf holds 2 GiB."""


def quantize_with_best_ranges(
    graph: Path, model: ir.Model, options: QuantizeOptions, data: Calibration, target: Path
) -> dict[str, float]:
    """Quantize with each estimator; `target` gets the graph that is nearest to the float one.

    Returns:
        SQNR in dB by name of the estimator, of the worst output over some samples together; empty
        if the recipe or the quantizer leaves no choice.

    Raises ExportError if the quantizer fails.
    """
    if (
        options.calibrate != "auto"
        or options.quantizer != "nncf"
        or graph.stat().st_size > _LARGEST
    ):
        quantize_static(graph, options, data, target)
        return {}
    trials = _Trials(graph, model, options, data, target)
    for name in counted(("auto", "min-max"), "ranges"):
        trials.add(name, name)
    if data.transformer:
        trials.add(trials.best, f"{trials.best}{_GENTLY}", _GENTLE)
    values = ", ".join(f"{name} leaves {value:.1f} dB" for name, value in trials.sqnr.items())
    tell(f"ranges: {values}")
    return trials.sqnr


class _Trials:
    """Quantizes a graph in several ways; `target` is the one that is nearest to the float graph."""

    def __init__(
        self,
        graph: Path,
        model: ir.Model,
        options: QuantizeOptions,
        data: Calibration,
        target: Path,
    ) -> None:
        self._graph, self._model, self._options = graph, model, options
        self._data, self._target = data, target
        self.sqnr: dict[str, float] = {}

    @property
    def best(self) -> str:
        """The name of the best one so far."""
        return max(self.sqnr, key=self.sqnr.__getitem__)

    def add(self, ranges: str, name: str, smoothing: float | None = None) -> None:
        """Quantize with an estimator of ranges, and a strength of smoothing, under a name."""
        candidate = self._target.with_name("candidate.onnx")
        options = self._options.model_copy(update={"calibrate": ranges})
        data = replace(self._data, smoothing=smoothing)
        quantize_static(self._graph, options, data, candidate)
        self.sqnr[name] = sqnr_db(self._model, candidate, data.batches)
        if self.best == name:
            candidate.replace(self._target)
        candidate.unlink(missing_ok=True)


def sqnr_db(model: ir.Model, quantized: Path, batches: Iterable[Arrays]) -> float:
    """Return the SQNR of the worst output over some samples, in dB, computed by ONNX Runtime."""
    import onnx_ir as ir

    exact, rough = trial("onnx", model, "fp32"), trial("onnx", ir.load(str(quantized)), "fp32")
    signal, noise = np.zeros((2, len(model.graph.outputs)))
    for sample in counted(islice(iter(batches), _SAMPLES), "compared samples"):
        for index, (truth, output) in enumerate(
            zip(exact.run(sample), rough.run(sample), strict=True)
        ):
            wide = np.float64(truth)
            signal[index] += np.square(wide).sum()
            noise[index] += np.square(wide - output).sum()
    floor = np.finfo(np.float64).tiny
    return float((10 * np.log10((signal + floor) / (noise + floor))).min())
