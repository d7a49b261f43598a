"""The report of `burnish bench`."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text

from burnish.report.terminal import console, show_pairs, show_table
from burnish.report.text import latency, line, size
from runtimes.results import Deadline, Speed


def show_bench(speeds: Mapping[str, Speed]) -> None:
    """Show latencies, their ratio if there are two, and the other measurements of each."""
    with_ratio = any(speed.speedup is not None for speed in speeds.values())
    columns = ["artifact", "median", "p90", "p99"]
    if with_ratio:
        columns.append("times as fast (95 %)")
    columns.append("")
    rows = []
    for name, speed in speeds.items():
        cells = [name, latency(speed.median_ms), latency(speed.p90_ms), latency(speed.p99_ms)]
        if with_ratio:
            cells.append(_ratio(speed))
        rows.append([*cells, "" if speed.stable else "unstable"])
    out = console()
    show_table(columns, rows, out)
    for name, speed in speeds.items():
        out.print(Text(line(name), style="bold"))
        show_pairs([pair for pair in _alone(speed) if pair[1]], out)


def _ratio(speed: Speed) -> str:
    if speed.speedup is None:
        return ""
    low, high = speed.ci95 or (0.0, 0.0)
    return f"{speed.speedup:.2f}x ({low:.2f}-{high:.2f})"


def _alone(speed: Speed) -> list[tuple[str, str]]:
    """Return what was measured of one artifact alone: names and values, which may be empty."""
    rates = [f"{rate:.4g}/s at batch {batch}" for batch, rate in speed.throughput.items()]
    share = ""
    if speed.compute_share is not None:
        share = f"{speed.compute_share:.0%} of this machine's measured peak"
    return [
        ("cold start", latency(speed.cold_start_ms)),
        ("peak memory", size(speed.peak_memory_bytes)),
        ("throughput", ", ".join(rates)),
        ("compute share", share),
        ("deadline", _deadline(speed.deadline) if speed.deadline else ""),
    ]


def _deadline(deadline: Deadline) -> str:
    return (
        f"{latency(deadline.deadline_ms)}: p99 {latency(deadline.p99_ms)}, "
        f"{deadline.misses_per_10000:.0f} of 10,000 late ({deadline.requests} requests)"
    )
