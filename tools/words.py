"""Words that are replaced by plain ones, and what to write in their place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

NAME_ADVICE = {
    "one": "name it after the thing: artifact, layer, row, distance",
    "found": "name it after the thing: outputs, layers, matches, path",
    "made": "name it after the thing: artifacts, session, build",
    "told": "name it after the thing: message, notes, progress",
    "known": "name it after the thing: names, digests, shapes",
    "asked": "name it after the thing: options, request, query",
    "every": "name it after the thing: samples, nodes, passes",
    "own": "name it after the thing, or after its owner: layer_inputs, artifact_options",
}


@dataclass(frozen=True)
class Rule:
    """A word in prose.

    Attributes:
        pattern: what is looked for.
        idioms: phrases around the word in which it is right.
        advice: what to write in its place.
    """

    pattern: re.Pattern[str]
    idioms: re.Pattern[str] | None
    advice: str

    def matches(self, text: str) -> Iterator[tuple[int, str]]:
        """Find the word: pairs of position and spelling; not within an idiom."""
        idioms = [match.span() for match in self.idioms.finditer(text)] if self.idioms else []
        for match in self.pattern.finditer(text):
            if not any(start <= match.start() < end for start, end in idioms):
                yield match.start(), match.group()


def _rule(pattern: str, advice: str, idioms: str | None = None) -> Rule:
    return Rule(
        re.compile(pattern, re.IGNORECASE),
        re.compile(idioms, re.IGNORECASE) if idioms else None,
        advice,
    )


_BEHIND = (
    r"\b(?:left|leaves?|leaving|leave)\b(?:\s+\w+)?\s+behind\b"  # left behind, leaves nothing behind
    r"|\b(?:falls?|fell|fallen|falling|lags?|lagging|stays?|stayed)\s+behind\b"
    r"|\bbehind\s+(?:an?|the)\s+(?:\w+\s+)?(?:flag|proxy|firewall|option|scenes|interface|protocol|curtain)\b"
)
_APART = r"\b(?:tells?|told|telling)\b[^.;:]{0,60}?\sapart\b"  # tells two classes apart

WORDS = (
    _rule(r"\banew\b", "write `again`, or name what happens: rebuild, recompute, re-estimate"),
    _rule(
        r"\bbehind\b",
        "write `after` (order, time), or name the place: at the end of, following",
        _BEHIND,
    ),
    _rule(
        r"\btold\b",
        "write `reported`, `given`, or `computed`; `called with` for a callback",
        _APART,
    ),
    _rule(r"\btells\b", "write `reports`, `returns`, `shows`, or `says`", _APART),
)
"""Words that are checked in comments, docstrings, help texts, messages and documents."""

OPENING_ADVICE = (
    "start with a verb (functions) or a noun (classes, values); a question ends with `?`"
)

_OPENING = re.compile(
    r"(?:\A\s*|[.!?:;]['\")`*_]*\s+|\n\s*\n\s*|\n\s*[-*]\s+|->\s+)(?P<what>What)(?!')\b"
)
_END = re.compile(r"[.!?](?=['\")`*_]*(?:\s|\Z))|\n\s*\n")


def openings(text: str) -> Iterator[int]:
    """Find the sentences that begin with "What", except for questions: the positions of the word.

    A sentence begins at the start of a text, of a paragraph or of a list's item, and after a full stop or a colon.
    """
    for match in _OPENING.finditer(text):
        end = _END.search(text, match.end())
        if end is None or end.group() != "?":
            yield match.start("what")
