"""Telemetry of engines, which Burnish does not send."""

from __future__ import annotations

import sys


def refuse_telemetry() -> None:
    """Keep OpenVINO and NNCF from their telemetry; call it before one of them is imported.

    `import openvino` alone reports to its makers and leaves files in the home folder, unless a file
    there says not to. Without the package that does it, both have stand-ins that do nothing.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
