"""A terminal that a test can look at: what is on it after what was written to it."""

from __future__ import annotations

import re

_CODE = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])|\x1b(.)|([\r\n\b])|([^\x1b\r\n\b]+)")


class Screen:
    """Obeys the codes that rich writes; refuses others, and lines of progress that are wider than the terminal.

    Attributes:
        width: in columns.
        lines: what is written, from the top.
        cursor: whether it is seen.
    """

    def __init__(self, width: int) -> None:
        self.width, self.lines, self.cursor = width, [""], True
        self.seen: list[str] = []
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        """Write to the terminal; `seen` keeps what was on it before each line was erased."""
        end = 0
        for match in _CODE.finditer(text):
            assert match.start() == end, f"not understood: {text[end : match.start()]!r}"
            end = match.end()
            private, numbers, letter, other, control, words = match.groups()
            if words:
                self._write(words)
            elif control:
                self._move(control)
            elif letter:
                self._obey(private, numbers, letter)
            else:
                raise AssertionError(f"the code {other!r} is none of a progress display")
        assert end == len(text), f"not understood: {text[end:]!r}"

    @property
    def text(self) -> str:
        """What is on the screen."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")

    def _write(self, words: str) -> None:
        line = self.lines[self._row].ljust(self._column)
        line = line[: self._column] + words + line[self._column + len(words) :]
        # Without a cursor progress is shown; what comes after it may wrap.
        assert self.cursor or len(line.rstrip()) <= self.width, f"wraps: {line!r}"
        self.lines[self._row] = line
        self._column += len(words)

    def _move(self, control: str) -> None:
        if control == "\n":
            self._row, self._column = self._row + 1, 0
            if self._row == len(self.lines):
                self.lines.append("")
        elif control == "\r":
            self._column = 0

    def _obey(self, private: str, numbers: str, letter: str) -> None:
        if private:
            assert numbers == "25", f"the mode {numbers} is none of a progress display"
            self.cursor = letter == "h"
        elif letter == "A":
            self._row = max(0, self._row - int(numbers or 1))
        elif letter == "K":
            assert numbers == "2", "whole lines are erased"
            if (text := self.text) and (not self.seen or self.seen[-1] != text):
                self.seen.append(text)
            self.lines[self._row] = ""
        else:
            assert letter == "m", f"the code {letter!r} is none of a progress display"
