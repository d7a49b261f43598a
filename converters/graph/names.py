"""Names in an ONNX graph: of its values, and of the layer that a node comes from."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# The dynamo exporter records the modules around a node here.
_SCOPES = "pkg.torch.onnx.name_scopes"


def value_names(values: Iterable[onnx.ValueInfoProto | onnx.TensorProto]) -> list[str]:
    """Return the names of inputs, outputs or initializers, in order."""
    return [value.name for value in values]


def metadata_of(node: onnx.NodeProto) -> dict[str, str]:
    """Return the entries that exporters note on a node."""
    return {entry.key: entry.value for entry in node.metadata_props}


def scopes(metadata: Mapping[str, str]) -> list[str]:
    """Return the names of the modules around a node from its metadata, the operation's name last.

    Empty if the metadata does not hold them.
    """
    try:
        names = ast.literal_eval(metadata.get(_SCOPES, "[]"))
    except (ValueError, SyntaxError):
        return []
    return list(map(str, names)) if isinstance(names, list) else []


def module_path(metadata: Mapping[str, str]) -> str:
    """Return the path of a node's module, such as layer2.0.conv1; "" if the metadata has none."""
    names = scopes(metadata)
    return names[-2] if len(names) > 1 else ""
