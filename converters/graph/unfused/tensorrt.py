"""Layers of a QDQ graph that TensorRT does not fuse, as its builder logs them.

An engine can be inspected on a device only. But with detailed profiling a builder logs the layers
of the engine, the types that they read and the ONNX nodes that they compute, and needs no device
for that. No version guarantees the format of the text: if it does not match, nothing is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from converters.graph.unfused.report import Unfused

_HEAD = "Layers:"
_LAYER = re.compile(
    r"LayerType: (?P<kind>\w+), Inputs: \[(?P<reads>.*?)\], (?:Constants|Outputs): \["
)
_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
# Elementwise work around the kernel of a layer, and sometimes that layer itself.
_GENERATED = "kgen"


def listening_logger(trt: Any, quiet: Any) -> tuple[Any, list[str]]:
    """Return a logger that prints the same as `quiet`, and the list that it logs layers to."""
    layer_lines: list[str] = []

    class Logger(trt.ILogger):  # type: ignore[misc]
        """A logger that receives all messages and keeps the layers."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            """Log a message; TensorRT calls this."""
            if message.startswith(_HEAD):
                layer_lines.extend(message.splitlines())
            quiet.log(severity, message)

    return Logger(), layer_lines


def node_names(metadata: str) -> list[str]:
    """Return the ONNX nodes that a layer comes from, by its metadata."""
    return _NODE.findall(metadata)


def find_unfused_in_tensorrt(
    quantized: Mapping[str, str], layer_lines: Sequence[str], paths: Mapping[str, str]
) -> list[Unfused] | None:
    """Return the layers with dequantized inputs and weights whose kernels read floats.

    Args:
        quantized: such layers of the network by their ONNX node, with TensorRT's name of the
            operation.
        layer_lines: the engine's layers, from a `listening_logger`.
        paths: the module path of each ONNX node, by name.

    Returns None if the builder has not logged the layers.
    """
    if not any(map(_LAYER.search, layer_lines)):
        return None
    unfused = []
    for name, kind in quantized.items():
        if _reads_floats(name, layer_lines):
            unfused.append(Unfused(paths.get(name) or name, kind, "its kernel reads floats"))
    return unfused


def _reads_floats(name: str, layer_lines: Sequence[str]) -> bool:
    """Whether the kernels that compute a node are known, and none of them reads integers."""
    matches = []
    for line in layer_lines:
        match = _LAYER.search(line)
        if match and name in node_names(line):
            matches.append(match)
    kernels = [match for match in matches if match["kind"] != _GENERATED] or matches
    return bool(kernels) and not any("Datatype: Int8" in match["reads"] for match in kernels)
