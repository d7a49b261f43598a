"""The report of `burnish doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.doctor import FormatSupport
from burnish.report.terminal import console, show_pairs, show_table
from burnish.report.text import listed, size


def as_data(machine: dict[str, Any], formats: Sequence[FormatSupport]) -> dict[str, Any]:
    """Return the report as JSON: null if nothing is missing, else the reason."""
    by_name = {support.format: {"build": support.build, "run": support.run} for support in formats}
    return {"machine": machine, "formats": by_name}


def show_doctor(machine: dict[str, Any], formats: Sequence[FormatSupport]) -> None:
    """Show the machine, then for each format what works and what is missing."""
    out = console()
    isa = ", ".join(machine["isa"]) or "no SIMD found"
    pairs = [
        ("processor", f"{machine['cpu']}, {machine['cores']} cores, {isa}"),
        ("memory", size(machine["memory_bytes"])),
        ("GPU", ", ".join(machine["gpus"]) or "none with a working driver"),
        *machine["intel"].items(),
        ("Python", machine["python"]),
        ("packages", ", ".join(listed(machine["versions"]))),
    ]
    show_pairs(pairs, out)
    rows = []
    for support in formats:
        devices = [device for device, problem in support.run.items() if problem is None]
        builds = "no" if support.build else "yes"
        runs_on = ", ".join(devices) or "nothing here"
        rows.append([support.format, builds, runs_on, "; ".join(_missing(support))])
    show_table(["format", "build", "run on", "missing"], rows, out)


def _missing(support: FormatSupport) -> list[str]:
    problems = [f"to build: {support.build}"] if support.build else []
    for device, problem in support.run.items():
        if problem:
            problems.append(f"on {device}: {problem}")
    return problems
