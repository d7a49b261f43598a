"""AOTInductor artifacts: a library compiled for one kind of CPU, called through torch."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from runtimes.artifact.artifact import Artifact
from runtimes.engines.torch.session import TorchSession, missing_torch, use_threads
from runtimes.errors import ArtifactError
from runtimes.machine.bound import lacking, other_platform, other_version
from runtimes.session import Session, SessionOptions


class AotInductorRuntime:
    """Opens `format: aot-inductor` on CPUs with the instructions that the code uses.

    The file holds machine code, which runs as soon as it is opened: as with any library, the user
    is protected because the manifest's sha256 is compared first, and because its author is trusted.
    """

    needs_torch = True
    runs_code = True

    def missing(self, device: str, build: Mapping[str, Any]) -> str | None:
        """Check for torch and the CPU: code for a better CPU ends in an illegal instruction.

        The torch must be the one that compiled it: the library calls it, and its weights have the
        layout of its oneDNN.
        """
        return (
            missing_torch()
            or other_platform(build)
            or _lesser(build)
            or other_version(build, "torch")
        )

    def open(self, artifact: Artifact, device: str, options: SessionOptions) -> Session:
        """Load the library.

        Not by torch._inductor.aoti_load_package: that imports all of inductor (seconds, 160 MB),
        determines this machine's vectors by compiling test programs, and fails without a C++
        compiler.
        """
        import torch

        use_threads(options.threads)
        with _extracted_nowhere():
            try:
                load_package = torch._C._aoti.AOTIModelPackageLoader
                library = load_package(str(artifact.entry), "model", False, 1, -1)
            except RuntimeError as error:
                raise ArtifactError(f"torch cannot load {artifact.entry.name}: {error}") from error
        manifest = artifact.manifest
        order = _order(library) or list(manifest.inputs)

        def call(**tensors: torch.Tensor) -> Any:
            return library.boxed_run([tensors[name] for name in order])

        inputs, outputs = manifest.inputs, manifest.outputs
        return TorchSession(call, inputs, outputs, manifest.dims, device, by_keyword=True)


def _order(library: Any) -> list[str]:
    """Return the library's order of the inputs that forward() takes by name; empty for none."""
    from torch.utils._pytree import treespec_loads

    keywords: Any = treespec_loads(library.get_call_spec()[0]).child(1)
    return list(keywords.context)


def _lesser(build: Mapping[str, Any]) -> str | None:
    """Return why the code would end in an illegal instruction on this CPU, or None."""
    if not (absent := lacking(build, _capabilities)):
        return None
    return (
        f"it was compiled to use {', '.join(absent)}, which this CPU lacks: "
        "build it again here, or for more CPUs with `isa: avx2`"
    )


def _capabilities() -> Mapping[str, Any]:
    """Return this CPU's capabilities, as torch detects them."""
    import torch

    return torch.cpu.get_capabilities()


@contextlib.contextmanager
def _extracted_nowhere() -> Iterator[None]:
    """Let the loader extract the library to a folder that is removed at once: it stays mapped.

    The loader's own clean-up would come with the session's end, and never in a killed process.
    """
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before
