"""The page of a trial: shares by gate, kind and model, and every survivor with its reason."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mutation.trial import Result
from runtimes.machine import machine

REASONS = Path(__file__).with_name("reasons.toml")
_BANDS = ((1.0, 3.0), (3.0, 10.0), (10.0, float("inf")))
"""Defects of lossy artifacts by their size, in honest errors."""
UNEXPLAINED = "not explained yet"


def summary(results: Sequence[Result]) -> list[str]:
    """Return the shares in a few lines."""
    outcomes = Counter(result.outcome for result in results)
    unequal = [result for result in results if result.outcome in ("caught", "survived")]
    lossless = [result for result in unequal if result.lossless]
    lossy = [result for result in unequal if not result.lossless]
    lines = [
        f"{len(results)} mutants of {len({result.subject for result in results})} artifacts: "
        f"{outcomes['invalid']} invalid, {outcomes['equal']} equal, {len(unequal)} unequal.",
        "",
        f"Lossless: {_share(lossless)}. Lossy: {_share(lossy)}.",
    ]
    if lossy:
        lines += ["", "Lossy, by the defect in honest errors: " + "; ".join(_by_band(lossy)) + "."]
    return lines


def write_page(path: Path, results: Sequence[Result], command: str) -> None:
    """Write the page."""
    here = machine.describe()
    unequal = [result for result in results if result.outcome in ("caught", "survived")]
    made_by = f"Made by `{command}` on {here['cpu']}, {here['cores']} cores."
    lines = ["# Mutants", "", made_by, "", *summary(results), ""]
    lines += ["## By kind of defect", "", *_table("defect", unequal, lambda result: result.kind)]
    lines += ["", "## By artifact", "", *_table("artifact", unequal, lambda result: result.subject)]
    lines += ["", "## By gate", "", *_gates(unequal)]
    lines += ["", "## Survivors", "", *_survivors(unequal)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _share(results: Sequence[Result]) -> str:
    caught = sum(result.outcome == "caught" for result in results)
    share = f" ({caught / len(results):.1%})" if results else ""
    return f"{caught} of {len(results)} caught{share}"


def _by_band(results: Sequence[Result]) -> Iterable[str]:
    for low, high in _BANDS:
        band = [result for result in results if low < _ratio(result) <= high]
        words = f"over {low:g}" if high == float("inf") else f"{low:g} to {high:g}"
        yield f"{words}: {_share(band)}"


def _ratio(result: Result) -> float:
    return float("inf") if result.ratio < 0 else result.ratio


def _table(title: str, results: Sequence[Result], key: Callable[[Result], str]) -> list[str]:
    lines = [f"| {title} | lossless | lossy |", "| --- | --- | --- |"]
    if title == "artifact":
        lines = [f"| {title} | caught |", "| --- | --- |"]
    for name in dict.fromkeys(key(result) for result in sorted(results, key=key)):
        group = [result for result in results if key(result) == name]
        if title == "artifact":
            lines.append(f"| {name} | {_share(group)} |")
            continue
        halves = [[result for result in group if result.lossless is half] for half in (True, False)]
        cells = [_share(half) if half else "" for half in halves]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return lines


def _gates(results: Sequence[Result]) -> list[str]:
    gates = Counter(result.gate for result in results if result.outcome == "caught")
    lines = ["| gate | first to fail |", "| --- | --- |"]
    return [*lines, *(f"| {gate} | {count} |" for gate, count in gates.most_common())]


def _survivors(results: Sequence[Result]) -> list[str]:
    """Group the survivors by their reason."""
    reasons = tomllib.loads(REASONS.read_text(encoding="utf-8"))["reason"]
    groups: dict[str, list[Result]] = {}
    for result in results:
        if result.outcome == "survived":
            groups.setdefault(explain(result, reasons), []).append(result)
    lines = []
    for reason, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        lines += [f"**{reason}** ({len(group)})", ""]
        lines += [
            "| artifact | defect | change | largest difference |",
            "| --- | --- | --- | --- |",
        ]
        for result in group:
            ratio = "raises or is not finite" if result.ratio < 0 else f"{result.ratio:.3g}"
            where = f"{ratio}: {result.where}" if result.ratio >= 0 else result.where
            lines.append(f"| {result.subject} | {result.kind} | {result.words} | {where} |")
        lines.append("")
    return lines[:-1] if lines else ["None."]


def explain(result: Result, reasons: Sequence[dict[str, Any]]) -> str:
    """Return the first reason whose patterns match a survivor."""
    for entry in reasons:
        fields = {"subject": result.subject, "kind": result.kind, "words": result.words}
        patterns = {name: entry[name] for name in fields if name in entry}
        if all(re.search(pattern, fields[name]) for name, pattern in patterns.items()):
            low, high = float(entry.get("above", 0)), float(entry.get("below", "inf"))
            if low <= _ratio(result) < high:
                return str(entry["why"])
    return UNEXPLAINED
