"""Try a QDQ graph in the engine that it is meant for: its outputs, its latency, what each of its nodes takes."""

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
from runtimes.machine.machine import own_cpu
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import onnx_ir as ir

_WARM_UP, _RUNS = 10, 30


class Trial(ABC):
    """A graph loaded into an engine."""

    @abstractmethod
    def run(self, inputs: Arrays) -> list[np.ndarray[Any, Any]]:
        """The outputs, in order."""

    @abstractmethod
    def profile(self, inputs: Arrays) -> dict[str, float]:
        """Microseconds of each executed node, by the name that the engine gives it."""

    def milliseconds(self, inputs: Arrays) -> float:
        """The lower quartile of some runs: an estimate to choose by, not one to report a speed-up with."""
        times = []
        for _ in range(_WARM_UP + _RUNS):
            start = time.perf_counter()
            self.run(inputs)
            times.append(time.perf_counter() - start)
        return float(np.percentile(times[_WARM_UP:], 25) * 1e3)


def trial(format: str, model: ir.Model, precision: str) -> Trial:
    """Load a copy of `model` as artifacts of `format` run it; for TensorRT, which needs a GPU, in ONNX Runtime."""
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
        for name, value in settings.items():
            setattr(options, name, value)
        return onnxruntime.InferenceSession(self._bytes, options, providers=["CPUExecutionProvider"])

    def run(self, inputs: Arrays) -> list[np.ndarray[Any, Any]]:
        return list(self._session.run(None, inputs))

    def profile(self, inputs: Arrays) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            session = self._open(enable_profiling=True, profile_file_prefix=str(Path(folder, "profile")))
            for _ in range(_RUNS):
                session.run(None, inputs)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        times: dict[str, list[float]] = defaultdict(list)
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                times[event["name"].removesuffix("_kernel_time")].append(event["dur"])
        return {name: float(np.median(taken)) for name, taken in times.items()}


class _OpenVino(Trial):
    def __init__(self, model: ir.Model, precision: str) -> None:
        import onnx_ir as ir
        import openvino

        from runtimes.engines.openvino.openvino import properties

        core = openvino.Core()
        read = core.read_model(ir.to_proto(model).SerializeToString(), b"")
        read.reshape(
            {port: [1 if size.is_dynamic else size for size in port.partial_shape] for port in read.inputs}
        )
        settings = {**properties({"inference_precision": precision, "hint": "latency"}, None), "PERF_COUNT": True}
        self._request = core.compile_model(read, "CPU", settings).create_infer_request()

    def run(self, inputs: Arrays) -> list[np.ndarray[Any, Any]]:
        found = self._request.infer(dict(inputs))
        return [np.array(value) for value in found.values()]

    def profile(self, inputs: Arrays) -> dict[str, float]:
        times: dict[str, list[float]] = defaultdict(list)
        for _ in range(_RUNS):
            self._request.infer(dict(inputs))
            for one in self._request.profiling_info:
                times[one.node_name].append(one.real_time.total_seconds() * 1e6)
        return {name: float(np.median(taken)) for name, taken in times.items()}


def layer_times(profile: Mapping[str, float], nodes: list[ir.Node]) -> dict[str, float | None]:
    """Microseconds of each layer; None where the engine fused it under a name that does not tell."""
    return {str(node.name): _time(profile, _labels(node)) for node in nodes}


def _labels(node: ir.Node) -> list[str]:
    """What engines call a layer: its own name, its output's, or that of the activation they fuse it with."""
    values = [node.outputs[0], *(reader.outputs[0] for reader in users(node.outputs[0]))]
    return [str(node.name), *(str(value.name) for value in values)]


def _time(profile: Mapping[str, float], labels: list[str]) -> float | None:
    for label in labels:
        named = re.compile(re.escape(label) + r"(_token_\d+|_nchwc|/WithoutBiases)?")
        if found := [taken for name, taken in profile.items() if named.fullmatch(name)]:
            return max(found)
    return None
