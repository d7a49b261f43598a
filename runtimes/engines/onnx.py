"""ONNX artifacts, run by ONNX Runtime on the CPU or through its CUDA provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtimes.artifact import Artifact
from runtimes.errors import ArtifactError, Unavailable
from runtimes.session import Session, SessionOptions
from runtimes.spec import Arrays

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntime:
    """Opens `format: onnx`."""

    needs_torch = False

    def missing(self, device: str, build: Mapping[str, Any]) -> str | None:
        """The installed ONNX Runtime must have the device's execution provider."""
        import onnxruntime

        if _PROVIDERS[device] not in onnxruntime.get_available_providers():
            return f"the installed onnxruntime has no {_PROVIDERS[device]}: pip install onnxruntime-gpu"
        return None

    def open(self, artifact: Artifact, device: str, options: SessionOptions) -> Session:
        """Create the inference session with all of ONNX Runtime's graph optimizations."""
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3  # errors; warnings about unused initializers are not the user's
        if options.threads:
            settings.intra_op_num_threads = options.threads
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
