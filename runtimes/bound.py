"""Artifacts that are bound to the kind of machine that made them: what is different here, by their manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runtimes.instruction_sets import hidden, of_manifest, of_torch
from runtimes.machine import instruction_sets, own_cpu, supports, system, versions

# What kernels and their data layouts are chosen by. A longer list would refuse graphs that were laid out before.
_VECTORS = (
    "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8",
    "amx_bf16", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve",
)  # fmt: skip


def vectors() -> list[str]:
    """The vector instructions of this CPU."""
    return [name for name in _VECTORS if supports(name)]


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


def recorded(build: Mapping[str, Any]) -> frozenset[str]:
    """The instruction sets that the manifest names, as this release spells them."""
    return of_manifest(own_cpu(), build.get("isa", ()))


def lacking(build: Mapping[str, Any], capabilities: Callable[[], Mapping[str, Any]]) -> list[str]:
    """Instruction sets that it uses and this CPU lacks.

    Args:
        build: of the manifest.
        capabilities: returns those of `torch.cpu.get_capabilities()`. It is called only for instruction sets that
            Linux does not show, such as AMX for float16.
    """
    absent = recorded(build) - instruction_sets()
    if absent & hidden(own_cpu()):
        absent -= of_torch(own_cpu(), capabilities()) & hidden(own_cpu())
    return sorted(absent)
