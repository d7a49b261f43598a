"""Artifacts that are bound to the kind of machine that made them: what is different here, by their manifest."""

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
    """The platform that it was made for where this is another, or None."""
    if (made := build.get("platform", system())) == system():
        return None
    return f"it was made for {made}, this is {system()}: build it again here"


def other_version(build: Mapping[str, Any], package: str) -> str | None:
    """The release of a package (its first two numbers) that made it where another is installed, or None."""
    here, made = versions().get(package), build.get("versions", {}).get(package)
    if here is None or made is None or made.split(".")[:2] == here.split(".")[:2]:
        return None
    return f"it was made by {package} {made}, this is {here}: build it again here, or install that one"


def lacking(build: Mapping[str, Any]) -> list[str]:
    """Instruction sets that it uses and this CPU lacks."""
    return sorted(name for name in build.get("isa", ()) if name not in instruction_sets())
