"""What TensorRT leaves of a QDQ graph, as its builder tells it.

An engine can be inspected on a device only. But a builder that is asked for detailed profiling logs the layers of
the engine that it has made, the types that they read and the ONNX nodes that they do, and needs no device for that.
No version promises the form of the text: where it is not found, nothing is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from converters.graph.unfused.report import Unfused

_HEAD = "Layers:"
_LAYER = re.compile(r"LayerType: (?P<kind>\w+), Inputs: \[(?P<reads>.*?)\], (?:Constants|Outputs): \[")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_GENERATED = "kgen"  # elementwise work around the kernel of a layer, and sometimes that layer itself


def listening_logger(trt: Any, quiet: Any) -> tuple[Any, list[str]]:
    """A logger that prints what `quiet` does, and the list that it keeps the engine's layers in."""
    heard: list[str] = []

    class Logger(trt.ILogger):  # type: ignore[misc]
        """Told everything; keeps little."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            """Called by TensorRT."""
            if message.startswith(_HEAD):
                heard.extend(message.splitlines())
            if severity <= quiet.min_severity:
                quiet.log(severity, message)

    return Logger(), heard


def node_names(metadata: str) -> list[str]:
    """The ONNX nodes that a layer comes from, by what TensorRT notes of it."""
    return _NODE.findall(metadata)


def left_by_tensorrt(
    quantized: Mapping[str, str], heard: Sequence[str], paths: Mapping[str, str]
) -> list[Unfused] | None:
    """The layers with dequantized inputs and weights whose kernels read floats.

    Args:
        quantized: such layers of the network by their ONNX node, with TensorRT's word for what they do.
        heard: the engine's layers, as a `listening_logger` keeps them.
        paths: the module path of each ONNX node, by name.

    Returns None where the builder has not told.
    """
    if not any(_LAYER.search(line) for line in heard):
        return None
    why = "its kernel reads floats"
    return [
        Unfused(paths.get(name) or name, kind, why)
        for name, kind in quantized.items()
        if _reads_floats(name, heard)
    ]


def _reads_floats(name: str, heard: Sequence[str]) -> bool:
    """Whether the kernels that do a node are known, and none of them reads integers."""
    found = [match for line in heard if name in node_names(line) and (match := _LAYER.search(line))]
    kernels = [match for match in found if match["kind"] != _GENERATED] or found
    return bool(kernels) and not any("Datatype: Int8" in match["reads"] for match in kernels)
