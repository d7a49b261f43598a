"""The page of fast_artifacts.py: Burnish's rows beside those that an expert builds by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import profiles
from pass_marks import BUDGET_AGREEMENT, BUDGET_ARTIFACTS, BUDGET_SPEEDUP, BUDGET_SQNR_DB, RIVALS

from runtimes.machine import machine
from runtimes.results import Speed
from runtimes.validator.speed.ratio import summarize

DECIBEL = 0.5  # a difference in SQNR that is none
FLOAT32_DB = 100.0  # float32 rows lie above it


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    name: str
    speed: Speed
    agreement: float
    accuracy: float
    sqnr_db: float
    share: float | None


@dataclass(frozen=True)
class Quality:
    """Requirement of the rows beside speed: agreement with eager, or SQNR with random weights."""

    random: bool

    def of(self, one: Line) -> float:
        """A share of 0..1, or dB."""
        return one.sqnr_db if self.random else one.agreement

    def least(self, asked: float, theirs: Line) -> float:
        """Requirement of a row: agreement, or the SQNR of the row by hand (above float32's all are alike)."""
        return min(theirs.sqnr_db - DECIBEL, FLOAT32_DB) if self.random else asked

    def words(self, value: float) -> str:
        """The value with its unit."""
        return f"{value:.1f} dB" if self.random else f"{value:.2%}"


def comparisons(found: Mapping[str, Line], launches: Sequence[Any], quality: Quality) -> list[str]:
    """Lines of the second table: each of Burnish's rows beside the one that an expert has."""

    def line(mine: str, theirs: str, gain: float, least: float) -> str:
        ratio = summarize([one[mine] for one in launches], [one[theirs] for one in launches])
        low, high = ratio.ci95 or (0.0, 0.0)
        reached = quality.of(found[mine])
        held = high >= gain and reached >= least
        return (
            f"| {mine} | {theirs} | **{ratio.speedup:.2f}x** ({low:.2f}-{high:.2f}) | {gain:g}x | "
            f"{quality.words(reached)} | {quality.words(least)} | {'yes' if held else '**no**'} |"
        )

    rows = [
        line(f"Burnish {name}", theirs, gain, quality.least(least, found[theirs]))
        for name, (theirs, gain, least) in RIVALS.items()
    ]
    budget = BUDGET_SQNR_DB if quality.random else BUDGET_AGREEMENT

    def fastest(names: Sequence[str]) -> str:
        held = [name for name in names if quality.of(found[name]) >= budget] or list(names)
        return max(held, key=lambda name: found[name].speed.speedup or 0.0)

    hands = [name for name in found if not name.startswith("Burnish") and name != "eager"]
    mine = fastest([f"Burnish {name}" for name in BUDGET_ARTIFACTS])
    return [*rows, line(mine, fastest(hands), BUDGET_SPEEDUP, budget)]


def section(
    model: str,
    made: Any,
    found: Mapping[str, Line],
    against: Sequence[str],
    remarks: Sequence[str],
    cost: str,
) -> list[str]:
    """The page's part on one model."""
    statuses = ", ".join(f"{row.name} {row.status}" for row in made.artifacts)
    rows = [
        f"| {one.name} | {one.speed.median_ms:.2f} | {one.speed.speedup or 1:.2f}x | {one.agreement:.2%} | "
        f"{one.accuracy:.2%} | {one.sqnr_db:.1f} | {f'{one.share:.0%}' if one.share else ''} |"
        for one in found.values()
    ]
    return [
        f"## {model}", "",
        f"Weights: {made.weights['source']}. Converting, with calibration, accuracy budgets and validation: "
        f"{cost}. Verdicts: {statuses}.", "",
        "| row | median ms | over eager | agreement | top-1 | SQNR dB | share of peak |",
        "| --- | --- | --- | --- | --- | --- | --- |", *rows, "",
        "| Burnish | by hand | ratio (95 %) | asked | agreement or SQNR | asked | held |",
        "| --- | --- | --- | --- | --- | --- | --- |", *against, "",
        *remarks, "",
    ]  # fmt: skip


def kept(int8: Mapping[str, Any]) -> list[str]:
    """How each quantized artifact came about."""
    lines = []
    for name, made in int8.items():
        tried = made["passes"][0]["quantize"]["calibration"].get("sqnr_db", {})
        ranges = ", ".join(f"ranges by {way} leave {value:.1f} dB" for way, value in tried.items())
        lines.append(f"- {name} keeps {len(made.get('kept_layers', []))} layers float; {ranges}")
    return lines


def bounds(
    against: Sequence[str], found: Mapping[str, Line], profiled: Mapping[str, Any]
) -> list[str]:
    """Bounds of each row that misses its mark: the machine's peak, and where the time goes."""
    lines = []
    for row in against:
        mine, theirs, ratio, asked, *_, held = (cell.strip() for cell in row.strip("| ").split("|"))
        if (
            held == "yes"
            or not (reached := found[mine].share)
            or not (beside := found[theirs].share)
        ):
            continue
        lines.append(
            f"- {mine} is not {asked} as fast as {theirs}: they reach {reached:.0%} and {beside:.0%} of the peak "
            f"that this machine has in a large product of matrices; the whole of it would be {1 / beside:.2f}x. "
            f"Its time: {profiles.in_words(profiled[mine.removeprefix('Burnish ')])}. "
            + profiles.left_to_gain(
                profiled[mine.removeprefix("Burnish ")],
                float(asked.rstrip("x")) / float(ratio.partition("x")[0].strip("*")),
            )
        )
    return lines


def page(sections: Iterable[Sequence[str]]) -> str:
    """The report as Markdown."""
    here = machine.describe()
    versions = ", ".join(
        f"{name} {here['versions'][name]}" for name in ("torch", "onnxruntime", "openvino", "nncf")
    )
    head = [
        "# Fast artifacts, beside what an expert builds by hand", "",
        f"Made by `python benchmarks/fast_artifacts.py` on {here['cpu']}, {here['cores']} cores "
        f"({', '.join(here['isa'])}); {versions}. Batch 1; calibrated on 100 pictures, judged on 400 others. "
        "Agreement: top-1 agreement with eager.", "",
    ]  # fmt: skip
    lines = list(head)
    for part in sections:
        lines += part
    return "\n".join(lines)
