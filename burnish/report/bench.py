"""The result of `burnish bench`."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text

from burnish.report.terminal import console, show_pairs, show_table
from burnish.report.text import latency, line, size
from runtimes.results import Speed


def show_bench(found: Mapping[str, Speed]) -> None:
    """Latencies, the ratio where two artifacts were compared, then what was measured of each alone."""
    ratio = any(speed.speedup is not None for speed in found.values())
    columns = ["artifact", "median", "p90", "p99", *(["times as fast (95 %)"] if ratio else []), ""]
    rows = []
    for name, speed in found.items():
        cells = [name, latency(speed.median_ms), latency(speed.p90_ms), latency(speed.p99_ms)]
        if ratio:
            low, high = speed.ci95 or (0.0, 0.0)
            cells.append("" if speed.speedup is None else f"{speed.speedup:.2f}x ({low:.2f}-{high:.2f})")
        rows.append([*cells, "" if speed.stable else "unstable"])
    out = console()
    show_table(columns, rows, out)
    for name, speed in found.items():
        out.print(Text(line(name), style="bold"))
        show_pairs([pair for pair in _alone(speed) if pair[1]], out)


def _alone(speed: Speed) -> list[tuple[str, str]]:
    share, met = speed.compute_share, speed.deadline
    return [
        ("cold start", latency(speed.cold_start_ms)),
        ("peak memory", size(speed.peak_memory_bytes)),
        ("throughput", ", ".join(f"{rate:.4g}/s at batch {batch}" for batch, rate in speed.throughput.items())),
        ("compute share", "" if share is None else f"{share:.0%} of this machine's measured peak"),
        (
            "deadline",
            ""
            if met is None
            else f"{latency(met.deadline_ms)}: p99 {latency(met.p99_ms)}, "
            f"{met.misses_per_10000:.0f} of 10,000 late ({met.requests} requests)",
        ),
    ]
