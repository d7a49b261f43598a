"""The result of `burnish doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.doctor import FormatSupport
from burnish.report.terminal import console, show_pairs, show_table
from burnish.report.text import size


def as_data(machine: dict[str, Any], findings: Sequence[FormatSupport]) -> dict[str, Any]:
    """As JSON: null where nothing is missing, else the reason."""
    return {
        "machine": machine,
        "formats": {one.format: {"build": one.build, "run": one.run} for one in findings},
    }


def show_doctor(machine: dict[str, Any], findings: Sequence[FormatSupport]) -> None:
    """The machine, then per format what works and what is missing."""
    out = console()
    show_pairs(
        [
            (
                "processor",
                f"{machine['cpu']}, {machine['cores']} cores, {', '.join(machine['isa']) or 'no SIMD found'}",
            ),
            ("memory", size(machine["memory_bytes"])),
            ("GPU", ", ".join(machine["gpus"]) or "none with a working driver"),
            *machine["intel"].items(),
            ("Python", machine["python"]),
            ("packages", ", ".join(f"{name} {version}" for name, version in machine["versions"].items())),
        ],
        out,
    )
    rows = []
    for one in findings:
        able = ", ".join(device for device, problem in one.run.items() if problem is None)
        rows.append([one.format, "no" if one.build else "yes", able or "nothing here", "; ".join(_missing(one))])
    show_table(["format", "build", "run on", "missing"], rows, out)


def _missing(finding: FormatSupport) -> list[str]:
    problems = [f"to build: {finding.build}"] if finding.build else []
    return problems + [f"on {device}: {problem}" for device, problem in finding.run.items() if problem]
