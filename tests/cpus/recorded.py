"""CPUs that were met, and the words that kernels and compilers know: see the files of this folder."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def cpuinfo(name: str) -> Path:
    """A recorded /proc/cpuinfo: epyc_avx2, xeon_avx512, xeon_amx, neoverse_v1, neoverse_v2."""
    return FOLDER / f"{name}.cpuinfo"


def flags(name: str) -> list[str]:
    """What the kernel shows of a recorded CPU."""
    lines = cpuinfo(name).read_text(encoding="utf-8").splitlines()
    return (
        next(line for line in lines if line.lower().startswith(("flags", "features")))
        .split(":")[1]
        .split()
    )


def spellings(name: str) -> list[str]:
    """The words of a file of `spellings`, whose first line says where they are from."""
    return (
        (FOLDER / "spellings" / f"{name}.txt")
        .read_text(encoding="utf-8")
        .partition("\n")[2]
        .split()
    )
