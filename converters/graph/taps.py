"""Inner values of a float32 graph, each reduced to a few numbers while the graph runs."""

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
"""Adds nodes that reduce a value (the second argument) to float32 numbers; returns their names.

All names that it adds end in the third argument."""


def reduce_values(
    model: ir.Model, values: Mapping[str, Reduce], samples: Iterable[Arrays], folder: Path
) -> Iterator[tuple[str, list[Array]]]:
    """Reduce the `values` of the graph; yield the name of each and its numbers, for each sample.

    Args:
        model: in float32.
        values: names of values, and how each is reduced.
        samples: inputs; iterated once per `TAPS` values.
        folder: for temporary files.

    Raises ExportError if ONNX Runtime cannot run the graph.
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
            for numbers in _run(tapped, samples, Path(scratch)):
                first = 0
                for name in chunk:
                    end = first + len(outputs[name])
                    yield name, numbers[first:end]
                    first = end


def _tapped(
    model: onnx.ModelProto, values: Mapping[str, Reduce]
) -> tuple[onnx.ModelProto, dict[str, list[str]]]:
    """Return a copy whose outputs are the numbers alone, and the names of the outputs by value.

    The tensors need not leave the run.
    """
    import onnx
    from onnx import helper

    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    del tapped.graph.output[:]
    outputs = {}
    for number, (value, reduce) in enumerate(values.items()):
        outputs[value] = list(reduce(tapped.graph, value, f"burnish {number}"))
        for name in outputs[value]:
            info = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            tapped.graph.output.append(info)
    return tapped, outputs


def _run(model: onnx.ModelProto, samples: Iterable[Arrays], folder: Path) -> Iterator[list[Array]]:
    """Yield the outputs of each sample; weights are read from `folder`."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # an error is raised too
    # A fused kernel has no inner values.
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(folder)
    )
    with _export_errors():
        engine = onnxruntime.InferenceSession(
            model.SerializeToString(), settings, ["CPUExecutionProvider"]
        )
    for sample in counted(samples, "samples"):
        with _export_errors():
            outputs = engine.run(None, sample)
        yield outputs


@contextlib.contextmanager
def _export_errors() -> Iterator[None]:
    """Raise ONNX Runtime's errors as ExportError."""
    try:
        yield
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise ExportError(
            f"cannot measure inner values: ONNX Runtime does not run the float32 graph: {error}"
        ) from error
