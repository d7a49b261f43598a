"""Emulated CPUs: the switches reach the engines, and nothing is emulated that this machine cannot compute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtimes.machine import machine
from runtimes.machine.instruction_sets import of_kernel
from tests.cpus import emulated
from tests.cpus.emulated import EMULATED, NAME, EmulatedCpu
from tests.cpus.recorded import flags

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(machine.own_cpu() != "x86", reason="only x86 CPUs are emulated")

KERNELS = """
import json
import numpy as np, openvino, torch
from openvino import opset13 as op
x = op.parameter([1, 16, 16, 16], np.float32)
model = openvino.Model([op.convolution(x, op.constant(np.ones((32, 16, 3, 3), np.float32)), *[[1, 1]] * 4)], [x])
compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
layers = [layer.get_rt_info() for layer in compiled.get_runtime_model().get_ops()]
kernels = [str(facts["primitiveType"].value) for facts in layers if str(facts["layerType"].value) == "Convolution"]
print(json.dumps([kernels, torch.backends.cpu.get_cpu_capability()]))
"""


def kernels(switches: dict[str, str]) -> tuple[list[str], str]:
    """The kernels of a convolution in OpenVINO, and PyTorch's capability, in a process with these switches."""
    pytest.importorskip("openvino")
    usual = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ATEN", "ONEDNN", "BURNISH"))
    }
    command = [sys.executable, "-c", KERNELS]
    child = subprocess.run(
        command, env={**usual, **switches}, cwd=ROOT, capture_output=True, text=True, check=True
    )
    names, capability = json.loads(child.stdout)
    return names, capability


def test_the_switches_keep_engines_from_what_this_machine_has() -> None:
    """To a level below every machine of today, so that it shows on all of them."""
    names, capability = kernels({"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"})
    assert names and not [name for name in names if "avx" in name or "amx" in name]
    assert capability == "DEFAULT"


@pytest.mark.cpu_flags
def test_a_machine_computes_only_as_cpus_that_have_less() -> None:
    avx2, avx512, amx = EMULATED
    host = {cpu.name: of_kernel("x86", flags(cpu.record)) for cpu in EMULATED}
    assert [avx2.computes(host[name]) for name in host] == [True, True, True]
    assert [avx512.computes(host[name]) for name in host] == [False, True, True]
    assert [amx.computes(host[name]) for name in host] == [False, False, False], "flags alone"
    assert "ONEDNN_MAX_CPU_ISA" not in avx512.environment(host["avx2"])
    assert avx512.environment(host["amx"])["ONEDNN_MAX_CPU_ISA"] == "AVX512_CORE_VNNI"


def test_tests_run_once_per_cpu_and_the_first_failure_is_the_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[tuple[str, str]] = []

    def run(
        command: list[str], env: dict[str, str], check: bool
    ) -> subprocess.CompletedProcess[str]:
        ran.append((env[NAME], command[command.index("-m", 2) + 1]))
        return subprocess.CompletedProcess(command, returncode=5 if env[NAME] == "avx512" else 0)

    monkeypatch.setattr(emulated, "instruction_sets", lambda: of_kernel("x86", flags("xeon_amx")))
    monkeypatch.setattr(emulated.subprocess, "run", run)
    assert emulated.main([]) == 5
    assert ran == [("avx2", "cpu or cpu_flags"), ("avx512", "cpu or cpu_flags")]
    monkeypatch.setattr(emulated, "instruction_sets", lambda: of_kernel("x86", flags("epyc_avx2")))
    ran.clear()
    emulated.main([])
    assert ran == [("avx2", "cpu or cpu_flags"), ("avx512", "cpu_flags")]


@pytest.fixture
def cpu() -> EmulatedCpu:
    """The CPU that this run emulates."""
    name = os.environ.get(NAME)
    found = next((cpu for cpu in EMULATED if cpu.name == name), None)
    if found is None:
        pytest.skip("no CPU is emulated: python -m tests.cpus.emulated")
    return found


@pytest.mark.cpu_flags
def test_the_product_sees_the_emulated_cpu(cpu: EmulatedCpu) -> None:
    assert machine.instruction_sets() == of_kernel("x86", flags(cpu.record))


@pytest.mark.cpu
def test_engines_compute_as_the_emulated_cpu(cpu: EmulatedCpu) -> None:
    names, capability = kernels(dict(cpu.switches))
    assert names and not [
        name for name in names if "amx" in name or (cpu.name == "avx2" and "avx512" in name)
    ]
    assert capability == cpu.name.upper()
