"""TorchScript artifacts, run by torch.jit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from runtimes.artifact.artifact import Artifact
from runtimes.engines.torch.session import TorchSession, missing_torch, use_threads
from runtimes.errors import ArtifactError
from runtimes.session import Session, SessionOptions


class TorchScriptRuntime:
    """Opens `format: torchscript` on the CPU or a GPU."""

    needs_torch = True
    runs_code = True

    def missing(self, device: str, build: Mapping[str, Any]) -> str | None:
        """Check for torch; the caller checks the device."""
        return missing_torch()

    def open(self, artifact: Artifact, device: str, options: SessionOptions) -> Session:
        """Load the module and optimize it for inference.

        It is optimized here and not before saving: the result of `optimize_for_inference` cannot be
        loaded again (torch 2.14: "required keyword attribute 'value' is undefined").
        """
        import torch

        use_threads(options.threads)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the deprecation is in the manifest and in the report
            try:
                path = str(artifact.entry)
                module = torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                raise ArtifactError(f"torch cannot load {artifact.entry.name}: {error}") from error
            if artifact.manifest.build.get("optimize_for_inference", True):
                module = torch.jit.optimize_for_inference(module)
        manifest = artifact.manifest
        by_keyword = bool(manifest.build.get("by_keyword"))
        return TorchSession(
            module, manifest.inputs, manifest.outputs, manifest.dims, device, by_keyword
        )
