"""OpenVINO artifacts (IR), run on the CPU, and on Intel's GPUs and NPUs."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

from runtimes.artifact.artifact import Artifact
from runtimes.engines.openvino.blobs import BlobFolder, prune, use
from runtimes.engines.openvino.layers import count_layers
from runtimes.engines.openvino.safety import check_ir
from runtimes.errors import ArtifactError, InputError
from runtimes.machine.intel import INSTALL, PLUGINS
from runtimes.machine.machine import cache_folder
from runtimes.machine.telemetry import refuse_telemetry
from runtimes.session import Session, SessionOptions
from runtimes.spec import Arrays, DimRange, Dims, Specs, best_sizes, mismatch

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoRuntime:
    """Opens `format: openvino`."""

    needs_torch = False
    runs_code = False

    def missing(self, device: str, build: Mapping[str, Any]) -> str | None:
        """Check for the package, and for a device that computes in the artifact's precision."""
        if not find_spec("openvino"):
            return f"openvino is not installed: {INSTALL}"
        precision = build.get("inference_precision")
        return lacking(precision, device) if precision else None

    def open(self, artifact: Artifact, device: str, options: SessionOptions) -> Session:
        """Read the IR and compile it for the sizes to be fastest at."""
        refuse_telemetry()
        import openvino

        check_ir(artifact)
        manifest = artifact.manifest
        blobs = _blob_folder(artifact, device) if options.cache else None
        settings = properties(manifest.build, options.threads, device)
        if blobs:
            settings["CACHE_DIR"] = str(blobs.path)
        kind = FixedSession if device == "intel-npu" else OpenVinoSession
        try:
            core = openvino.Core()
            model = core.read_model(artifact.entry)
            compiler = Compiler(core, PLUGINS[device], settings, blobs)
            session = kind(compiler, model, manifest.inputs, manifest.outputs, manifest.dims)
        except Exception as error:  # openvino's exceptions share no base class
            if blobs:
                blobs.close()
            raise ArtifactError(f"OpenVINO cannot load {artifact.entry.name}: {error}") from error
        if blobs:
            prune(blobs.path.parent)
        return session


@dataclass(frozen=True)
class Compiler:
    """Plugin and settings by which models are compiled, and the folder of compiled models."""

    core: Any
    plugin: str
    settings: dict[str, Any]
    blobs: BlobFolder | None = None

    def compile(self, model: Any) -> Any:
        """Compile a model, or read it from the folder. Raises OpenVINO's errors."""
        if self.blobs:
            self.blobs.remove_damaged()
        compiled = self.core.compile_model(model, self.plugin, self.settings)
        if self.blobs:
            self.blobs.keep_digests()
        return compiled


class OpenVinoSession(Session):
    """A model compiled for the best sizes, and, at the first other size, for all of them.

    Fixed sizes are 7 to 10 % faster than a range (MobileNetV2, batch 1). As each thread has
    requests of its own, a session may run in several threads at once.
    """

    shares_memory = False  # `_run` copies both ways

    def __init__(
        self, compiler: Compiler, model: Any, inputs: Specs, outputs: Specs, dims: Dims
    ) -> None:
        super().__init__(inputs, outputs, dims)
        self._model = model
        self._compiler: Any = compiler
        self._best = {name: spec.concrete(best_sizes(dims)) for name, spec in inputs.items()}
        self._fixed = compiler.compile(at_best_sizes(model, inputs, dims))
        self._ranges: Any = None
        self._compiling, self._threads = threading.Lock(), threading.local()

    def compute_layers(self) -> dict[str, int] | None:
        """Return the counts on this device, which may differ from those of the exporter's CPU."""
        return count_layers(self._fixed, self._model)["compute_layers"]

    def _run(self, inputs: Arrays) -> Arrays:
        fits = all(inputs[name].shape == shape for name, shape in self._best.items())
        request = self._request("fixed" if fits else "ranges")
        # Both ways by copies: the request's own buffers are overwritten by its next run.
        results = request.infer({index: inputs[name] for index, name in enumerate(self.inputs)})
        return dict(zip(self.outputs, results.to_tuple(), strict=True))

    def _request(self, sizes: str) -> Any:
        """Return this thread's request for the best sizes (`fixed`) or for all (`ranges`)."""
        request = getattr(self._threads, sizes, None)
        if request is None:
            compiled = self._fixed if sizes == "fixed" else self._all_sizes()
            request = compiled.create_infer_request()
            setattr(self._threads, sizes, request)
        return request

    def _all_sizes(self) -> Any:
        with self._compiling:
            if self._ranges is None:
                self._ranges = self._compiler.compile(self._model)
        return self._ranges

    def _close(self) -> None:
        blobs = self._compiler.blobs
        self._fixed = self._ranges = self._model = self._compiler = None
        self._threads = threading.local()
        if blobs:
            blobs.close()


