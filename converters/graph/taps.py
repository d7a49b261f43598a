"""Inner values of a float32 graph while it runs, each reduced to a few numbers before it leaves the run."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.errors import ExportError
from runtimes.progress import counted
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

# Values that are measured in one run: ONNX Runtime keeps most of what is tapped until the run ends.
TAPS = 64

Array = np.ndarray[Any, Any]
Reduce = Callable[["onnx.GraphProto", str, str], Sequence[str]]
"""Adds nodes that reduce a value (its name comes second) to float32 numbers, and returns the names of these; all
names that it adds end in the third."""


def reduced(
    model: ir.Model, values: Mapping[str, Reduce], samples: Iterable[Arrays], folder: Path
) -> Iterator[tuple[str, list[Array]]]:
    """What the `values` of the graph are reduced to: the name of one and its numbers, for every sample.

    Args:
        model: in float32.
        values: names of values, and how each is reduced.
        samples: inputs; gone through once for every `TAPS` values.
        folder: for files that are gone afterwards.

    Raises ExportError where ONNX Runtime cannot run the graph.
    """
    import onnx
    import onnx_ir as ir

    names = list(values)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / "tapped.onnx"
        ir.save(model, str(path), external_data="tapped.data")
        plain = onnx.load(str(path), load_external_data=False)
        for start in counted(range(0, len(names), TAPS), "groups of values"):
            chunk = {name: values[name] for name in names[start : start + TAPS]}
            tapped, outputs = _tapped(plain, chunk)
            for found in _run(tapped, samples, Path(scratch)):
                numbers = iter(found)
                yield from ((name, [next(numbers) for _ in outputs[name]]) for name in chunk)


def _tapped(model: onnx.ModelProto, values: Mapping[str, Reduce]) -> tuple[onnx.ModelProto, dict[str, list[str]]]:
    """A copy whose outputs are the numbers alone: the tensors need not leave the run. Also the outputs by value."""
    import onnx
    from onnx import helper

    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    del tapped.graph.output[:]
    outputs = {}
    for number, (value, reduce) in enumerate(values.items()):
        outputs[value] = list(reduce(tapped.graph, value, f"burnish {number}"))
        kind = onnx.TensorProto.FLOAT
        tapped.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name in outputs[value])
    return tapped, outputs


def _run(model: onnx.ModelProto, samples: Iterable[Arrays], folder: Path) -> Iterator[list[Array]]:
    """The outputs of each sample; weights are read from `folder`."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # an error is raised too
    # A fused kernel has no inner values.
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    with _in_words():
        engine = onnxruntime.InferenceSession(model.SerializeToString(), settings, ["CPUExecutionProvider"])
    for sample in counted(samples, "samples"):
        with _in_words():
            found = engine.run(None, sample)
        yield found


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise ExportError(
            f"inner values cannot be measured, ONNX Runtime does not run the float32 graph: {error}"
        ) from error
