"""Calibration, done once for all who need the same: what it leaves is kept in the user's cache folder.

NNCF finds the ranges of activations and corrects biases in turns, so what is kept is not statistics but the
quantized graph, before any accuracy budget is searched, and what was noticed about the model's channels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters import names
from converters.cache import Key, Store
from converters.data import CALIBRATION, calibration_batches
from converters.exporters.base import ExportError
from converters.passes.quantize.channels import in_words, silent_channels
from converters.passes.quantize.estimators import quantize_with_best_ranges
from converters.passes.quantize.options import QuantizeOptions
from converters.passes.quantize.qdq import layers
from converters.passes.quantize.static import Calibration, has_attention
from converters.recipe import Recipe
from runtimes.child import tell
from runtimes.machine import burnish_version
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import onnx_ir as ir

_GRAPH, _FOUND = "quantized.onnx", "found.json"
_LIBRARIES = ("nncf", "onnxruntime", "onnx", "onnx-ir", "numpy")
_CODE = Path(__file__).parents[1]
"""The package of passes: a rule that changed there may change a calibration, so that each part of it counts."""


@dataclass(frozen=True)
class Work:
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


def calibrate(work: Work, samples: Samples, target: Path, store: Store) -> dict[str, Any]:
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


def _keep(samples: Samples, key: str, entry: Path, store: Store) -> None:
    if samples.changed:
        why = "the calibration samples were others each time they were read: it cannot be used again"
        samples.notes.append(why)
    else:
        store.put(key, entry)


def _make(work: Work, samples: Samples, entry: Path) -> None:
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


def _key(work: Work, samples: Samples) -> str:
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
    for source in (*sorted(_CODE.rglob("*.py")), Path(names.__file__)):
        key.add(source.name, _digest(source))
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


class Samples:
    """The calibration samples, read anew from their files each time they are gone through: one is in memory.

    Attributes:
        count: how many there are at most.
        notes: what is noticed while reading is added here, once.
        digests: of each, as the model takes it; known after `read`.
        changed: whether one was another when it was read again.
    """

    def __init__(self, recipe: Recipe, folder: Path, count: int | None, notes: list[str]) -> None:
        """`count`: of the pass; by default all that the recipe's `data.calibration` has."""
        self._source, self.notes = (recipe, folder, count), notes
        source = recipe.data.calibration
        most = (source.samples if source else None) or CALIBRATION
        self.count = min(count, most) if count else most
        self.digests: list[bytes] = []
        self.changed = False
        if source and source.random is not None:
            notes.append("calibrated with noise, not with data: its ranges and its accuracy are those of noise")

    def read(self) -> None:
        """Go through all of them once. Raises UsageError as `calibration_batches` does."""
        found: list[str] = []
        samples = calibration_batches(*self._source, found.append, "calibration samples")
        self.digests = [_fingerprint(sample) for sample in samples]
        self.notes += found

    def __iter__(self) -> Iterator[Arrays]:
        """Go through the samples from the start."""
        index = -1
        for index, sample in enumerate(calibration_batches(*self._source)):
            self.changed |= index >= len(self.digests) or self.digests[index] != _fingerprint(sample)
            yield sample
        self.changed |= index + 1 != len(self.digests)


def _fingerprint(sample: Arrays) -> bytes:
    """The digest of a sample's names, types, shapes and values."""
    key = Key()
    for name, array in sorted(sample.items()):
        key.add(f"{name} {array.dtype.str} {array.shape}", np.ascontiguousarray(array).tobytes())
    return key.hex().encode()
