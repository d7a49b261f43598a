"""The layer that an ONNX node comes from, as its author knows it."""

from __future__ import annotations

import ast
from collections.abc import Mapping

_SCOPES = "pkg.torch.onnx.name_scopes"  # where the dynamo exporter notes the modules around a node


def scopes(metadata: Mapping[str, str]) -> list[str]:
    """The names of the modules around a node, from its metadata; last the operation's own. Empty where untold."""
    try:
        found = ast.literal_eval(metadata.get(_SCOPES, "[]"))
    except (ValueError, SyntaxError):
        return []
    return [str(one) for one in found] if isinstance(found, list) else []


def module_path(metadata: Mapping[str, str]) -> str:
    """The path of a node's module, such as layer2.0.conv1; "" where the metadata does not tell."""
    found = scopes(metadata)
    return found[-2] if len(found) > 1 else ""
