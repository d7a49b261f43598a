"""Instruction sets of CPUs, and their spelling by the kernel, compilers and PyTorch.

These names are never compared as text: AMX for bytes is `amx_int8` to the kernel, `-mamx-int8` to
GCC and Clang, and SSE3 is `pni`, `-msse3`, `sse3`. All is looked up in `instruction_table.py`;
`machine.py` asks about this CPU, the AOTInductor exporter about the options of a compiler.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from runtimes.machine.instruction_table import TABLE
from runtimes.machine.instruction_table import Architecture as Architecture


@cache
def names(architecture: Architecture) -> frozenset[str]:
    """Return all instruction sets of an architecture."""
    return frozenset(row.name for row in TABLE[architecture])


def check_name(name: str) -> str:
    """Return a name of the table. Raises ValueError for others: a typo would never match."""
    if not any(name in names(architecture) for architecture in TABLE):
        raise ValueError(f"{name!r} is no name in the table of instruction sets")
    return name


def of_kernel(architecture: Architecture, flags: Iterable[str]) -> frozenset[str]:
    """Return the instruction sets among the words of /proc/cpuinfo."""
    shown = frozenset(flags)
    return frozenset(row.name for row in TABLE[architecture] if row.kernel in shown)


def hidden(architecture: Architecture) -> frozenset[str]:
    """Return the instruction sets that Linux does not show; PyTorch may detect them."""
    return frozenset(row.name for row in TABLE[architecture] if row.kernel is None)


def of_torch(architecture: Architecture, capabilities: Mapping[str, Any]) -> frozenset[str]:
    """Return the instruction sets in the result of `torch.cpu.get_capabilities()`."""
    width = capabilities.get("sve_max_length")
    sets = set(names(architecture) & {f"sve{width}"})
    for row in TABLE[architecture]:
        if row.torch and capabilities.get(row.torch):
            sets.add(row.name)
    return frozenset(sets)


def of_option(architecture: Architecture, option: str) -> frozenset[str]:
    """Return the instruction sets that an option of GCC or Clang enables, without `-m` or `+`."""
    return frozenset(row.name for row in TABLE[architecture] if option in row.options)


def of_manifest(architecture: Architecture, recorded: Iterable[str]) -> frozenset[str]:
    """Return the instruction sets that a manifest records.

    Manifests of earlier releases spell them as compilers do (`amx-bf16`, `avx512vnni`) or as the
    kernel does without underscores (`avxvnni`). Any other text is returned unchanged: no CPU has
    it, so nothing that needs it is run.
    """
    sets: set[str] = set()
    for text in recorded:
        exact = names(architecture) & {text}
        matches = exact or of_option(architecture, text) or _without_underscores(architecture, text)
        sets |= matches or {text}
    return frozenset(sets)


def _without_underscores(architecture: Architecture, text: str) -> frozenset[str]:
    sets = set()
    for row in TABLE[architecture]:
        if row.kernel and row.kernel.replace("_", "") == text:
            sets.add(row.name)
    return frozenset(sets)
