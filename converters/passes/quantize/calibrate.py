"""Calibration, done once for all who need the same: what it leaves is kept in the user's cache folder.

NNCF finds the ranges of activations and corrects biases in turns, so what is kept is not statistics but the
quantized graph, before any accuracy budget is searched, and what was noticed about the model's channels.
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
from converters.graph.qdq import layers
from converters.passes.quantize.channels import in_words, silent_channels
from converters.passes.quantize.estimators import quantize_with_best_ranges
from converters.passes.quantize.static import Calibration, has_attention
from converters.recipe.quantize import QuantizeOptions
from converters.steps.store import Store
from runtimes.machine.machine import burnish_version
from runtimes.process.child import tell

if TYPE_CHECKING:
    import onnx_ir as ir

_GRAPH, _FOUND = "quantized.onnx", "found.json"
_LIBRARIES = ("nncf", "onnxruntime", "onnx", "onnx-ir", "numpy")


@dataclass(frozen=True)
class CalibrationRequest:
    """One calibration to do.

    Attributes:
        graph: the float32 ONNX file, and `model`, the same read.
        options: of the pass; the accuracy budget plays no part.
        exclude: names of the nodes that stay float.
    """

    graph: Path
    model: ir.Model
    options: QuantizeOptions
    exclude: Collection[str]


def calibrate(work: CalibrationRequest, samples: CalibrationSamples, target: Path, store: Store) -> dict[str, Any]:
    """Write the quantized graph to `target`, from the store or made now; what there is to say of it goes to notes.

    Returns:
        For the manifest: `calibration`, and the channels that are `dead` and `constant`.

    Raises:
        UsageError: there are no samples, or they do not fit the model.
        ExportError: the quantizer cannot, or quantized no layer.
    """
    samples.read()
    key = _key(work, samples)
    entry = target.with_name("calibration")
    with store.making(key):
        if store.get(key, entry, samples.notes.append):
            tell("the calibration is in the cache")
        else:
            _make(work, samples, entry)
            _keep(samples, key, entry, store)
    (entry / _GRAPH).replace(target)
    found = json.loads((entry / _FOUND).read_text(encoding="utf-8"))
    if (told := in_words(found["channels"])) is not None:
        samples.notes.append(told)
    about: dict[str, Any] = {"key": key, "samples": len(samples.digests)}
    if found["ranges"]:
        about |= {"ranges": max(found["ranges"], key=found["ranges"].__getitem__), "sqnr_db": found["ranges"]}
    return {"calibration": about, **found["channels"]}


def _keep(samples: CalibrationSamples, key: str, entry: Path, store: Store) -> None:
    if samples.changed:
        why = "the calibration samples were others each time they were read: it cannot be used again"
        samples.notes.append(why)
    else:
        store.put(key, entry)


def _make(work: CalibrationRequest, samples: CalibrationSamples, entry: Path) -> None:
    """Quantize, and look at the channels, into the new folder `entry`."""
    import onnx_ir as ir

    entry.mkdir()
    attention = has_attention(ir.to_proto(work.model.graph))
    data = Calibration(samples, samples.count, work.exclude, attention, len(samples.digests))
    ranges = quantize_with_best_ranges(work.graph, work.model, work.options, data, entry / _GRAPH)
    if not any(layer.quantized for layer in layers(ir.load(str(entry / _GRAPH)))):
        raise ExportError(f"{work.options.quantizer} quantized none of the graph's layers")
    channels = silent_channels(work.model, samples, len(samples.digests), entry)
    kept = {"channels": channels, "ranges": {name: round(value, 2) for name, value in ranges.items()}}
    (entry / _FOUND).write_text(json.dumps(kept), encoding="utf-8")


def _key(work: CalibrationRequest, samples: CalibrationSamples) -> str:
    """The digest of all that a calibration depends on."""
    key = Key()
    for file in _files(work.graph):
        key.add("graph", _digest(file))
    key.add("quantizer", f"{work.options.quantizer} {work.options.calibrate}")
    key.add("exclude", json.dumps(sorted(work.exclude)))
    key.add("samples", f"{samples.count}")
    for digest in samples.digests:
        key.add("sample", digest)
    for library in _LIBRARIES:
        key.add(library, _version(library))
    key.add("burnish", burnish_version())
    key.add("code", source_digest(__name__))
    return key.hex()


def _files(graph: Path) -> list[Path]:
    """An ONNX file and those of its external data."""
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    tensors = onnx.load(str(graph), load_external_data=False).graph.initializer
    return [
        graph,
        *sorted({graph.parent / ExternalDataInfo(one).location for one in tensors if uses_external_data(one)}),
    ]


def _digest(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"
