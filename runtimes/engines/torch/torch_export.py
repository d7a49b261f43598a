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

    A .pt2 file is as trusted as code. torch 2.14 unpickles what it cannot read with weights_only=True without
    that guard (weights, constants, example inputs), and gives symbolic sizes to sympy, which evaluates them: no
    check in front of its loader could be complete. What protects the user is that Burnish's manifest has the
    sha256 of every file and that it is compared before torch sees any: what was built is what is opened. An
    artifact whose maker is not trusted must not be opened at all.
    """

    needs_torch = True
    runs_code = True

    def missing(self, device: str, build: Mapping[str, Any]) -> str | None:
        """torch must be installed; the device is checked by the caller."""
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
        if device != "cpu":  # constants and devices that the graph names must move too, not the weights alone
            program = move_to_device_pass(program, device)
        made = artifact.manifest
        by_keyword = bool(made.build.get("by_keyword"))
        # Without the module's hooks: the graph's own guards hold the sizes to their relations, and the hooks that
        # check names and ranges once more, as the session has done, cost as much as a small model.
        forward = program.module().forward
        return TorchSession(forward, made.inputs, made.outputs, made.dims, device, by_keyword)
