"""Artifacts bound to the kind of machine that built them: the differences to this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runtimes.machine.instruction_sets import hidden, of_manifest, of_torch
from runtimes.machine.machine import instruction_sets, own_cpu, supports, system, versions

# Instruction sets by which kernels and their data layouts are chosen. A longer list would refuse
# graphs that were laid out before.
_VECTORS = (
    *("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16"),
    *("avx_vnni", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve"),
)


def vectors() -> list[str]:
    """Return the vector instructions of this CPU."""
    return [name for name in _VECTORS if supports(name)]


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


def recorded(build: Mapping[str, Any]) -> frozenset[str]:
    """Return the instruction sets that the manifest names, as this release spells them."""
    return of_manifest(own_cpu(), build.get("isa", ()))


def lacking(build: Mapping[str, Any], capabilities: Callable[[], Mapping[str, Any]]) -> list[str]:
    """Return the instruction sets that an artifact uses and this CPU lacks.

    Args:
        build: of the manifest.
        capabilities: returns those of `torch.cpu.get_capabilities()`. It is called only for
            instruction sets that Linux does not show, such as AMX for float16.
    """
    absent = recorded(build) - instruction_sets()
    if absent & hidden(own_cpu()):
        absent -= of_torch(own_cpu(), capabilities()) & hidden(own_cpu())
    return sorted(absent)
