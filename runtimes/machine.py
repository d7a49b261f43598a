"""The machine that a number was measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from runtimes.devices import gpus

_PACKAGES = (
    "torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "tensorrt", "tensorrt-rtx",
    "torch-tensorrt", "numpy",
)  # fmt: skip
_ISA = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16", "asimd", "sve")


def versions() -> dict[str, str]:
    """Installed versions of the packages that numbers depend on."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpuinfo() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    lines = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key.strip().lower(): value.strip() for key, value in lines}


def cores() -> list[int]:
    """The CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def describe() -> dict[str, Any]:
    """What a measured number depends on: CPU, instruction sets, memory, GPUs, versions."""
    info = _cpuinfo()
    flags = set(info.get("flags", info.get("features", "")).split())
    return {
        "platform": platform.platform(terse=True),
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "isa": [flag for flag in _ISA if flag in flags],
        "cores": len(cores()),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": [gpu.name for gpu in gpus()],
        "python": platform.python_version(),
        "versions": versions(),
    }
