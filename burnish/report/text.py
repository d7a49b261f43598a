"""Texts and numbers for people, without control characters from recipes and models."""

from __future__ import annotations

from collections.abc import Mapping

from runtimes.errors import printable
from runtimes.results import Build, Parent, Row, SizesTried


def clean(text: object) -> str:
    """Return a text that is harmless on a terminal, as `printable` does.

    Use `line` for names and values from elsewhere: here line breaks and tabs stay.
    """
    return printable(text)


def line(text: object) -> str:
    """Return a name or value as one line; with a line break it could pose as a message."""
    return clean(text).replace("\n", "\\x0a").replace("\t", "\\x09")


def listed(values: Mapping[str, object], between: str = " ") -> list[str]:
    """Return each name with its value, such as `torch 2.14`."""
    return [f"{name}{between}{value}" for name, value in values.items()]


def size(count: int | None) -> str:
    """Return bytes as 46.8 MB."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


def parity(row: Row) -> str:
    """Return the noise of a float32 artifact, or the SQNR of a lossy one."""
    measured = row.parity
    if row.precision == "fp32" and measured.noise is not None:
        return f"{measured.noise:.2f}x noise"
    return f"{measured.sqnr_db:.1f} dB" if measured.sqnr_db is not None else ""


def sizes(tried: SizesTried) -> str:
    """Return which sizes were tried, as counts of the legal ones."""
    dims = [f"{line(name)} {len(dim.tried):,} of {dim.legal:,}" for name, dim in tried.dims.items()]
    if len(dims) < 2:
        return ", ".join(dims)
    return f"{tried.tried:,} of {tried.legal:,} combinations ({', '.join(dims)})"


def latency(milliseconds: float | None) -> str:
    """Return three significant digits, in ms, or in microseconds below a tenth of a millisecond."""
    if milliseconds is None:
        return ""
    value, unit = (milliseconds, "ms") if milliseconds >= 0.1 else (milliseconds * 1e3, "us")
    return f"{value:#.3g} {unit}".replace(". ", " ")


def speedup(row: Row) -> str:
    """Return the speed-up with its 95 % interval, marked if it is unstable."""
    speed = row.speed
    if speed.speedup is None or speed.ci95 is None:
        return ""
    low, high = speed.ci95
    mark = "" if speed.stable else " unstable"
    return f"{speed.speedup:.2f}x ({low:.2f}-{high:.2f}){mark}"


COLUMNS = ("artifact", "device", "status", "numbers", "latency", "speed-up (95 %)", "size")


def cells(row: Row) -> tuple[str, ...]:
    """Return one row of the table, in the order of COLUMNS."""
    return (
        line(row.name),
        line(row.device),
        row.status.value,
        parity(row),
        latency(row.speed.median_ms),
        speedup(row),
        size(row.size_bytes),
    )


def headline(build: Build) -> str:
    """Return the model and its weights; random weights are announced first and loudly."""
    source = line(build.weights.get("source", "unknown"))
    name = line(build.model)
    if build.weights.get("random"):
        return (
            f"RANDOM WEIGHTS ({source}): {name} computes nothing useful; "
            "its numbers and speeds are still proven"
        )
    return f"{name}, weights: {source}"


def remarks(build: Build) -> list[str]:
    """Return remarks on the table: why better weights were not used, reasons, notes."""
    lines = []
    for source in build.weights.get("tried") or []:
        lines.append(f"weights: {line(source.get('source'))} not used: {line(source.get('why'))}")
    eager = next((row.speed.eager_ms for row in build.artifacts if row.speed.eager_ms), None)
    if eager:
        cpu, cores = line(build.machine.get("cpu")), build.machine.get("cores")
        lines.append(f"speed-up over eager ({latency(eager)} on {cpu}, {cores} threads)")
    tried = set()
    for row in build.artifacts:
        if row.parity.sizes:
            tried.add(f"sizes tried: {sizes(row.parity.sizes)}")
    lines += sorted(tried)
    for row in build.artifacts:
        lines += [f"{line(row.name)}: {remark}" for remark in _row_remarks(row)]
    return [*lines, *map(clean, build.notes)]


def _row_remarks(row: Row) -> list[str]:
    """Return the reason of a row, its comparison with its parent, and its notes."""
    lines = [clean(row.reason)] if row.reason else []
    if row.speed.parent:
        lines.append(_beside(row, row.speed.parent))
    return [*lines, *map(clean, row.notes)]


def _beside(row: Row, parent: Parent) -> str:
    """Return speed and size of an artifact relative to the same format without its passes."""
    name = line(parent.name)
    share = "beside"
    if row.size_bytes:
        share = f"{row.size_bytes / parent.size_bytes:.0%} of the size of"
    if parent.speedup is None or parent.ci95 is None:
        return f"{share} {name}, which could not be timed beside it"
    low, high = parent.ci95
    return f"{parent.speedup:.2f}x ({low:.2f}-{high:.2f}) as fast as and {share} {name}"
