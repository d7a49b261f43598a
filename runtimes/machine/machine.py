"""This machine: CPU, memory, versions, as measurements record them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from runtimes.machine.devices import driver_version, gpus
from runtimes.machine.instruction_sets import check_name, of_kernel
from runtimes.machine.instruction_table import Architecture
from runtimes.process.process import ALLOCATOR

Cpu = Architecture
"""The families of CPUs that a graph can be lowered for."""

_PACKAGES = (
    *("torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf"),
    *("tensorrt", "tensorrt-rtx", "torch-tensorrt", "torch-pruning", "torchao", "numpy"),
)
_ISA = (
    *("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16"),
    *("asimd", "sve"),
)
_SVE_WIDTH = Path("/proc/sys/abi/sve_default_vector_length")


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that measurements depend on."""
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def python_version() -> str:
    """Return the version of this interpreter."""
    return platform.python_version()


def burnish_version() -> str:
    """Return the installed version, or `0+source` if Burnish runs from a source folder."""
    try:
        return version("burnish")
    except PackageNotFoundError:
        return "0+source"


def _cpuinfo() -> dict[str, str]:
    """Return the kernel's facts about this CPU; BURNISH_CPUINFO names a file to emulate another."""
    path = Path(os.environ.get("BURNISH_CPUINFO") or "/proc/cpuinfo")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return {}
    facts = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            facts[key.strip().lower()] = value.strip()
    return facts


def peak_memory() -> int | None:
    """Return this process's peak resident memory in bytes; None if it is not reported."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    return _high_water_mark(status)


def _high_water_mark(status: str) -> int | None:
    """Return the peak resident memory in bytes of a process with this /proc status."""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


@cache
def bare_interpreter() -> int:
    """Return the peak memory in bytes of a Python without imports, which every session needs."""
    code = "print(open('/proc/self/status').read())"
    try:
        status = subprocess.run(
            [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    return _high_water_mark(status) or 0


def _governor() -> str | None:
    try:
        path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def cache_folder() -> Path:
    """Return the folder of this user's caches; it need not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "burnish"


def cores() -> list[int]:
    """Return the CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def system() -> str:
    """Return the platform of machine code, such as linux-x86_64."""
    return f"{sys.platform}-{platform.machine()}"


def own_cpu() -> Cpu:
    """Return the family of this machine's CPU. CPUs other than Arm count as x86."""
    return "arm" if platform.machine().lower().startswith(("arm", "aarch64")) else "x86"


@cache
def instruction_sets() -> frozenset[str]:
    """Return the CPU's instruction sets that the kernel shows, by `instruction_sets.py`'s names."""
    info = _cpuinfo()
    flags = info.get("flags", info.get("features", "")).split()
    return of_kernel(own_cpu(), flags) | _sve_width(flags)


def _sve_width(flags: Sequence[str]) -> frozenset[str]:
    """Return the width of SVE registers (sve256): code for one width does not run at another."""
    try:
        width = 8 * int(_SVE_WIDTH.read_text(encoding="utf-8")) if "sve" in flags else 0
    except (OSError, ValueError):
        return frozenset()
    return frozenset([f"sve{width}"]) if width else frozenset()


def supports(*names: str) -> bool:
    """Return whether this CPU has one of these instruction sets.

    Raises ValueError for a name that is not in the table.
    """
    return not instruction_sets().isdisjoint([*map(check_name, names)])


def describe() -> dict[str, Any]:
    """Return the facts that measurements depend on: CPU, memory, GPUs, versions."""
    info = _cpuinfo()
    load = [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None
    return {
        "platform": platform.platform(terse=True),
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "isa": [name for name in _ISA if supports(name)],
        "cores": len(cores()),
        "affinity": cores(),
        "governor": _governor(),
        "load": load,
        "threads": len(cores()),
        "allocator": ALLOCATOR,
        "tf32": False,
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": [gpu.name for gpu in gpus()],
        "driver": driver_version(),
        "python": python_version(),
        "versions": versions(),
    }
