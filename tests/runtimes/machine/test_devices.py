"""This machine's GPUs, as its driver reports them. The driver here is a stand-in in C."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtimes.machine.devices import absent, gpus

_DRIVER = """
#include <stddef.h>
#include <string.h>
int cuInit(unsigned flags) { return FAILS; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = 40 + index; return 0; }
int cuDeviceGetName(char *name, int room, int device) {
    strncpy(name, device == 40 ? "First" : "Second", room);
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)device << 30; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? device - 31 : -1;
    return 0;
}
"""
_ASK = """
import dataclasses, json
from runtimes.machine.devices import absent, gpus
print(json.dumps([[dataclasses.astuple(gpu) for gpu in gpus()], absent("cuda")]))
"""


def ask(folder: Path, fails: int) -> tuple[list[list[object]], str | None]:
    """What a new process finds where libcuda.so.1 is the stand-in."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler to make a driver that answers")
    source = folder / "driver.c"
    source.write_text(_DRIVER)
    library = folder / "libcuda.so.1"
    subprocess.run(
        [compiler, "-shared", "-fPIC", f"-DFAILS={fails}", "-o", library, source], check=True
    )
    root = str(Path(sys.modules["runtimes"].__path__[0]).parent)
    environment = os.environ | {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": root}
    ended = subprocess.run(
        [sys.executable, "-c", _ASK], env=environment, capture_output=True, text=True, check=True
    )
    devices, missing = json.loads(ended.stdout)
    return devices, missing


def test_every_gpu_is_described_as_its_driver_answers(tmp_path: Path) -> None:
    devices, missing = ask(tmp_path, fails=0)
    assert devices == [["First", [8, 9], 40 << 30], ["Second", [8, 10], 41 << 30]]
    assert missing is None


def test_a_driver_that_does_not_start_means_no_gpu(tmp_path: Path) -> None:
    devices, missing = ask(tmp_path, fails=100)
    assert devices == []
    assert missing == "no NVIDIA GPU with a working driver on this machine"


def test_the_cpu_is_always_there() -> None:
    assert absent("cpu") is None


def test_cuda_is_absent_exactly_where_there_is_no_gpu() -> None:
    assert (absent("cuda") is None) == bool(gpus())


@pytest.mark.gpu
def test_the_gpus_are_those_that_torch_finds() -> None:
    import torch

    theirs = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    assert [(gpu.name, gpu.compute_capability, gpu.memory_bytes) for gpu in gpus()] == [
        (gpu.name, (gpu.major, gpu.minor), gpu.total_memory) for gpu in theirs
    ]
