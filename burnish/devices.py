"""Check of the devices that a user names."""

from __future__ import annotations

from collections.abc import Sequence


def check_devices(devices: Sequence[str]) -> tuple[str, ...]:
    """Return the devices, each once. Raises UsageError for an unknown device."""
    from runtimes.errors import UsageError
    from runtimes.machine.devices import DEVICES
    from runtimes.registry import nearest

    for device in devices:
        if device not in DEVICES:
            raise UsageError(f"unknown device {device!r}{nearest(device, DEVICES)}")
    return tuple(dict.fromkeys(devices))
