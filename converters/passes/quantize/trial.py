"""Trial runs of a QDQ graph in its target engine: outputs, latency, time of each node."""

from __future__ import annotations

import json
import re
import tempfile
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.graph.lower import lower_for_onnxruntime
from converters.graph.lower_tensorrt import lower_for_tensorrt
from converters.graph.qdq import users
from runtimes.engines.onnx.onnx import PRECISE_BYTES
from runtimes.machine.machine import own_cpu
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import onnx_ir as ir

_WARM_UP, _RUNS = 10, 30


class Trial(ABC):
    """A graph loaded into an engine."""

    @abstractmethod
    def run(self, inputs: Arrays) -> list[np.ndarray[Any, Any]]:
        """Return the outputs, in order."""

    @abstractmethod
    def profile(self, inputs: Arrays) -> dict[str, float]:
        """Return the microseconds of each executed node, by its name in the engine."""

    def milliseconds(self, inputs: Arrays) -> float:
        """Return the lower quartile of some runs: an estimate for choices, not for reports."""
        times = []
        for _ in range(_WARM_UP + _RUNS):
            start = time.perf_counter()
            self.run(inputs)
            times.append(time.perf_counter() - start)
        return float(np.percentile(times[_WARM_UP:], 25) * 1e3)


def trial(format: str, model: ir.Model, precision: str) -> Trial:
    """Load a copy of `model` as artifacts of `format` run it.

    For TensorRT, which needs a GPU, it is loaded in ONNX Runtime.
    """
    import onnx_ir as ir

    copy = ir.from_proto(ir.to_proto(model))
    if format == "openvino":
        return _OpenVino(copy, precision)
    if format == "tensorrt":
        lower_for_tensorrt(copy)
    else:
        lower_for_onnxruntime(copy, own_cpu())
    return _OnnxRuntime(copy)


class _OnnxRuntime(Trial):
    def __init__(self, model: ir.Model) -> None:
        import onnx_ir as ir

        self._bytes = ir.to_proto(model).SerializeToString()

    @cached_property
    def _session(self) -> Any:
        return self._open()

    def _open(self, **settings: Any) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry(PRECISE_BYTES, "1")  # as a session does
        for name, value in settings.items():
            setattr(options, name, value)
        return onnxruntime.InferenceSession(
            self._bytes, options, providers=["CPUExecutionProvider"]
        )

    def run(self, inputs: Arrays) -> list[np.ndarray[Any, Any]]:
        return list(self._session.run(None, inputs))

    def profile(self, inputs: Arrays) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            session = self._open(
                enable_profiling=True, profile_file_prefix=str(Path(folder, "profile"))
            )
            for _ in range(_RUNS):
                session.run(None, inputs)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        times: dict[str, list[float]] = defaultdict(list)
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                times[event["name"].removesuffix("_kernel_time")].append(event["dur"])
        return _medians(times)


class _OpenVino(Trial):
    def __init__(self, model: ir.Model, precision: str) -> None:
        import onnx_ir as ir
        import openvino

        from runtimes.engines.openvino.openvino import properties

        core = openvino.Core()
        network = core.read_model(ir.to_proto(model).SerializeToString(), b"")
        shapes = {}
        for port in network.inputs:
            shapes[port] = [1 if size.is_dynamic else size for size in port.partial_shape]
        network.reshape(shapes)
        settings = properties({"inference_precision": precision, "hint": "latency"}, None)
        compiled = core.compile_model(network, "CPU", {**settings, "PERF_COUNT": True})
        self._request = compiled.create_infer_request()

    def run(self, inputs: Arrays) -> list[np.ndarray[Any, Any]]:
        outputs = self._request.infer(dict(inputs))
        return list(map(np.array, outputs.values()))

    def profile(self, inputs: Arrays) -> dict[str, float]:
        times: dict[str, list[float]] = defaultdict(list)
        for _ in range(_RUNS):
            self._request.infer(dict(inputs))
            for record in self._request.profiling_info:
                times[record.node_name].append(record.real_time.total_seconds() * 1e6)
        return _medians(times)


def _medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: float(np.median(values)) for name, values in times.items()}


def layer_times(profile: Mapping[str, float], nodes: list[ir.Node]) -> dict[str, float | None]:
    """Return the microseconds of each layer; None if the engine fused it under an unknown name."""
    return {str(node.name): _time(profile, _labels(node)) for node in nodes}


def _labels(node: ir.Node) -> list[str]:
    """Return names of a layer in engines: its own, its output's, its fused activation's."""
    output = node.outputs[0]
    labels = [str(node.name), str(output.name)]
    for reader in users(output):
        labels.append(str(reader.outputs[0].name))
    return labels


def _time(profile: Mapping[str, float], labels: list[str]) -> float | None:
    for label in labels:
        pattern = re.compile(re.escape(label) + r"(_token_\d+|_nchwc|/WithoutBiases)?")
        times = [time for name, time in profile.items() if pattern.fullmatch(name)]
        if times:
            return max(times)
    return None
