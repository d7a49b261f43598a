"""ONNX artifacts, run by ONNX Runtime on the CPU or through its CUDA provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtimes.artifact.artifact import Artifact
from runtimes.engines.onnx.safety import check_onnx
from runtimes.errors import ArtifactError, Unavailable
from runtimes.machine.bound import other_platform, other_version, recorded, vectors
from runtimes.session import Session, SessionOptions
from runtimes.spec import Arrays, graph_outputs

PRECISE_BYTES = "session.x64quantprecision"
"""Key of ONNX Runtime's switch against saturation where products of bytes are added in 16 bits.

That is on x86 without VNNI, and costs int8 there up to 18 dB. Elsewhere the switch changes nothing.
"""

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntime:
    """Opens `format: onnx`."""

    needs_torch = False
    runs_code = False

    def missing(self, device: str, build: Mapping[str, Any]) -> str | None:
        """Check for the device's execution provider, and for the CPU of a final graph."""
        import onnxruntime

        provider = _PROVIDERS[device]
        if provider not in onnxruntime.get_available_providers():
            return f"the installed onnxruntime has no {provider}: pip install onnxruntime-gpu"
        return _elsewhere(build) if is_final(build) else None

    def open(self, artifact: Artifact, device: str, options: SessionOptions) -> Session:
        """Create the inference session, with all graph optimizations that are not yet applied."""
        import onnxruntime

        check_onnx(artifact)
        settings = onnxruntime.SessionOptions()
        # Errors are raised too; printing them would bring unescaped names of the graph to the
        # terminal.
        settings.log_severity_level = 4
        if options.threads:
            settings.intra_op_num_threads = options.threads
        settings.add_session_config_entry(PRECISE_BYTES, "1")
        if is_final(artifact.manifest.build):
            settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # TF32 off: float32 on a GPU means float32, as everywhere in Burnish.
        cuda = [(_PROVIDERS["cuda"], {"use_tf32": "0"}), _PROVIDERS["cpu"]]
        providers = [_PROVIDERS["cpu"]] if device == "cpu" else cuda
        try:
            engine = onnxruntime.InferenceSession(
                str(artifact.entry), settings, providers=providers
            )
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ArtifactError(
                f"ONNX Runtime cannot load {artifact.entry.name}: {error}"
            ) from error
        if engine.get_providers()[0] != _PROVIDERS[device]:
            fallback = engine.get_providers()[0]
            raise Unavailable(f"ONNX Runtime fell back from {_PROVIDERS[device]} to {fallback}")
        return OnnxSession(engine, artifact)


def is_final(build: Mapping[str, Any]) -> bool:
    """Return whether the graph was fully optimized ahead of time, for one CPU and ONNX Runtime."""
    return build.get("optimize") == "all"


def _elsewhere(build: Mapping[str, Any]) -> str | None:
    """Return why such a graph cannot run on this machine, or None.

    A better CPU will not do either: weights are stored in blocks as wide as the vectors. Such a
    graph "should only be used in the same environment the model was optimized in", says ONNX
    Runtime.
    """
    if problem := other_platform(build) or other_version(build, "onnxruntime"):
        return problem
    required, present = recorded(build), frozenset(vectors())
    if required == present:
        return None
    differences = [f"with {name}" for name in sorted(required - present)]
    differences += [f"without {name}" for name in sorted(present - required)]
    return (
        f"it is laid out for a CPU {', '.join(differences)}: build it again here, or with "
        "`optimize: none` for all CPUs"
    )


class OnnxSession(Session):
    """An ONNX Runtime session."""

    # It writes to no buffer that it did not allocate, and copies every output into a new array.
    shares_memory = False

    def __init__(self, engine: Any, artifact: Artifact) -> None:
        manifest = artifact.manifest
        super().__init__(manifest.inputs, manifest.outputs, manifest.dims)
        self._engine = engine
        self._names = list(graph_outputs(self.inputs, self.outputs).values())

    def _run(self, inputs: Arrays) -> Arrays:
        return dict(zip(self.outputs, self._engine.run(self._names, inputs), strict=True))

    def _close(self) -> None:
        self._engine = None
