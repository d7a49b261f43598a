"""Devices that a user names."""

from __future__ import annotations

from collections.abc import Sequence


def checked(devices: Sequence[str]) -> tuple[str, ...]:
    """The devices, each once. Raises UsageError for one that is none."""
    from runtimes.errors import UsageError
    from runtimes.machine.devices import DEVICES
    from runtimes.registry import nearest

    for device in devices:
        if device not in DEVICES:
            raise UsageError(f"unknown device {device!r}{nearest(device, DEVICES)}")
    return tuple(dict.fromkeys(devices))
