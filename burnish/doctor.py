"""What this machine can build and run, what is missing, and the command that installs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from converters.exporters import EXPORTERS
from converters.exporters.base import Exporter
from runtimes.errors import BurnishError
from runtimes.machine import machine
from runtimes.machine.devices import absent
from runtimes.machine.intel import intel_devices
from runtimes.session import RUNTIMES, Runtime


@dataclass(frozen=True)
class FormatSupport:
    """One format: why it cannot be built here, and why it cannot be run on each of its devices (None: it can)."""

    format: str
    build: str | None
    run: dict[str, str | None]


def examine() -> tuple[dict[str, Any], list[FormatSupport]]:
    """The machine with Intel's devices, and a finding for each format that is known."""
    return {**machine.describe(), "intel": _intel()}, [_examine(name) for name in EXPORTERS.names()]


def _intel() -> dict[str, str]:
    """Names of Intel's devices; none where OpenVINO is broken, which the finding of its format tells."""
    try:
        return intel_devices()
    except (ImportError, RuntimeError):
        return {}


def _examine(name: str) -> FormatSupport:
    try:
        exporter: Exporter = EXPORTERS.get(name)()
        build = exporter.missing(exporter.Options(format=name))
        runtime: Runtime = RUNTIMES.get(exporter.runtime)()
        run = {device: absent(device) or runtime.missing(device, {}) for device in exporter.devices}
    except (BurnishError, ImportError) as error:  # a third party's plug-in may be broken in any way
        return FormatSupport(name, str(error), {})
    return FormatSupport(name, build, run)
