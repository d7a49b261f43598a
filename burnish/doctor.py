"""Find out which formats this machine can build and run, and how to install what is missing."""

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
    """One format: why it cannot be built here, or run on each of its devices; None if it can."""

    format: str
    build: str | None
    run: dict[str, str | None]


def examine() -> tuple[dict[str, Any], list[FormatSupport]]:
    """Return the facts of this machine, with Intel's devices, and the support of each format."""
    facts = {**machine.describe(), "intel": _intel()}
    return facts, list(map(_examine, EXPORTERS.names()))


def _intel() -> dict[str, str]:
    """Return the names of Intel's devices; empty if OpenVINO is broken, as its format reports."""
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
    except (BurnishError, ImportError) as error:  # a third-party plug-in may be broken in any way
        return FormatSupport(name, str(error), {})
    return FormatSupport(name, build, run)
