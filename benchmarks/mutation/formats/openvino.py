"""OpenVINO's models, run on the CPU."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mutation.changes import ir
from mutation.changes.change import Array, Constant
from mutation.changes.kinds import WEIGHTS
from runtimes.artifact.artifact import Artifact
from runtimes.engines.openvino.openvino import Compiler, OpenVinoSession, properties
from runtimes.errors import ArtifactError
from runtimes.session import Session
from runtimes.spec import Dims, Specs

_QUANTIZERS = ("scale_", "zero_point_")  # names that Burnish's quantizer gives
_PASSING = ("Convert", "Multiply", "Reshape", "Unsqueeze")  # between a bias and its sum
_LENGTH = 8  # bytes of the number before the XML


@dataclass
class IrModel:
    """An OpenVINO model that is to be changed, with what its user declared.

    Attributes:
        model: changed in place.
        inputs, outputs, dims: of the artifact's manifest.
    """

    model: Any
    inputs: Specs
    outputs: Specs
    dims: Dims

    def nodes(self) -> list[Any]:
        """Return all operations in an order that runs."""
        return list(self.model.get_ordered_ops())

    def constants(self) -> Iterator[Constant]:
        """Yield the constants that something reads."""
        for node in self.nodes():
            if node.get_type_name() == "Constant" and _is_plain(node):
                port, name = node.output(0), node.get_friendly_name()
                if port.get_target_inputs():
                    yield Constant(
                        name,
                        np.asarray(node.data),
                        partial(_write, node),
                        bias=_is_added(port),
                        scale=name.startswith(_QUANTIZERS) or _is_bound(port),
                    )

    def serialize(self) -> bytes:
        """Return XML and weights in one. Raises RuntimeError if the changed model is none."""
        import openvino

        self.model.validate_nodes_and_infer_types()
        with tempfile.TemporaryDirectory() as folder:
            xml, weights = Path(folder, "model.xml"), Path(folder, "model.bin")
            openvino.serialize(self.model, xml, weights)
            return _pack(xml.read_bytes(), weights.read_bytes())


class OpenVinoFormat:
    """See `Format`."""

    def __init__(self, artifact: Artifact) -> None:
        self.kinds = {**WEIGHTS, **ir.KINDS}
        self._manifest = artifact.manifest
        weights = artifact.entry.with_suffix(".bin")
        self.content = _pack(artifact.entry.read_bytes(), weights.read_bytes())

    def read(self) -> IrModel:
        """Return the right model."""
        manifest = self._manifest
        model = _model(self.content)
        return IrModel(model, manifest.inputs, manifest.outputs, manifest.dims)

    def open(self, content: bytes) -> Session:
        """Compile the model."""
        import openvino

        manifest = self._manifest
        compiler = Compiler(openvino.Core(), "CPU", properties(manifest.build, threads=1))
        try:
            model = _model(content)
            return OpenVinoSession(
                compiler, model, manifest.inputs, manifest.outputs, manifest.dims
            )
        except Exception as error:  # openvino's exceptions share no base class
            raise ArtifactError(f"OpenVINO cannot load it: {error}") from error


def _model(content: bytes) -> Any:
    import openvino

    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    return openvino.Core().read_model(content[_LENGTH:end], content[end:])


def _pack(xml: bytes, weights: bytes) -> bytes:
    return len(xml).to_bytes(_LENGTH, "little") + xml + weights


def _is_plain(node: Any) -> bool:
    """Return whether NumPy has the type of a constant's elements."""
    return node.get_element_type().get_type_name() in ("f32", "f16", "i64", "i32", "i8", "u8")


def _is_added(port: Any) -> bool:
    """Return whether the values of a constant are added to something, perhaps by way of others."""
    readers = [reader.get_node() for reader in port.get_target_inputs()]
    if any(node.get_type_name() == "Add" for node in readers):
        return True
    shape = port.get_partial_shape()
    if shape.is_static and math.prod(shape.to_shape()) <= 1:
        return False
    through = [node for node in readers if node.get_type_name() in _PASSING]
    return any(_is_added(node.output(0)) for node in through)


def _is_bound(port: Any) -> bool:
    """Return whether a constant is a bound of a quantization's range."""
    return any(
        reader.get_node().get_type_name() == "FakeQuantize" and reader.get_index()
        for reader in port.get_target_inputs()
    )


def _write(node: Any, array: Array) -> None:
    from openvino import opset13

    constant = opset13.constant(np.ascontiguousarray(array))
    constant.set_friendly_name(node.get_friendly_name())
    node.output(0).replace(constant.output(0))
