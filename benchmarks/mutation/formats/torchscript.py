"""TorchScript archives, run by torch.jit."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from mutation.changes import script
from mutation.changes.change import Array, Constant
from mutation.changes.kinds import WEIGHTS
from runtimes.artifact.artifact import Artifact
from runtimes.engines.torch.session import TorchSession, use_threads
from runtimes.errors import ArtifactError
from runtimes.session import Session
from runtimes.spec import Specs

_BIASES = {
    "aten::linear": 2,
    "aten::conv1d": 2,
    "aten::conv2d": 2,
    "aten::conv_transpose2d": 2,
    "aten::_convolution": 2,
    "aten::batch_norm": 2,
    "aten::layer_norm": 3,
    "aten::group_norm": 3,
    "aten::addmm": 0,
}
"""Which input of an operator is a bias."""


@dataclass
class ScriptModel:
    """A frozen module that is to be changed.

    Attributes:
        module: changed in place: its graph has the weights as constants.
        inputs, outputs: of the artifact's manifest.
    """

    module: Any
    inputs: Specs
    outputs: Specs

    def nodes(self) -> list[Any]:
        """Return all nodes, those of branches too."""
        return list(script.all_nodes(self.module.graph))

    def constants(self) -> Iterator[Constant]:
        """Yield the tensors among the constants."""
        for node in self.nodes():
            value = node.output() if node.kind() == "prim::Constant" else None
            if value is None or not node.hasAttribute("value") or node.kindOf("value") != "t":
                continue
            uses = [(use.user.kind(), use.offset) for use in value.uses()]
            bias = any(_BIASES.get(kind) == offset for kind, offset in uses)
            array = node.t("value").detach().numpy()
            yield Constant(value.debugName(), array, partial(_write, node), bias=bias)

    def serialize(self) -> bytes:
        """Return the archive."""
        self.module.graph.lint()
        stream = io.BytesIO()
        with _without_deprecations():
            torch.jit.save(self.module, stream)  # type: ignore[no-untyped-call]
        return stream.getvalue()


class TorchScriptFormat:
    """See `Format`."""

    def __init__(self, artifact: Artifact) -> None:
        self.kinds = {**WEIGHTS, **script.KINDS}
        self._manifest = artifact.manifest
        self.content = artifact.entry.read_bytes()

    def read(self) -> ScriptModel:
        """Return the right module."""
        return ScriptModel(_load(self.content), self._manifest.inputs, self._manifest.outputs)

    def open(self, content: bytes) -> Session:
        """Load the module and optimize it."""
        use_threads(1)
        manifest = self._manifest
        try:
            module = _load(content)
            if manifest.build.get("optimize_for_inference", True):
                with _without_deprecations():
                    module = torch.jit.optimize_for_inference(module)
        except RuntimeError as error:
            raise ArtifactError(f"torch cannot load it: {error}") from error
        by_keyword = bool(manifest.build.get("by_keyword"))
        return TorchSession(
            module, manifest.inputs, manifest.outputs, manifest.dims, "cpu", by_keyword
        )


@contextlib.contextmanager
def _without_deprecations() -> Iterator[None]:
    """Ignore that TorchScript is deprecated: the manifest says it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _load(content: bytes) -> Any:
    with _without_deprecations():
        return torch.jit.load(io.BytesIO(content))  # type: ignore[no-untyped-call]


def _write(node: Any, array: Array) -> None:
    node.t_("value", torch.from_numpy(np.ascontiguousarray(array)))
