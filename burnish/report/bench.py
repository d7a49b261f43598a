"""The result of `burnish bench`."""

from __future__ import annotations

from collections.abc import Mapping

from burnish.report.terminal import console, show_table
from burnish.report.text import latency
from runtimes.results import Speed


def show_bench(found: Mapping[str, Speed]) -> None:
    """Latencies, and the ratio where two artifacts were compared."""
    ratio = any(speed.speedup is not None for speed in found.values())
    columns = ["artifact", "median", "p90", "p99", *(["times as fast (95 %)"] if ratio else []), ""]
    rows = []
    for name, speed in found.items():
        cells = [name, latency(speed.median_ms), latency(speed.p90_ms), latency(speed.p99_ms)]
        if ratio:
            low, high = speed.ci95 or (0.0, 0.0)
            cells.append("" if speed.speedup is None else f"{speed.speedup:.2f}x ({low:.2f}-{high:.2f})")
        rows.append([*cells, "" if speed.stable else "unstable"])
    show_table(columns, rows, console())
