"""Sessions: loaded artifacts, ready to run, with NumPy arrays as inputs and outputs."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from runtimes.answers import copies, independent, output_mismatch
from runtimes.artifact import trust
from runtimes.artifact.artifact import MANIFEST, Artifact
from runtimes.artifact.signature import KeySource
from runtimes.errors import (
    ArtifactError,
    BurnishError,
    InputError,
    Unavailable,
    Untrusted,
    UsageError,
)
from runtimes.machine.devices import DEVICES, absent
from runtimes.registry import Registry, nearest
from runtimes.spec import Arrays, Dims, Specs, mismatch

RUNTIMES = Registry(
    "runtime",
    "burnish.runtimes",
    {
        "torchscript": "runtimes.engines.torch.torchscript:TorchScriptRuntime",
        "torch-export": "runtimes.engines.torch.torch_export:TorchExportRuntime",
        "aot-inductor": "runtimes.engines.torch.aot_inductor:AotInductorRuntime",
        "onnx": "runtimes.engines.onnx.onnx:OnnxRuntime",
        "openvino": "runtimes.engines.openvino.openvino:OpenVinoRuntime",
        "tensorrt": "runtimes.engines.tensorrt:TensorRtRuntime",
        "torch-tensorrt": "runtimes.engines.torch.torch_tensorrt:TorchTensorRtRuntime",
    },
)


MOST_THREADS = max(64, os.cpu_count() or 1)
"""CPU threads that a session may have. Engines start all at once, and spin: with thousands of them
the process ends or hangs. More than a machine's processors only cost; 64 of them do no harm."""


@dataclass(frozen=True)
class SessionOptions:
    """Resources that a session may use.

    Raises UsageError for threads that no engine can be given.

    Attributes:
        threads: CPU threads inside one operator, 1 to MOST_THREADS; None leaves the engine's
            default.
        cache: keep compiled models in the user's cache folder, so that the next load is faster
            (OpenVINO).
        trust: also open artifacts that are programs and were not built here by this user
            (`trust.py`).
    """

    threads: int | None = None
    cache: bool = False
    trust: bool = False

    def __post_init__(self) -> None:
        """Check the number of threads."""
        number = self.threads
        if number is None:
            return
        if isinstance(number, bool) or not isinstance(number, Integral):
            raise UsageError(f"threads must be a whole number, not {number!r}")
        if not 1 <= number <= MOST_THREADS:
            raise UsageError(
                f"threads={number}: must be 1 to {MOST_THREADS} on this machine; leave it out for "
                "the engine's own choice"
            )


class Session(ABC):
    """A model that can be run. Use it as a context manager, or close it when done.

    Attributes:
        shares_memory: whether the engine may write to the arrays that it is given, keep them, or
            return buffers of its own. Then `run` copies both ways. False only for engines that
            provably do none of it.
    """

    shares_memory: ClassVar[bool] = True

    def __init__(self, inputs: Specs, outputs: Specs, dims: Dims) -> None:
        """`inputs` and `outputs` name the tensors in order; `dims` bounds dynamic dimensions."""
        self.inputs, self.outputs, self.dims = inputs, outputs, dims
        self._closed = False
        self._closing = threading.Lock()

    def run(self, inputs: Mapping[str, Any]) -> Arrays:
        """Run the model on one set of inputs.

        Args:
            inputs: one NumPy array for each name in `self.inputs`, of its dtype and shape.

        Returns:
            One NumPy array for each name in `self.outputs`. They share no memory with the inputs,
            with each other, or with the session: later calls leave them as they are.

        Raises:
            InputError: a name, dtype or shape does not match the artifact's inputs.
            UsageError: the session was closed.
            ArtifactError: the engine's answer is not what the manifest promises (rank, dtype).
            BurnishError: the engine refused the values.
        """
        outputs = self.answer(copies(inputs) if self.shares_memory else inputs)
        if problem := output_mismatch(outputs, self.outputs):
            raise ArtifactError(
                f"the engine's answer is not what the artifact's manifest promises: {problem}. "
                "Validate the artifact, and build it again"
            )
        return copies(outputs) if self.shares_memory else outputs

    def answer(self, inputs: Mapping[str, Any]) -> Arrays:
        """Return what the engine itself answers, for a validator: not compared with the manifest.

        Arguments and errors are those of `run`.
        """
        if self._closed:
            raise UsageError(_CLOSED)
        if problem := mismatch(inputs, self.inputs, self.dims):
            raise InputError(problem)
        try:
            # An engine may read memory in order; a view of another array has another order.
            arrays = {name: np.asarray(array, order="C") for name, array in inputs.items()}
            return independent(self._run(arrays), inputs)
        except BurnishError:
            raise
        except (
            Exception
        ) as error:  # engines refuse values (an index out of range) by errors of their own
            if self._closed:  # by another thread, since this call began
                raise UsageError(_CLOSED) from error
            raise BurnishError(
                f"the engine could not run these inputs: {type(error).__name__}: {error}"
            ) from error

    @abstractmethod
    def _run(self, inputs: Arrays) -> Arrays:
        """Run on inputs that match the specification."""

    def compute_layers(self) -> dict[str, int] | None:
        """Return counts of computing layers by executed precision, or None if it is unknown."""
        return None

    def close(self) -> None:
        """Release the engine's resources; the session cannot run afterwards. Idempotent."""
        with self._closing:
            already, self._closed = self._closed, True
        if not already:
            self._close()

    def _close(self) -> None:  # noqa: B027 - an engine may have nothing to release
        """Release this engine's resources; called once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_CLOSED = "the session is closed; load the artifact again"


class Runtime(Protocol):
    """An engine that opens artifacts of one format. Entry points: `burnish.runtimes`."""

    needs_torch: bool
    runs_code: bool
    """Whether files of the format are programs: opening or running one executes its author's code.
    A runtime without this attribute counts as True."""

    def missing(self, device: str, build: Mapping[str, Any]) -> str | None:
        """Return why this machine cannot run the format on `device`, or None; imports little.

        `build` has the manifest's facts about the build; it is empty if any build will do.
        """

    def open(self, artifact: Artifact, device: str, options: SessionOptions) -> Session:
        """Load a verified artifact, trusted if `runs_code`. Any error becomes a BurnishError."""


def runtime_of(artifact: Artifact) -> Runtime:
    """Return the runtime that an artifact's manifest names. Raises UsageError if it is unknown."""
    runtime: Runtime = RUNTIMES.get(artifact.manifest.runtime)()
    return runtime


