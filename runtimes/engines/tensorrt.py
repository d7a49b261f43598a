"""TensorRT engines, classic and RTX: one API in two modules, with memory of the CUDA runtime."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from runtimes.artifact.artifact import Artifact
from runtimes.errors import ArtifactError, BurnishError, printable
from runtimes.session import Session, SessionOptions
from runtimes.spec import Arrays, Dims, Specs, graph_outputs

PACKAGES = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
INSTALL = {
    "tensorrt": "pip install 'burnish[tensorrt]'",
    "rtx": "pip install 'burnish[tensorrt-rtx]'",
}


class TensorRtRuntime:
    """Opens `format: tensorrt` with the flavor that built it: each reads only its own engines."""

    needs_torch = False
    runs_code = True

    def missing(self, device: str, build: Mapping[str, Any]) -> str | None:
        """Return a missing package: of the flavor that built it (or of all), or CUDA's bindings."""
        if build.get("flavor", "rtx") not in PACKAGES:
            return f"there is no TensorRT of the flavor {build['flavor']!r}"
        flavors = [build["flavor"]] if "flavor" in build else list(PACKAGES)
        problems = list(map(missing_flavor, flavors))
        if all(problems):
            return problems[0]
        return missing_cuda_bindings()

    def open(self, artifact: Artifact, device: str, options: SessionOptions) -> Session:
        """Deserialize the engine and create an execution context."""
        manifest, build = artifact.manifest, artifact.manifest.build
        trt = importlib.import_module(PACKAGES[build["flavor"]])
        plan = artifact.entry.read_bytes()
        session = session_of(trt, plan, manifest.inputs, manifest.outputs, manifest.dims)
        if session is None:
            raise ArtifactError(
                f"TensorRT cannot load {artifact.entry.name}: it was built by {build['flavor']} "
                f"{build['version']} for compute capabilities {build['compute_capabilities']}, "
                f"this is {trt.__version__}. Build it again here."
            )
        return session


def session_of(
    trt: Any, plan: bytes, inputs: Specs, outputs: Specs, dims: Dims
) -> TensorRtSession | None:
    """Return a session on a serialized engine; None if this TensorRT cannot load it."""
    engine = trt.Runtime(quiet_logger(trt)).deserialize_cuda_engine(plan)
    return None if engine is None else TensorRtSession(trt, engine, inputs, outputs, dims)


class TensorRtSession(Session):
    """An execution context with a stream and buffers that grow to the largest request so far."""

    shares_memory = False  # inputs and outputs are copied to the device and from it

    def __init__(self, trt: Any, engine: Any, inputs: Specs, outputs: Specs, dims: Dims) -> None:
        super().__init__(inputs, outputs, dims)
        self._trt, self._engine = trt, engine
        self._context = engine.create_execution_context()
        if self._context is None:
            raise BurnishError(
                "TensorRT could not create an execution context: not enough device memory?"
            )
        self._cuda = _Cuda()
        self._stream = self._cuda.check("cudaStreamCreate")
        self._buffers: dict[str, tuple[int, int]] = {}
        self._running = threading.Lock()  # the context and its buffers serve one call at a time

    def _run(self, inputs: Arrays) -> Arrays:
        with self._running:
            return self._answer(inputs)

    def _answer(self, inputs: Arrays) -> Arrays:
        # Not ascontiguousarray, which makes a vector of a scalar.
        arrays = {name: np.asarray(inputs[name], order="C") for name in self.inputs}
        for name, array in arrays.items():
            if not self._context.set_input_shape(name, array.shape):
                raise BurnishError(f"TensorRT refuses the shape {list(array.shape)} for {name!r}")
            address = self._bind(name, array.nbytes)
            self._cuda.copy(address, array.ctypes.data, array.nbytes, True, self._stream)
        graph_names = graph_outputs(self.inputs, self.outputs)
        results = {name: self._allocate(inner) for name, inner in graph_names.items()}
        if not self._context.execute_async_v3(int(self._stream)):
            raise BurnishError("TensorRT could not run the engine; its log says why")
        for name, array in results.items():
            address, _ = self._buffers[graph_names[name]]
            self._cuda.copy(array.ctypes.data, address, array.nbytes, False, self._stream)
        self._cuda.check("cudaStreamSynchronize", self._stream)
        return results

    def _allocate(self, name: str) -> np.ndarray[Any, Any]:
        shape = tuple(self._context.get_tensor_shape(name))
        if min(shape, default=1) < 0:
            raise BurnishError(f"the shape of {name!r} depends on the data ({shape}): unsupported")
        dtype = self._trt.nptype(self._engine.get_tensor_dtype(name))
        array: np.ndarray[Any, Any] = np.empty(shape, dtype)
        self._bind(name, array.nbytes)
        return array

    def _bind(self, name: str, size: int) -> int:
        """Bind a buffer of at least `size` bytes to the tensor; return its device address."""
        address, room = self._buffers.get(name, (0, 0))
        if room < size or not address:
            if address:
                self._cuda.check("cudaFree", address)
                del self._buffers[name]
            address, room = int(self._cuda.check("cudaMalloc", max(size, 1))), size
            self._buffers[name] = (address, room)
        self._context.set_tensor_address(name, address)
        return address

    def _close(self) -> None:
        with self._running:  # a call in another thread ends first
            self._free()

    def _free(self) -> None:
        for address, _ in self._buffers.values():
            self._cuda.check("cudaFree", address)
        self._buffers.clear()
        self._cuda.check("cudaStreamDestroy", self._stream)
        self._context = self._engine = None


class _Cuda:
    """Calls of the CUDA runtime, with errors raised instead of returned."""

    def __init__(self) -> None:
        self._runtime: Any = importlib.import_module("cuda.bindings.runtime")

    def check(self, function: str, *args: Any) -> Any:
        """Call `function` and return its result. Raises BurnishError with CUDA's message."""
        call: Callable[..., tuple[Any, ...]] = getattr(self._runtime, function)
        status, *results = call(*args)
        if status != self._runtime.cudaError_t.cudaSuccess:
            words = self._runtime.cudaGetErrorString(status)[1].decode()
            raise BurnishError(f"{function}: {words}")
        return results[0] if results else None

    def copy(self, target: int, source: int, size: int, to_device: bool, stream: Any) -> None:
        """Copy `size` bytes between host and device on `stream`."""
        kinds = self._runtime.cudaMemcpyKind
        kind = kinds.cudaMemcpyHostToDevice if to_device else kinds.cudaMemcpyDeviceToHost
        self.check("cudaMemcpyAsync", target, source, size, kind, stream)


def missing_flavor(flavor: str) -> str | None:
    """Return why a flavor's package cannot be used here, or None; it is not imported."""
    if not find_spec(PACKAGES[flavor]):
        return f"{PACKAGES[flavor]} is not installed: {INSTALL[flavor]}"
    return None


def missing_cuda_bindings() -> str | None:
    """Return why the CUDA runtime cannot be called, or None."""
    if not find_spec("cuda") or not find_spec("cuda.bindings"):
        return "cuda-bindings is not installed: pip install cuda-bindings"
    return None


def quiet_logger(trt: Any) -> Any:
    """Return a logger that prints errors only, without the escapes that names in a plan may have."""
    severities = trt.ILogger.Severity

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (severities.INTERNAL_ERROR, severities.ERROR):
                text = printable(message).replace("\n", "\n  ")
                sys.stderr.write(f"[TensorRT] {text}\n")

    return Logger()
