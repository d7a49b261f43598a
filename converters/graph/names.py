"""The layer that an ONNX node comes from, as its author knows it."""

from __future__ import annotations

import ast
from collections.abc import Mapping

# The dynamo exporter records the modules around a node here.
_SCOPES = "pkg.torch.onnx.name_scopes"


def scopes(metadata: Mapping[str, str]) -> list[str]:
    """Return the names of the modules around a node from its metadata, the operation's name last.

    Empty if the metadata does not hold them.
    """
    try:
        names = ast.literal_eval(metadata.get(_SCOPES, "[]"))
    except (ValueError, SyntaxError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def module_path(metadata: Mapping[str, str]) -> str:
    """Return the path of a node's module, such as layer2.0.conv1; "" if the metadata has none."""
    names = scopes(metadata)
    return names[-2] if len(names) > 1 else ""
