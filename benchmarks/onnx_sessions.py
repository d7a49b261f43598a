"""Sessions of ONNX files at ONNX Runtime's levels; a module of its own, so that other processes can import it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtimes.session import Session, SessionOptions
from runtimes.spec import Arrays, DimRange, TensorSpec, best_sizes
from runtimes.validator.host import SessionHost
from runtimes.validator.speed.stream import InputStream


@dataclass(frozen=True)
class GraphOpener:
    """Opens an ONNX file with ONNX Runtime's graph optimizations up to `level` (DISABLE_ALL, ENABLE_ALL)."""

    file: Path
    level: str
    options: SessionOptions

    def __call__(self) -> GraphSession:
        """Create the session, on the CPU."""
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        settings.intra_op_num_threads = self.options.threads or 0
        settings.graph_optimization_level = getattr(
            onnxruntime.GraphOptimizationLevel, f"ORT_{self.level}"
        )
        self.file.read_bytes()  # into the kernel's cache: it is not the disk that is measured
        start = time.perf_counter()
        engine = onnxruntime.InferenceSession(
            str(self.file), settings, providers=["CPUExecutionProvider"]
        )
        return GraphSession(engine, time.perf_counter() - start)


class GraphSession(Session):
    """One picture in, logits out; `created` is the seconds that making the engine took."""

    def __init__(self, engine: Any, created: float) -> None:
        """`engine`: an InferenceSession."""
        image, logits = TensorSpec(shape=("batch", 3, 224, 224)), TensorSpec(shape=("batch", 1000))
        super().__init__({"image": image}, {"logits": logits}, {"batch": DimRange(max=1)})
        self._engine, self.created = engine, created

    def _run(self, inputs: Arrays) -> Arrays:
        return {"logits": self._engine.run(["logits"], inputs)[0]}


class StartHost(SessionHost):
    """Host that reports how long its session took to start."""

    def __init__(self, opener: GraphOpener) -> None:
        import onnxruntime  # noqa: F401 - so that importing it is not measured

        super().__init__(opener)

    def started(self) -> tuple[float, float]:
        """Seconds of creating the session, and of that and the first answer."""
        session = self._session
        assert isinstance(session, GraphSession)
        inputs = InputStream(session.inputs, best_sizes(session.dims)).make(0)
        start = time.perf_counter()
        session.run(inputs)
        return session.created, session.created + time.perf_counter() - start
