"""Words and numbers for people; control characters from recipes and models never reach a terminal."""

from __future__ import annotations

from typing import Any

from runtimes.results import Build, Parent, Row


def clean(text: object) -> str:
    """The text with control characters (escapes, writing direction) made visible; line breaks and tabs stay.

    For messages of Burnish's own, which have lines. What comes from elsewhere and is one line goes through `line`.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in str(text))


def line(text: object) -> str:
    """A name or value on one line: line breaks in it are made visible too, or it could pose as a message."""
    return clean(text).replace("\n", "\\x0a").replace("\t", "\\x09")


def size(count: int | None) -> str:
    """Bytes as 46.8 MB."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


def parity(row: Row) -> str:
    """Noise for float32, SQNR for what is lossy."""
    found = row.parity
    if row.precision == "fp32" and found.noise is not None:
        return f"{found.noise:.2f}x noise"
    return f"{found.sqnr_db:.1f} dB" if found.sqnr_db is not None else ""


def latency(milliseconds: float | None) -> str:
    """Three significant digits, in ms or below a tenth of one in microseconds."""
    if milliseconds is None:
        return ""
    value, unit = (milliseconds, "ms") if milliseconds >= 0.1 else (milliseconds * 1e3, "us")
    return f"{value:#.3g} {unit}".replace(". ", " ")


def speedup(row: Row) -> str:
    """The ratio with its 95 % interval, marked where it did not settle."""
    found = row.speed
    if found.speedup is None or found.ci95 is None:
        return ""
    mark = "" if found.stable else " unstable"
    return f"{found.speedup:.2f}x ({found.ci95[0]:.2f}-{found.ci95[1]:.2f}){mark}"


COLUMNS = ("artifact", "device", "status", "numbers", "latency", "speed-up (95 %)", "size")


def cells(row: Row) -> tuple[str, ...]:
    """One row of the table, in the order of COLUMNS."""
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
    """The model and its weights; that they are random is said first and loudly."""
    source = line(build.weights.get("source", "unknown"))
    name = line(build.model)
    if build.weights.get("random"):
        return f"RANDOM WEIGHTS ({source}): {name} computes nothing useful; its numbers and speeds are still proven"
    return f"{name}, weights: {source}"


def remarks(build: Build) -> list[str]:
    """What a reader must know besides the table: why better weights were not used, reasons, notes."""
    lines = [f"weights: {line(one.get('source'))} not used: {line(one.get('why'))}" for one in _tried(build)]
    eager = next((row.speed.eager_ms for row in build.artifacts if row.speed.eager_ms), None)
    if eager:
        here = build.machine
        lines.append(
            f"speed-up over eager ({latency(eager)} on {line(here.get('cpu'))}, {here.get('cores')} threads)"
        )
    for row in build.artifacts:
        if row.reason:
            lines.append(f"{line(row.name)}: {clean(row.reason)}")
        if row.speed.parent:
            lines.append(f"{line(row.name)}: {_beside(row, row.speed.parent)}")
        lines += [f"{line(row.name)}: {clean(note)}" for note in row.notes]
    return lines + [clean(note) for note in build.notes]


def _beside(row: Row, parent: Parent) -> str:
    """What the passes of an artifact bought."""
    share = f"{row.size_bytes / parent.size_bytes:.0%} of the size of" if row.size_bytes else "beside"
    if parent.speedup is None or parent.ci95 is None:
        return f"{share} {line(parent.name)}, which could not be timed beside it"
    low, high = parent.ci95
    return f"{parent.speedup:.2f}x ({low:.2f}-{high:.2f}) as fast as and {share} {line(parent.name)}"


def _tried(build: Build) -> list[dict[str, Any]]:
    return list(build.weights.get("tried") or [])
