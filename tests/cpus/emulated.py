"""Other CPUs than this one, for the tests that depend on the CPU: `python -m tests.cpus.emulated`.

A CPU is emulated by its flags, which the product reads from BURNISH_CPUINFO, and by the switches that keep engines
from better instructions. A switch only lowers: as a CPU with more than this machine has nothing can be computed,
and only the tests that read flags (`cpu_flags`) are run. As one with less, those that compute (`cpu`) run too.

The switches reach PyTorch's own kernels, and oneDNN in PyTorch and in OpenVINO (`test_emulated.py`). They do not
reach ONNX Runtime, nor the part of OpenVINO's plugin that compiles kernels itself (reductions, fused subgraphs).
Inductor takes AMX for `avx512`, so nothing that it compiles for this very machine is a `cpu` test.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runtimes.machine.instruction_sets import of_kernel
from runtimes.machine.machine import instruction_sets, own_cpu
from tests.cpus.recorded import cpuinfo, flags

NAME = "BURNISH_TEST_CPU"
"""Set to the name of the CPU that the tests run as."""


@dataclass(frozen=True)
class EmulatedCpu:
    """A recorded CPU and the switches that make engines compute as on it; without any, only its flags are shown."""

    name: str
    record: str
    switches: Mapping[str, str] = field(default_factory=dict)

    def computes(self, host: frozenset[str]) -> bool:
        """Whether a machine with these instruction sets can compute as this CPU: it has the vectors of it."""
        own = of_kernel("x86", flags(self.record))
        return (
            bool(self.switches)
            and {name for name in own if name.startswith(("avx", "fma"))} <= host
        )

    def environment(self, host: frozenset[str]) -> dict[str, str]:
        """What processes that run as this CPU find in theirs."""
        switches = self.switches if self.computes(host) else {}
        return {NAME: self.name, "BURNISH_CPUINFO": str(cpuinfo(self.record)), **switches}


EMULATED = (
    EmulatedCpu(
        "avx2",
        "epyc_avx2",
        {
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
            "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
        },
    ),
    EmulatedCpu(
        "avx512",
        "xeon_avx512",
        {
            "ATEN_CPU_CAPABILITY": "avx512",
            "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI",
            "MKL_ENABLE_INSTRUCTIONS": "AVX512",
            "FBGEMM_ENABLE_INSTRUCTIONS": "AVX512",
        },
    ),
    EmulatedCpu("amx", "xeon_amx"),
)


def main(arguments: Sequence[str]) -> int:
    """Run the tests once per CPU, with more arguments for pytest; the exit status is the first that is not 0."""
    if own_cpu() != "x86":
        _say("only x86 CPUs are emulated, on x86")
        return 0
    host = instruction_sets()
    for cpu in EMULATED:
        computes = cpu.computes(host)
        what, marks = (
            ("flags and engines", "cpu or cpu_flags") if computes else ("flags alone", "cpu_flags")
        )
        _say(f"as {cpu.name}: {what}")
        command = [sys.executable, "-m", "pytest", "-q", "-m", marks, *arguments]
        status = subprocess.run(
            command, env={**os.environ, **cpu.environment(host)}, check=False
        ).returncode
        if status:
            return status
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"== {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
