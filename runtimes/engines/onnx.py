"""ONNX artifacts, run by ONNX Runtime on the CPU or through its CUDA provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtimes.artifact import Artifact
from runtimes.bound import other_platform, other_version, recorded, vectors
from runtimes.engines._onnx_safety import check_onnx
from runtimes.errors import ArtifactError, Unavailable
from runtimes.session import Session, SessionOptions
from runtimes.spec import Arrays

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntime:
    """Opens `format: onnx`."""

    needs_torch = False
    runs_code = False

    def missing(self, device: str, build: Mapping[str, Any]) -> str | None:
        """The installed ONNX Runtime must have the device's execution provider, and a graph may be for one CPU."""
        import onnxruntime

        if _PROVIDERS[device] not in onnxruntime.get_available_providers():
            return f"the installed onnxruntime has no {_PROVIDERS[device]}: pip install onnxruntime-gpu"
        return _elsewhere(build) if is_final(build) else None

    def open(self, artifact: Artifact, device: str, options: SessionOptions) -> Session:
        """Create the inference session with all of ONNX Runtime's graph optimizations, where they are not made."""
        import onnxruntime

        check_onnx(artifact)
        settings = onnxruntime.SessionOptions()
        # An error is raised too; printed, it would bring names from the graph to the terminal as they are.
        settings.log_severity_level = 4
        if options.threads:
            settings.intra_op_num_threads = options.threads
        if is_final(artifact.manifest.build):
            settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # TF32 off: float32 on a GPU means float32, as everywhere in Burnish.
        cuda = [(_PROVIDERS["cuda"], {"use_tf32": "0"}), _PROVIDERS["cpu"]]
        providers = [_PROVIDERS["cpu"]] if device == "cpu" else cuda
        try:
            engine = onnxruntime.InferenceSession(str(artifact.entry), settings, providers=providers)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise ArtifactError(f"ONNX Runtime cannot load {artifact.entry.name}: {error}") from error
        if engine.get_providers()[0] != _PROVIDERS[device]:
            raise Unavailable(f"ONNX Runtime fell back from {_PROVIDERS[device]} to {engine.get_providers()[0]}")
        return OnnxSession(engine, artifact)


def is_final(build: Mapping[str, Any]) -> bool:
    """Whether the graph was optimized ahead of time to the last, for one kind of CPU and one ONNX Runtime."""
    return build.get("optimize") == "all"


def _elsewhere(build: Mapping[str, Any]) -> str | None:
    """Why such a graph is not for this machine, or None.

    A better CPU will not do either: weights lie in blocks as wide as the vectors are. Such a graph "should only be
    used in the same environment the model was optimized in", ONNX Runtime says when it writes one.
    """
    if problem := other_platform(build) or other_version(build, "onnxruntime"):
        return problem
    made, here = recorded(build), frozenset(vectors())
    if made == here:
        return None
    more, less = sorted(made - here), sorted(here - made)
    told = ", ".join([*(f"with {name}" for name in more), *(f"without {name}" for name in less)])
    return f"it is laid out for a CPU {told}: build it again here, or with `optimize: none` for all CPUs"


class OnnxSession(Session):
    """An ONNX Runtime session."""

    def __init__(self, engine: Any, artifact: Artifact) -> None:
        made = artifact.manifest
        super().__init__(made.inputs, made.outputs, made.dims)
        self._engine = engine

    def _run(self, inputs: Arrays) -> Arrays:
        names = list(self.outputs)
        return dict(zip(names, self._engine.run(names, inputs), strict=True))

    def _close(self) -> None:
        self._engine = None