def unavailable(artifact: Artifact, device: str) -> str | None:
    """Return why this machine cannot run `artifact` on `device`, or None.

    Raises ArtifactError if the manifest does not fit the format.
    """
    try:
        return absent(device) or runtime_of(artifact).missing(device, artifact.manifest.build)
    except BurnishError:
        raise
    except Exception as error:  # no exporter writes such a device or such facts
        cause = f"{type(error).__name__}: {error}"
        raise ArtifactError(
            f"{artifact.path.name}: its manifest does not fit its format ({cause})"
        ) from error


def check_device(artifact: Artifact, device: str) -> None:
    """Raise UsageError for an unknown device, Unavailable if it cannot run `artifact` here."""
    if device not in DEVICES:
        raise UsageError(f"unknown device {device!r}{nearest(device, DEVICES)}")
    if device not in artifact.manifest.devices:
        devices = ", ".join(artifact.manifest.devices)
        name = f"{artifact.path.name} ({artifact.manifest.format})"
        raise UsageError(f"{name} runs on {devices}, not on {device}")
    if problem := unavailable(artifact, device):
        raise Unavailable(f"{artifact.path.name} cannot run on {device} here: {problem}")


def check_trust(artifact: Artifact, trusted: bool) -> None:
    """Raise Untrusted for a program, unless it is trusted, signed or built here."""
    signed = artifact.trust.key is not None
    if trusted or signed or not getattr(runtime_of(artifact), "runs_code", True):
        return
    if not trust.built_here(artifact.path / MANIFEST):
        raise Untrusted(
            f"{artifact.path.name} ({artifact.manifest.runtime}) is a program: opening it runs its "
            "author's code with your permissions, and you did not build it here (or it was changed "
            "since). If you trust its origin, say so with --trust (trust=True in Python); onnx and "
            "openvino artifacts are data, and need no trust"
        )


def load(
    path: str | Path,
    device: str | None = None,
    options: SessionOptions | None = None,
    key: KeySource = None,
) -> Session:
    """Load an artifact.

    Args:
        path: the artifact's folder.
        device: one of DEVICES; by default the first that the artifact was made for.
        options: threads and the like.
        key: file of the public key that must have signed it; by default BURNISH_TRUSTED_KEY's.

    Raises:
        UsageError: there is no such artifact or key, or it cannot run on the device.
        SignatureError: the key has not signed it.
        ArtifactError: a file is missing, changed or not listed (checked before an engine opens it).
        Untrusted: the artifact is a program not built here by this user, and not `options.trust`.
        Unavailable: this machine lacks the device or the engine.
    """
    artifact, options = Artifact.open(path, key), options or SessionOptions()
    device = device or artifact.manifest.devices[0]
    check_device(artifact, device)
    artifact.verify()
    check_trust(artifact, options.trust)
    try:
        return runtime_of(artifact).open(artifact, device, options)
    except BurnishError:
        raise
    except Exception as error:  # engines, and those of other packages, fail in their own ways
        cause = f"{type(error).__name__}: {error}"
        raise ArtifactError(f"{artifact.path.name} cannot be opened: {cause}") from error
