"""Intel's GPUs and NPUs, as OpenVINO finds them: it has the plugins, the machine the drivers."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

from runtimes.machine.telemetry import refuse_telemetry

INSTALL = "pip install 'burnish[openvino]'"
PLUGINS = {"cpu": "CPU", "intel-gpu": "GPU", "intel-npu": "NPU"}
"""OpenVINO's names of the devices; of several GPUs, GPU is the first."""
_ABSENT = {
    "intel-gpu": "no Intel GPU that OpenVINO can use on this machine; "
    "its driver is the package intel-opencl-icd",
    "intel-npu": "no Intel NPU that OpenVINO can use on this machine; "
    "its driver is intel/linux-npu-driver",
}


@cache
def intel_devices() -> dict[str, str]:
    """Return the full names of this machine's Intel GPU and NPU by device; {} without OpenVINO."""
    if not find_spec("openvino"):
        return {}
    refuse_telemetry()
    import openvino

    core = openvino.Core()
    available = {name.partition(".")[0] for name in core.available_devices}
    names = {}
    for device in _ABSENT:
        if PLUGINS[device] in available:
            names[device] = str(core.get_property(PLUGINS[device], "FULL_DEVICE_NAME"))
    return names


def absent_intel(device: str) -> str | None:
    """Return why an Intel device cannot be used here, or None; None for other vendors' devices."""
    if device not in _ABSENT or device in intel_devices():
        return None
    if not find_spec("openvino"):
        return f"OpenVINO, which runs Intel's devices, is not installed: {INSTALL}"
    return _ABSENT[device]
