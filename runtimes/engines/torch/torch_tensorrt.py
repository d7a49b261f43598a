"""torch-tensorrt artifacts: an exported program whose subgraphs are TensorRT engines."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from runtimes.artifact.artifact import Artifact
from runtimes.engines.torch.session import TorchSession, missing_torch, use_threads
from runtimes.machine.devices import absent
from runtimes.session import Session, SessionOptions


class TorchTensorRtRuntime:
    """Opens `format: torch-tensorrt` on an NVIDIA GPU."""

    needs_torch = True
    runs_code = True

    def missing(self, device: str, build: Mapping[str, Any]) -> str | None:
        """Check for torch-tensorrt and a driver, without which it cannot even be imported."""
        return missing_torch() or missing_torch_tensorrt()

    def open(self, artifact: Artifact, device: str, options: SessionOptions) -> Session:
        """Load the exported program; torch_tensorrt's import registers its engine operator."""
        import torch
        import torch_tensorrt  # noqa: F401

        use_threads(options.threads)
        module = torch.export.load(str(artifact.entry)).module()
        manifest = artifact.manifest
        by_keyword = bool(manifest.build.get("by_keyword"))
        return TorchSession(
            module, manifest.inputs, manifest.outputs, manifest.dims, device, by_keyword
        )


def missing_torch_tensorrt() -> str | None:
    """Return why torch_tensorrt cannot be imported here, or None; it is not imported."""
    if absent("cuda"):
        return f"torch-tensorrt needs an NVIDIA driver even to be imported; {absent('cuda')}"
    if not find_spec("torch_tensorrt"):
        return "torch-tensorrt is not installed: pip install 'burnish[tensorrt]'"
    return None
