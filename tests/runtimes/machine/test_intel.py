"""Intel's devices, as OpenVINO finds them. OpenVINO here is a stand-in that finds some."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from runtimes.artifact.artifact import Artifact
from runtimes.machine import intel
from runtimes.machine.devices import DEVICES, absent, eager_device
from runtimes.machine.intel import absent_intel, intel_devices
from runtimes.session import load
from runtimes.validator.host import Opener
from runtimes.validator.reference import Reference
from runtimes.validator.validate import Target, validate

Make = Callable[..., Artifact]

_OPENVINO = """
class Core:
    available_devices = ["CPU", "GPU.0", "GPU.1"]

    def get_property(self, device, name):
        return f"{name} of {device}"
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An openvino that finds two GPUs and no NPU, here and in the processes that are started."""
    (tmp_path / "stand_in").mkdir()
    (tmp_path / "stand_in" / "openvino.py").write_text(_OPENVINO, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "stand_in")
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", importlib.import_module("openvino"))
    intel_devices.cache_clear()
    yield
    intel_devices.cache_clear()


@pytest.mark.usefixtures("stand_in")
def test_devices_are_those_that_openvino_finds() -> None:
    assert intel_devices() == {"intel-gpu": "FULL_DEVICE_NAME of GPU"}
    assert absent("intel-gpu") is None
    assert str(absent("intel-npu")).startswith("no Intel NPU that OpenVINO can use on this machine")


def test_without_openvino_its_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intel, "find_spec", lambda name: None)
    intel_devices.cache_clear()
    try:
        for device in ("intel-gpu", "intel-npu"):
            wanted = (
                "OpenVINO, which runs Intel's devices, is not installed: "
                "pip install 'burnish[openvino]'"
            )
            assert absent_intel(device) == wanted
    finally:
        intel_devices.cache_clear()


@pytest.mark.skipif(not find_spec("openvino"), reason="openvino is not installed")
def test_a_device_is_absent_exactly_where_openvino_does_not_find_it() -> None:
    import openvino

    available = " ".join(openvino.Core().available_devices)
    assert (absent("intel-gpu") is None) == ("GPU" in available)
    assert (absent("intel-npu") is None) == ("NPU" in available)


def test_eager_runs_on_pytorchs_own_devices() -> None:
    assert [eager_device(device) for device in DEVICES] == ["cpu", "cuda", "cpu", "cpu"]


@pytest.mark.usefixtures("stand_in")
def test_on_an_intel_device_the_speed_is_over_eager_on_the_cpu_and_the_row_says_so(
    linear: Make, linear_reference: Reference
) -> None:
    artifact = linear(devices=("cpu", "intel-gpu"))
    opener: Opener = partial(load, artifact.path, "cpu")
    devices: list[str] = []

    def eager(device: str) -> Opener:
        devices.append(device)
        return opener

    cpu, gpu = validate(
        [Target(artifact, "cpu"), Target(artifact, "intel-gpu")],
        linear_reference,
        eager,
        budget=0.05,
    )
    assert devices == ["cpu", "cpu"]
    assert cpu.speed.speedup is not None and gpu.speed.speedup is not None
    wanted = "on intel-gpu (FULL_DEVICE_NAME of GPU) the speed-up is over the eager model on cpu"
    assert wanted in gpu.notes
    assert wanted not in cpu.notes
