"""Intel's GPUs and NPUs, as OpenVINO finds them. It brings the plugins; the machine must have device and driver."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

INSTALL = "pip install 'burnish[openvino]'"
PLUGINS = {"cpu": "CPU", "intel-gpu": "GPU", "intel-npu": "NPU"}
"""What OpenVINO calls the devices that it runs on; of several GPUs, GPU is the first."""
_ABSENT = {
    "intel-gpu": "no Intel GPU that OpenVINO can use on this machine; its driver is the package intel-opencl-icd",
    "intel-npu": "no Intel NPU that OpenVINO can use on this machine; its driver is intel/linux-npu-driver",
}


@cache
def intel_devices() -> dict[str, str]:
    """The full names of this machine's Intel GPU and NPU by device; empty where OpenVINO finds or is none."""
    if not find_spec("openvino"):
        return {}
    import openvino

    core = openvino.Core()
    there = {name.partition(".")[0] for name in core.available_devices}
    return {
        device: str(core.get_property(PLUGINS[device], "FULL_DEVICE_NAME"))
        for device in _ABSENT
        if PLUGINS[device] in there
    }


def absent_intel(device: str) -> str | None:
    """Why an Intel device cannot be used on this machine, or None; also for devices of other makers."""
    if device not in _ABSENT or device in intel_devices():
        return None
    if not find_spec("openvino"):
        return f"OpenVINO, which runs Intel's devices, is not installed: {INSTALL}"
    return _ABSENT[device]
