"""Which ranges leave most of the signal: tried out on the calibration samples, not believed.

NNCF's own choice, the mean of each sample's extremes, cuts rare large values off, which saves steps for the others;
the extremes of all samples cut nothing. Neither is always right: benchmarks/fast_artifacts.md has a model for each.
"""

from __future__ import annotations

from collections.abc import Iterable
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
"""Of the calibration data, to compare on: estimators that matter differ by whole decibels."""
_LARGEST = 1_900_000_000
"""Bytes of a graph that can be tried out: protobuf holds 2 GiB."""


def quantize_with_best_ranges(
    graph: Path, model: ir.Model, options: QuantizeOptions, data: Calibration, target: Path
) -> dict[str, float]:
    """Quantize with each way of finding ranges, and leave the graph that is nearest to the float one in `target`.

    Returns:
        SQNR in dB by name of the estimator, of the worst output over some samples together; empty where the recipe
        or the quantizer leaves no choice.

    Raises ExportError where the quantizer cannot.
    """
    if options.calibrate != "auto" or options.quantizer != "nncf" or graph.stat().st_size > _LARGEST:
        quantize_static(graph, options, data, target)
        return {}
    found: dict[str, float] = {}
    for name in counted(("auto", "min-max"), "ranges"):
        tried = target.with_name(f"{name}.onnx")
        quantize_static(graph, options.model_copy(update={"calibrate": name}), data, tried)
        found[name] = sqnr_db(model, tried, data.batches)
        if found[name] >= max(found.values()):
            tried.replace(target)
        tried.unlink(missing_ok=True)
    tell(f"ranges: {', '.join(f'{name} leaves {value:.1f} dB' for name, value in found.items())}")
    return found


def sqnr_db(model: ir.Model, quantized: Path, batches: Iterable[Arrays]) -> float:
    """Signal to quantization noise of the worst output over some samples, in dB, computed by ONNX Runtime."""
    import onnx_ir as ir

    exact, rough = trial("onnx", model, "fp32"), trial("onnx", ir.load(str(quantized)), "fp32")
    signal, noise = np.zeros((2, len(model.graph.outputs)))
    for sample in counted(islice(iter(batches), _SAMPLES), "compared samples"):
        truth = [np.float64(one) for one in exact.run(sample)]
        signal += [np.square(one).sum() for one in truth]
        noise += [np.square(one - other).sum() for one, other in zip(truth, rough.run(sample), strict=True)]
    floor = np.finfo(np.float64).tiny
    return float((10 * np.log10((signal + floor) / (noise + floor))).min())
