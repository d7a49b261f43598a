"""The machine that a number was measured on."""

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

from runtimes.devices import driver_version, gpus
from runtimes.instruction_sets import Architecture, check_name, of_kernel
from runtimes.process import ALLOCATOR

Cpu = Architecture
"""The families of CPUs that a graph can be lowered for."""

_PACKAGES = (
    "torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "tensorrt", "tensorrt-rtx",
    "torch-tensorrt", "torch-pruning", "torchao", "numpy",
)  # fmt: skip
_ISA = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16", "asimd", "sve")
_SVE_WIDTH = Path("/proc/sys/abi/sve_default_vector_length")


def versions() -> dict[str, str]:
    """Installed versions of the packages that numbers depend on."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def python_version() -> str:
    """Of this interpreter."""
    return platform.python_version()


def burnish_version() -> str:
    """The installed version, or `0+source` where Burnish runs from a folder."""
    try:
        return version("burnish")
    except PackageNotFoundError:
        return "0+source"


def _cpuinfo() -> dict[str, str]:
    """The kernel's lines about this CPU, or those of the file that BURNISH_CPUINFO names: another CPU's."""
    try:
        text = Path(os.environ.get("BURNISH_CPUINFO") or "/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    lines = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key.strip().lower(): value.strip() for key, value in lines}


def peak_memory() -> int | None:
    """Bytes of resident memory that this process has held at most; None where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    kilobytes = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return int(kilobytes) * 1024 if kilobytes else None


@cache
def bare_interpreter() -> int:
    """Bytes of resident memory of a Python that has imported nothing: what every session pays anyway."""
    code = "print(open('/proc/self/status').read())"
    try:
        status = subprocess.run(
            [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def _governor() -> str | None:
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def cache_folder() -> Path:
    """Where this user's caches lie; it need not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "burnish"


def cores() -> list[int]:
    """The CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def system() -> str:
    """What machine code is made for, such as linux-x86_64."""
    return f"{sys.platform}-{platform.machine()}"


def own_cpu() -> Cpu:
    """The family of this machine's CPU. What is neither x86 nor Arm counts as x86."""
    return "arm" if platform.machine().lower().startswith(("arm", "aarch64")) else "x86"


@cache
def instruction_sets() -> frozenset[str]:
    """What this CPU can execute and the kernel shows, by the names of `instruction_sets.py`."""
    info = _cpuinfo()
    flags = info.get("flags", info.get("features", "")).split()
    return of_kernel(own_cpu(), flags) | _sve_width(flags)


def _sve_width(flags: Sequence[str]) -> frozenset[str]:
    """The width of SVE registers, such as sve256: code for one width does not run at another."""
    try:
        width = 8 * int(_SVE_WIDTH.read_text(encoding="utf-8")) if "sve" in flags else 0
    except (OSError, ValueError):
        return frozenset()
    return frozenset([f"sve{width}"]) if width else frozenset()


def supports(*names: str) -> bool:
    """Whether this CPU has one of these instruction sets. Raises ValueError for what the table does not call so."""
    return not instruction_sets().isdisjoint([check_name(name) for name in names])


def describe() -> dict[str, Any]:
    """What a measured number depends on: CPU, instruction sets, memory, GPUs, versions."""
    info = _cpuinfo()
    return {
        "platform": platform.platform(terse=True),
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "isa": [name for name in _ISA if supports(name)],
        "cores": len(cores()),
        "affinity": cores(),
        "governor": _governor(),
        "load": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "threads": len(cores()),
        "allocator": ALLOCATOR,
        "tf32": False,
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": [gpu.name for gpu in gpus()],
        "driver": driver_version(),
        "python": python_version(),
        "versions": versions(),
    }
