"""Calibration, done once per graph, options and samples: the result is cached.

NNCF finds the ranges of activations and corrects biases in turns. So the cache does not hold
statistics, but the quantized graph, before any accuracy budget is searched, and the report about
the model's channels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.data.calibration import CalibrationSamples
from converters.digest import Key, source_digest
from converters.errors import ExportError
from converters.graph.flow.attention import has_attention, weighted_sums
from converters.graph.qdq import layers
from converters.passes.quantize.channels import channel_summary, silent_channels
from converters.passes.quantize.estimators import quantize_with_best_ranges
from converters.passes.quantize.static import Calibration
from converters.recipe.quantize import QuantizeOptions
from converters.steps.store import Store
from runtimes.machine.machine import burnish_version
from runtimes.process.child import tell

if TYPE_CHECKING:
    import onnx_ir as ir

_GRAPH, _RESULT = "quantized.onnx", "found.json"
_LIBRARIES = ("nncf", "onnxruntime", "onnx", "onnx-ir", "numpy")


@dataclass(frozen=True)
class CalibrationRequest:
    """Task of a calibration.

    Attributes:
        graph: the float32 ONNX file.
        model: the same file as a graph in memory.
        options: of the pass; the accuracy budget plays no part.
        exclude: names of the nodes that stay float.
    """

    graph: Path
    model: ir.Model
    options: QuantizeOptions
    exclude: Collection[str]


@dataclass(frozen=True)
class CalibrationResult:
    """Entries of the manifest, and notes for the report.

    Attributes:
        report: `calibration`, and the channels that are `dead` and `constant`.
        notes: remarks about the samples, the cache and the channels.
    """

    report: dict[str, Any]
    notes: list[str]


def calibrate(
    request: CalibrationRequest, samples: CalibrationSamples, target: Path, store: Store
) -> CalibrationResult:
    """Write the quantized graph to `target`, from the store or newly calibrated.

    Raises:
        UsageError: there are no samples, or they do not fit the model.
        ExportError: the quantizer failed, or quantized no layer.
    """
    samples.read()
    notes = list(samples.notes)
    key = _key(request, samples)
    entry = target.with_name("calibration")
    with store.making(key):
        if store.get(key, entry, notes.append):
            tell("calibration: cache hit")
        else:
            _quantize(request, samples, entry)
            if samples.changed:
                notes.append(
                    "the calibration samples differ each time they are read: the calibration "
                    "cannot be cached"
                )
            else:
                store.put(key, entry)
    (entry / _GRAPH).replace(target)
    result = json.loads((entry / _RESULT).read_text(encoding="utf-8"))
    if (summary := channel_summary(result["channels"])) is not None:
        notes.append(summary)
    calibration: dict[str, Any] = {"key": key, "samples": len(samples.digests)}
    if ranges := result["ranges"]:
        calibration |= {"ranges": max(ranges, key=ranges.__getitem__), "sqnr_db": ranges}
    return CalibrationResult({"calibration": calibration, **result["channels"]}, notes)


def _quantize(request: CalibrationRequest, samples: CalibrationSamples, entry: Path) -> None:
    """Quantize, and look at the channels, into the new folder `entry`."""
    import onnx_ir as ir

    entry.mkdir()
    data = Calibration(
        samples,
        samples.count,
        request.exclude,
        has_attention(request.model),
        [str(node.name) for node in weighted_sums(request.model)],
        size=len(samples.digests),
    )
    ranges = quantize_with_best_ranges(
        request.graph, request.model, request.options, data, entry / _GRAPH
    )
    if not any(layer.quantized for layer in layers(ir.load(str(entry / _GRAPH)))):
        raise ExportError(f"{request.options.quantizer} quantized none of the graph's layers")
    channels = silent_channels(request.model, samples, len(samples.digests), entry)
    rounded = {name: round(value, 2) for name, value in ranges.items()}
    result = {"channels": channels, "ranges": rounded}
    (entry / _RESULT).write_text(json.dumps(result), encoding="utf-8")


def _key(request: CalibrationRequest, samples: CalibrationSamples) -> str:
    """Return the digest of everything that a calibration depends on."""
    key = Key()
    for file in _files(request.graph):
        key.add("graph", _digest(file))
    key.add("quantizer", f"{request.options.quantizer} {request.options.calibrate}")
    key.add("exclude", json.dumps(sorted(request.exclude)))
    key.add("samples", f"{samples.count}")
    for digest in samples.digests:
        key.add("sample", digest)
    for library in _LIBRARIES:
        key.add(library, _version(library))
    key.add("burnish", burnish_version())
    key.add("code", source_digest(__name__))
    return key.hex()


def _files(graph: Path) -> list[Path]:
    """Return an ONNX file and the files of its external data."""
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    external = set()
    for tensor in onnx.load(str(graph), load_external_data=False).graph.initializer:
        if uses_external_data(tensor):
            external.add(graph.parent / ExternalDataInfo(tensor).location)
    return [graph, *sorted(external)]


def _digest(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"
