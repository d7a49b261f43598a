"""Labels in a CSV file: rows of a picture's name and the index of its class."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from runtimes.errors import UsageError
from runtimes.files.regular import open_regular

_INTEGER = re.compile(r"^\s*-?\d+\s*$", re.ASCII)
_MOST_DIGITS = 18  # of the index of a class; NumPy's integers have no more
_MOST_BYTES = 1 << 28  # of a table: ImageNet's has 2 MB


def read_label_table(path: Path) -> dict[str, int]:
    """Return the class index of each picture; rows without one, such as a heading, are left out.

    Raises UsageError if the file cannot be read, a picture has two rows that differ, or an index is
    no class of any model.
    """
    labels: dict[str, int] = {}
    for number, (name, text) in enumerate(_rows(path), 1):
        if not _INTEGER.match(text):
            continue
        if len(text.strip()) > _MOST_DIGITS:
            raise UsageError(
                f"labels: {path}, row {number}: a label of {len(text.strip()):,} digits is no class"
            )
        label = int(text)
        if labels.setdefault(name, label) != label:
            raise UsageError(
                f"labels: {path}, row {number}: {name} has two rows, with the labels {labels[name]} "
                f"and {label}: remove one"
            )
    return labels


def _rows(path: Path) -> list[tuple[str, str]]:
    try:
        with open_regular(path) as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise UsageError(f"labels: {path} is larger than {_MOST_BYTES} bytes: not a table")
        text = content.decode("utf-8-sig")  # spreadsheets write a byte order mark
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except OSError as error:
        raise UsageError(f"labels: cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"labels: {path} is not a CSV file in UTF-8: {error}") from error
    return [(row[0].strip(), row[1]) if len(row) >= 2 else ("", "") for row in rows]
