"""Check that code and documents use plain words: names of things, and idiomatic technical English.

    python -m tools.plain_words [PATH ...]

Without paths the repository's own text is checked: names in the packages; words in comments,
docstrings, help texts, messages and documents of packages, benchmarks, tools, recipes and docs.
Prints `file:line: word: advice` for each finding. Exit status 1 if there is one.

`tools/words.py` has the rules.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.bindings import read_bindings
from tools.prose import Passage, read_markdown, read_python, read_yaml
from tools.sources import PACKAGES, ROOT, Module
from tools.words import NAME_ADVICE, OPENING_ADVICE, WORDS, openings

_TEXTS = (
    *PACKAGES,
    "benchmarks",
    "tools",
    "configs",
    "docs",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
)
"""Files and folders that are checked by default. `tests/` is not: its names are sentences of their own."""
_SELF = (
    "tools/words.py",
    "tools/plain_words.py",
    "tools/bindings.py",
)  # they spell the words that they look for


@dataclass(frozen=True)
class Finding:
    """A tell-tale word.

    Attributes:
        path: file, relative to the repository.
        line: in the file.
        word: that was found.
        advice: what to write in its place.
    """

    path: Path
    line: int
    word: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word}: {self.advice}"


def check(paths: Iterable[Path], root: Path = ROOT) -> list[Finding]:
    """Check files and folders (relative to `root`, or absolute) and list what is to be reworded, in order."""
    findings: list[Finding] = []
    for path in _files(root / path for path in paths):
        findings += check_text(
            path.read_text(encoding="utf-8"), path.resolve().relative_to(root.resolve())
        )
    return findings


def check_text(text: str, path: Path) -> list[Finding]:
    """Check the text of one file, in order; names are only checked in the packages."""
    findings: list[Finding] = []
    if path.suffix == ".md":
        findings += _word_findings(read_markdown(text), path)
    elif path.suffix in (".yaml", ".yml"):
        findings += _word_findings(read_yaml(text), path)
    else:
        module = Module(str(path), path, text)
        findings += _word_findings(read_python(module), path)
        if path.parts[0] in PACKAGES:
            findings += _name_findings(module)
    return sorted(findings, key=lambda finding: (finding.line, finding.word))


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """The checked files among `paths` and below them; a path that does not exist is skipped."""
    for path in paths:
        candidates = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (candidate for candidate in candidates if _is_checked(candidate))


def _is_checked(path: Path) -> bool:
    """Whether a file has English of ours. Result pages of benchmarks quote the version that they measured."""
    is_result = (
        path.parent.name == "benchmarks" and path.suffix == ".md" and path.name != "README.md"
    )
    is_text = path.suffix in (".py", ".md", ".yaml", ".yml") and path.is_file()
    return is_text and not is_result and not path.as_posix().endswith(_SELF)


def _name_findings(module: Module) -> Iterator[Finding]:
    for binding in read_bindings(module.tree):
        if binding.is_filler:
            advice = f"{binding.kind} without a meaning; {NAME_ADVICE[binding.name.strip('_')]}"
            yield Finding(module.path, binding.line, binding.name, advice)


def _word_findings(passages: Iterable[Passage], path: Path) -> Iterator[Finding]:
    for passage in passages:
        for rule in WORDS:
            for position, word in rule.matches(passage.text):
                yield Finding(path, passage.line_of(position), word, rule.advice)
        if passage.is_description:
            for position in openings(passage.text):
                yield Finding(path, passage.line_of(position), "What", OPENING_ADVICE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the findings. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.plain_words", description="Check for plain words."
    )
    parser.add_argument(
        "paths", nargs="*", type=Path, help="files or folders; default: the whole repository"
    )
    options = parser.parse_args(arguments)
    findings = check(options.paths or map(Path, _TEXTS))
    if not findings:
        return 0
    for finding in findings:
        print(finding)
    words = Counter(finding.word.strip("_").lower() for finding in findings)
    counts = ", ".join(f"{count} {word}" for word, count in words.most_common())
    print(f"{len(findings)} findings ({counts})")
    return 1


if __name__ == "__main__":
    sys.exit(main())
