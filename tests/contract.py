"""Keys that every build.json has: other programs read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BUILD = {"recipe", "model", "weights", "machine", "artifacts"}
ROW = {
    "name",
    "format",
    "device",
    "status",
    "reason",
    "path",
    "size_bytes",
    "parity",
    "speed",
}
PARITY = {"noise", "sqnr_db", "max_abs", "top1_agreement"}
SPEED = {"eager_ms", "median_ms", "speedup", "ci95"}


def missing_keys(build: Mapping[str, Any]) -> set[str]:
    """Names of the contract that a build.json lacks, in itself or in one of its rows."""
    missing = BUILD - build.keys()
    for row in build["artifacts"]:
        missing |= ROW - row.keys()
        missing |= PARITY - row["parity"].keys()
        missing |= SPEED - row["speed"].keys()
    return missing
