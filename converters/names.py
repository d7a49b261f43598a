"""The layer that an ONNX node comes from, as its author knows it."""

from __future__ import annotations

import ast
from collections.abc import Mapping

SCOPES = "pkg.torch.onnx.name_scopes"
"""Where the dynamo exporter notes the modules around a node."""


def module_path(metadata: Mapping[str, str]) -> str:
    """The path of a node's module, such as layer2.0.conv1, from its metadata; "" where that does not tell."""
    try:
        found = ast.literal_eval(metadata.get(SCOPES, "[]"))
    except (ValueError, SyntaxError):
        return ""
    return str(found[-2]) if isinstance(found, list) and len(found) > 1 else ""
