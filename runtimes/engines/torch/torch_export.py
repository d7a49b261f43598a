"""torch.export artifacts: an ExportedProgram, run by torch's own operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtimes.artifact.artifact import Artifact
from runtimes.engines.torch.session import TorchSession, missing_torch, use_threads
from runtimes.errors import ArtifactError
from runtimes.session import Session, SessionOptions


class TorchExportRuntime:
    """Opens `format: torch-export` on the CPU or a GPU.

    A .pt2 file is as trusted as code. If torch 2.14 cannot read weights, constants or example
    inputs with weights_only=True, it unpickles them without that guard, and it gives symbolic sizes
    to sympy, which evaluates them: no check before its loader could be complete. The user is
    protected because the manifest has the sha256 of every file, which are compared before torch
    opens any. An artifact whose author is not trusted must not be opened at all.
    """

    needs_torch = True
    runs_code = True

    def missing(self, device: str, build: Mapping[str, Any]) -> str | None:
        """Check for torch; the caller checks the device."""
        return missing_torch()

    def open(self, artifact: Artifact, device: str, options: SessionOptions) -> Session:
        """Load the program, move it to the device, unlift its weights."""
        import torch
        from torch.export.passes import move_to_device_pass

        use_threads(options.threads)
        try:
            program = torch.export.load(str(artifact.entry))
        except Exception as error:  # zip, JSON, schema and pickle errors share no base class
            raise ArtifactError(f"torch cannot load {artifact.entry.name}: {error}") from error
        if device != "cpu":  # not only weights: also constants and devices in the graph
            program = move_to_device_pass(program, device)
        manifest = artifact.manifest
        by_keyword = bool(manifest.build.get("by_keyword"))
        # Without the module's hooks: the graph's own guards check the relations of sizes, and the
        # hooks, which check names and ranges again as the session did, cost as much as a small
        # model.
        forward = program.module().forward
        return TorchSession(
            forward, manifest.inputs, manifest.outputs, manifest.dims, device, by_keyword
        )
