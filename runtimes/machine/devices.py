"""This machine's devices, by the driver itself: neither torch nor the CUDA toolkit is needed."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import cache

from runtimes.machine.intel import absent_intel

DEVICES = ("cpu", "cuda", "intel-gpu", "intel-npu")
_CC_MAJOR, _CC_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR / _MINOR


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU, as its driver describes it."""

    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int


@cache
def gpus() -> tuple[Gpu, ...]:
    """Return every NVIDIA GPU with a working driver; empty without driver or device."""
    try:
        driver = _load_driver()
    except OSError:
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    return tuple(_describe(driver, index) for index in range(count.value))


def _load_driver() -> ctypes.CDLL:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def _describe(driver: ctypes.CDLL, index: int) -> Gpu:
    device, memory = ctypes.c_int(), ctypes.c_size_t()
    name, number = ctypes.create_string_buffer(256), ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, 256, device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    capability = []
    for attribute in (_CC_MAJOR, _CC_MINOR):
        driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        capability.append(number.value)
    return Gpu(name.value.decode(errors="replace"), (capability[0], capability[1]), memory.value)


@cache
def driver_version() -> str | None:
    """Return the newest CUDA version of the driver, such as 13.0; None without a driver."""
    try:
        driver = _load_driver()
    except OSError:
        return None
    number = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(number)):
        return None
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def absent(device: str) -> str | None:
    """Return why `device` cannot be used on this machine, or None."""
    if device == "cuda" and not gpus():
        return "no NVIDIA GPU with a working driver on this machine"
    return absent_intel(device)


def eager_device(device: str) -> str:
    """Return the device of the eager model with which an artifact on `device` is compared.

    For Intel's devices that is the CPU: PyTorch's default build does not support them.
    """
    return device if device == "cuda" else "cpu"
