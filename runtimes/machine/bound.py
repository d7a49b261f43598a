"""Artifacts bound to the kind of machine that built them: the differences to this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtimes.machine.machine import instruction_sets, system, versions

# What kernels and their data layouts are chosen by, as compilers name it.
_VECTORS = (
    "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512vnni", "avx512bf16", "avxvnni", "amxint8",
    "amxbf16", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve",
)  # fmt: skip


def vectors() -> list[str]:
    """The vector instructions of this CPU."""
    return [name for name in _VECTORS if name in instruction_sets()]


def other_platform(build: Mapping[str, Any]) -> str | None:
    """Return a message if the artifact was built for another platform, or None."""
    if (platform := build.get("platform", system())) == system():
        return None
    return f"it was built for {platform}, this is {system()}: build it again here"


def other_version(build: Mapping[str, Any], package: str) -> str | None:
    """Return a message if another release (first two numbers) of a package built it, or None."""
    installed, recorded = versions().get(package), build.get("versions", {}).get(package)
    if installed is None or recorded is None:
        return None
    if recorded.split(".")[:2] == installed.split(".")[:2]:
        return None
    reason = f"it was built with {package} {recorded}, this is {installed}"
    return f"{reason}: build it again here, or install that version"


def lacking(build: Mapping[str, Any]) -> list[str]:
    """Instruction sets that it uses and this CPU lacks."""
    return sorted(name for name in build.get("isa", ()) if name not in instruction_sets())
