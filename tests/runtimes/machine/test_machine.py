"""Description of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from runtimes.machine.machine import cores, describe, instruction_sets, own_cpu, system, versions

pytestmark = pytest.mark.cpu_flags
ROOT = Path(__file__).parents[3]


def test_a_description_fits_into_build_json() -> None:
    description = describe()
    assert json.loads(json.dumps(description)) == description
    assert description["cpu"].strip()
    assert description["memory_bytes"] > 1 << 28


def test_versions_are_those_of_the_installed_packages() -> None:
    assert versions()["numpy"] == version("numpy")
    assert versions()["onnxruntime"] == version("onnxruntime")
    for package in ("openvino", "nncf"):
        assert (package in versions()) == (find_spec(package) is not None)


def test_only_cores_that_this_process_may_use_are_counted() -> None:
    if not hasattr(os, "sched_setaffinity"):
        assert len(cores()) == os.cpu_count()
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores() == [min(before)]
    finally:
        os.sched_setaffinity(0, before)


def test_instruction_sets_that_are_shown_are_of_those_of_the_table() -> None:
    assert set(describe()["isa"]) <= instruction_sets()


def test_another_cpus_flags_reach_child_processes(on_cpu: Callable[[str], None]) -> None:
    name, shown = ("xeon_amx", "amx_int8") if own_cpu() == "x86" else ("neoverse_v1", "sve")
    on_cpu(name)
    assert shown in describe()["isa"] and describe()["cpu"].startswith(
        ("Intel(R) Xeon(R)", "Neoverse-V1")
    )
    code = "from runtimes.machine.machine import describe; print(describe()['isa'])"
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert child.stdout.strip() == str(describe()["isa"])


@pytest.mark.parametrize(
    ("machine", "family"),
    [
        ("x86_64", "x86"),
        ("AMD64", "x86"),
        ("aarch64", "arm"),
        ("arm64", "arm"),
        ("armv7l", "arm"),
        ("ppc64", "x86"),
    ],
)
def test_the_family_of_a_cpu(monkeypatch: pytest.MonkeyPatch, machine: str, family: str) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert own_cpu() == family


def test_the_system_that_code_is_compiled_for() -> None:
    assert system().startswith(f"{sys.platform}-")
