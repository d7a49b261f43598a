"""ONNX models, run by ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime

from mutation.changes.change import Array
from mutation.changes.kinds import KINDS
from mutation.formats.graph import Graph, Sizes
from runtimes.artifact.artifact import Artifact
from runtimes.engines.onnx.onnx import PRECISE_BYTES, OnnxSession
from runtimes.errors import ArtifactError
from runtimes.session import Session
from runtimes.validator.inputs.draws import draw_all


class OnnxFormat:
    """See `Format`."""

    def __init__(self, artifact: Artifact) -> None:
        self.kinds = KINDS
        self._artifact = artifact
        self.content = artifact.entry.read_bytes()
        self._observed: dict[tuple[str, tuple[int, ...]], Array] = {}

    def read(self) -> Graph:
        """Return the right graph."""
        manifest = self._artifact.manifest
        return Graph.read(
            self.content, manifest.inputs, manifest.outputs, manifest.dims, self._observe
        )

    def open(self, content: bytes) -> Session:
        """Create the inference session."""
        return OnnxSession(_engine(content), self._artifact)

    def _observe(self, name: str, sizes: Sizes) -> Array:
        """Return an inner value of the right graph at these sizes, for noise."""
        key = name, tuple(sizes.values())
        if key not in self._observed:
            proto = onnx.load_from_string(self.content)
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
            inputs = draw_all(self._artifact.manifest.inputs, sizes, np.random.default_rng(0))
            engine = _engine(proto.SerializeToString())
            self._observed[key] = np.asarray(engine.run([name], inputs)[0])
        return self._observed[key]


def _engine(content: bytes) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
    settings.add_session_config_entry(PRECISE_BYTES, "1")
    try:
        return onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ArtifactError(f"ONNX Runtime cannot load it: {error}") from error
