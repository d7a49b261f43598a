"""OpenVINO artifacts (IR), run on the CPU."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any

from runtimes.artifact import Artifact
from runtimes.errors import ArtifactError
from runtimes.machine import cache_folder
from runtimes.session import Session, SessionOptions
from runtimes.spec import Arrays, Dims, Specs
from runtimes.validator.probes import best_sizes

INSTALL = "pip install 'burnish[openvino]'"
DEVICE = "CPU"
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_EXECUTED = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "u8": "int8", "i8": "int8", "f64": "fp64"}
# Layers as the CPU plugin runs them; what it fuses into a Subgraph (attention) is told apart by its parts.
_KERNELS = {
    "Convolution",
    "Deconvolution",
    "DeformableConvolution",
    "FullyConnected",
    "MatMul",
    "GatherMatmul",
    "ScaledDotProductAttention",
    "RNNCell",
    "RNNSeq",
}
_NO_LAYERS = {"Const", "Input", "Output"}


class OpenVinoRuntime:
    """Opens `format: openvino`."""

    needs_torch = False

    def missing(self, device: str, build: Mapping[str, Any]) -> str | None:
        """The package, and a CPU that computes in the precision that the artifact was made for."""
        if not find_spec("openvino"):
            return f"openvino is not installed: {INSTALL}"
        return lacking(build.get("inference_precision", "fp32"))

    def open(self, artifact: Artifact, device: str, options: SessionOptions) -> Session:
        """Read the IR and compile it for the sizes to be fastest at."""
        import openvino

        made = artifact.manifest
        settings = properties(made.build, options.threads)
        if options.cache:
            settings |= _cache_dir(artifact)
        try:
            core = openvino.Core()
            model = core.read_model(artifact.entry)
            return OpenVinoSession(core, model, settings, made.inputs, made.outputs, made.dims)
        except Exception as error:  # openvino's exceptions share no base class of their own
            raise ArtifactError(f"OpenVINO cannot load {artifact.entry.name}: {error}") from error


class OpenVinoSession(Session):
    """A model compiled for the sizes to be fastest at, and, once another size comes, for all of them.

    Fixed sizes are 7 to 10 % faster than a range (MobileNetV2, batch 1). As each thread has requests of its own, a
    session may run in several threads at once.
    """

    def __init__(
        self, core: Any, model: Any, settings: dict[str, Any], inputs: Specs, outputs: Specs, dims: Dims
    ) -> None:
        super().__init__(inputs, outputs, dims)
        self._core, self._model, self._settings = core, model, settings
        self._best = {name: spec.concrete(best_sizes(dims)) for name, spec in inputs.items()}
        self._fixed = core.compile_model(at_best_sizes(model, inputs, dims), DEVICE, settings)
        self._ranges: Any = None
        self._compiling, self._threads = threading.Lock(), threading.local()

    def compute_layers(self) -> dict[str, int]:
        """As the CPU runs them, which need not be as the exporter's did."""
        return count_layers(self._fixed, self._model)["compute_layers"]

    def _run(self, inputs: Arrays) -> Arrays:
        fits = all(inputs[name].shape == shape for name, shape in self._best.items())
        request = self._request("fixed" if fits else "ranges")
        # Both ways by copies: the request's own buffers are overwritten by its next run.
        results = request.infer({index: inputs[name] for index, name in enumerate(self.inputs)})
        return dict(zip(self.outputs, results.to_tuple(), strict=True))

    def _request(self, sizes: str) -> Any:
        """This thread's request for the best sizes (`fixed`) or for all (`ranges`)."""
        request = getattr(self._threads, sizes, None)
        if request is None:
            compiled = self._fixed if sizes == "fixed" else self._all_sizes()
            request = compiled.create_infer_request()
            setattr(self._threads, sizes, request)
        return request

    def _all_sizes(self) -> Any:
        with self._compiling:
            if self._ranges is None:
                self._ranges = self._core.compile_model(self._model, DEVICE, self._settings)
        return self._ranges

    def _close(self) -> None:
        self._fixed = self._ranges = self._model = self._core = None
        self._threads = threading.local()


def at_best_sizes(model: Any, inputs: Specs, dims: Dims) -> Any:
    """The model with every dimension fixed at the size to be fastest at; itself where none is dynamic."""
    if not dims:
        return model
    fixed, sizes = model.clone(), best_sizes(dims)
    fixed.reshape({index: list(spec.concrete(sizes)) for index, spec in enumerate(inputs.values())})
    return fixed


def properties(build: Mapping[str, Any], threads: int | None) -> dict[str, Any]:
    """What a model is compiled with: a precision that is always said, a hint, threads.

    OpenVINO's own default is bfloat16 wherever the CPU has it; float32 means float32, as everywhere in Burnish.
    It would also pin its threads to cores of its choice, the same ones in every process: sessions run side by side.
    """
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[build.get("inference_precision", "fp32")],
        "PERFORMANCE_HINT": str(build.get("hint", "latency")).upper(),
        "ENABLE_CPU_PINNING": False,
        **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
    }


@cache
def _capabilities() -> tuple[str, ...]:
    import openvino

    return tuple(openvino.Core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))


def lacking(precision: str) -> str | None:
    """Why the CPU cannot compute in `precision`, or None. OpenVINO would take another one and not say so."""
    if precision not in _HINTS:
        return f"OpenVINO has no precision {precision!r}"
    if (name := precision.upper()) in (found := _capabilities()):
        return None
    own = ", ".join(one.lower() for one in ("FP32", "BF16", "FP16") if one in found)
    return f"this CPU does not compute in {name.lower()} (it does in {own})"


def count_layers(compiled: Any, model: Any) -> dict[str, dict[str, int]]:
    """Layers of a compiled model by type, and those that compute by the precision that they are executed in."""
    parts = {op.get_friendly_name() for op in model.get_ops() if op.get_type_name() == "MatMul"}
    operators, compute = Counter[str](), Counter[str]()
    for layer in compiled.get_runtime_model().get_ops():
        facts = layer.get_rt_info()
        kind, executed, origin = (
            str(facts[key].value) for key in ("layerType", "runtimePrecision", "originalLayersNames")
        )
        if kind in _NO_LAYERS:
            continue
        operators[kind] += 1
        fused = sum(name in parts for name in origin.split(",")) if kind == "Subgraph" else 0
        if computing := fused or int(kind in _KERNELS):
            compute[_EXECUTED.get(executed, executed)] += computing
    return {"operators": dict(operators.most_common()), "compute_layers": dict(compute)}


def _cache_dir(artifact: Artifact) -> dict[str, str]:
    """Where OpenVINO keeps what it compiled; nowhere if that folder cannot be written.

    The folder is named after the verified files: OpenVINO itself tells models apart by path and time of change, and
    would run an old one that was replaced within a second.
    """
    files = {name: entry.sha256 for name, entry in artifact.manifest.files.items()}
    folder = cache_folder() / "openvino" / hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return {}
    return {"CACHE_DIR": str(folder)} if os.access(folder, os.W_OK) else {}