class FixedSession(OpenVinoSession):
    """A session on a device without dynamic shapes, such as an NPU: the best sizes and no others.

    `dims` are these sizes, so that callers see the sizes that can run.
    """

    def __init__(
        self, compiler: Compiler, model: Any, inputs: Specs, outputs: Specs, dims: Dims
    ) -> None:
        super().__init__(compiler, model, inputs, outputs, dims)
        self._promised = dims
        self.dims = {name: DimRange(min=dim.best, max=dim.best) for name, dim in dims.items()}

    def answer(self, inputs: Mapping[str, Any]) -> Arrays:
        """See `Session.answer`; InputError explains why sizes are legal only on other devices."""
        wrong = mismatch(inputs, self.inputs, self.dims)
        if wrong and mismatch(inputs, self.inputs, self._promised) is None:
            sizes = ", ".join(f"{name}={dim.best}" for name, dim in self.dims.items())
            raise InputError(
                f"{wrong}. NPUs take fixed sizes only; this artifact is compiled for {sizes} there "
                "(`opt` in `dims:`): run other sizes on another device, or build an artifact "
                "for each"
            )
        return super().answer(inputs)

    def compute_layers(self) -> dict[str, int] | None:
        """Return None: the NPU plugin's runtime model has no layers."""
        return None


def at_best_sizes(model: Any, inputs: Specs, dims: Dims) -> Any:
    """Return the model with every dimension fixed at its best size; itself if none is dynamic."""
    if not dims:
        return model
    fixed, sizes = model.clone(), best_sizes(dims)
    shapes = {index: list(spec.concrete(sizes)) for index, spec in enumerate(inputs.values())}
    fixed.reshape(shapes)
    return fixed


def properties(
    build: Mapping[str, Any], threads: int | None, device: str = "cpu"
) -> dict[str, Any]:
    """Return the properties to compile with: a hint, a precision if there is a choice, CPU threads.

    OpenVINO's own default is bfloat16 wherever the CPU has it, and float16 on GPUs; float32 means
    float32, as everywhere in Burnish. NPUs compute in float16, and only some of their compilers
    accept the property. On the CPU OpenVINO would also pin its threads to cores of its choice, the
    same ones in every process, but sessions run side by side. On a GPU the throughput hint would
    collect single requests into batches, for which each waits up to a second.
    """
    hint = {"PERFORMANCE_HINT": str(build.get("hint", "latency")).upper()}
    if device == "intel-npu":
        return hint
    common = {**hint, "INFERENCE_PRECISION_HINT": _HINTS[build.get("inference_precision", "fp32")]}
    if device == "intel-gpu":
        return {**common, "ALLOW_AUTO_BATCHING": False}
    on_cpu = {**common, "ENABLE_CPU_PINNING": False}
    return {**on_cpu, "INFERENCE_NUM_THREADS": threads} if threads else on_cpu


@cache
def _capabilities(plugin: str) -> tuple[str, ...]:
    refuse_telemetry()
    import openvino

    return tuple(openvino.Core().get_property(plugin, "OPTIMIZATION_CAPABILITIES"))


def lacking(precision: str, device: str = "cpu") -> str | None:
    """Return why a device cannot compute in `precision`, or None.

    OpenVINO itself would silently use another precision.
    """
    if precision not in _HINTS:
        return f"OpenVINO has no precision {precision!r}"
    capabilities = _capabilities(PLUGINS[device])
    if precision.upper() in capabilities:
        return None
    supported = [name for name in ("fp32", "bf16", "fp16") if name.upper() in capabilities]
    alternatives = f"it does in {', '.join(supported)}"
    return f"this {PLUGINS[device]} does not compute in {precision.lower()} ({alternatives})"


def _blob_folder(artifact: Artifact, device: str) -> BlobFolder | None:
    """Return the folder of the artifact's compiled models, or None if it cannot be written.

    The folder is named after the verified files: OpenVINO itself identifies models by path and time
    of change, and would run an old one that was replaced within a second.
    """
    files = {name: entry.sha256 for name, entry in artifact.manifest.files.items()}
    digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:16]
    return use(cache_folder() / "openvino", f"{digest}-{device}")
