"""The work that a pickle makes for its reader, counted before it is read.

A tuple may hold another one twice, and that one a third: 26 steps of a few bytes are a tuple of
2**26 leaves. It costs nothing until something walks through it, as hashing a key does: then the
reader is busy without end. Here each object has its number of leaves, and nothing is built.
"""

from __future__ import annotations

import io
import pickletools
from pathlib import Path
from typing import BinaryIO

from converters.sources.archive import ArchiveError

MOST_LEAVES = 10**7
"""Leaves that keys and arguments may have in all: some seconds of hashing. A checkpoint of a hundred
thousand tensors has three million."""

_ENOUGH = 1 << 60
_LEGACY_PICKLES = 5  # torch's format before zip files: magic, version, system, content, storages
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_FROM_MARK = {"TUPLE", "LIST", "DICT", "FROZENSET", "OBJ", "INST"}
_PUT = {"PUT", "BINPUT", "LONG_BINPUT"}
_GET = {"GET", "BINGET", "LONG_BINGET"}
_CALLS = {"REDUCE": 2, "NEWOBJ": 2, "NEWOBJ_EX": 3, "BUILD": 2}


def check_pickles(file: BinaryIO) -> None:
    """Raise ArchiveError if one of the pickles of a legacy checkpoint is a trap.

    A file of fewer pickles is none of torch's, and its reader says so.
    """
    whole = file.seek(0, 2)
    file.seek(0)
    for _ in range(_LEGACY_PICKLES):
        if file.tell() < whole:
            check_pickle(file)


def check_zipped_pickle(path: Path) -> None:
    """Raise ArchiveError if the pickle in a zip file of torch is a trap; torch's own reader finds it."""
    import torch

    check_pickle(io.BytesIO(torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")))


def check_pickle(file: BinaryIO) -> None:
    """Read one pickle. Raises ArchiveError if it is damaged, or more work than any checkpoint."""
    counter = _Counter()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            counter.step(opcode.name, argument, len(opcode.stack_before), len(opcode.stack_after))
    except (ValueError, IndexError, KeyError) as error:
        raise ArchiveError(f"its pickle is damaged ({error})") from error


class _Counter:
    """The stack of an unpickler, with lists of one number in place of objects: their leaves."""

    def __init__(self) -> None:
        self._stack: list[list[int]] = []
        self._marks: list[list[list[int]]] = []
        self._memo: dict[int, list[int]] = {}
        self._work = 0

    def step(self, name: str, argument: object, takes: int, gives: int) -> None:
        """Follow one instruction. Raises ArchiveError for too much work."""
        if name == "MARK":
            self._marks.append(self._stack)
            self._stack = []
        elif name in _PUT:
            self._memo[_index(argument)] = self._stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._stack[-1]
        elif name in _GET:
            self._stack.append(self._memo[_index(argument)])
        elif name in ("APPEND", "APPENDS", "ADDITEMS", "SETITEM", "SETITEMS"):
            self._fill(name)
        elif name in _CALLS:
            self._call(_CALLS[name])
        elif name in _FROM_MARK:
            self._push(self._since_mark())
        elif name in _TUPLES:
            self._push(self._pop(_TUPLES[name]))
        elif name == "POP_MARK":
            self._since_mark()
        elif name == "DUP":
            self._stack.append(self._stack[-1])
        else:  # constants, which take nothing, and those that turn one thing into another
            self._pop(takes)
            self._stack += [[1] for _ in range(gives)]

    def _fill(self, name: str) -> None:
        """Add to a container: sets and dictionaries hash what is added."""
        added = self._since_mark() if name.endswith("S") else self._pop(1 + (name == "SETITEM"))
        if name in ("SETITEM", "SETITEMS"):
            added = added[::2]
        leaves = sum(count for [count] in added)
        container = self._stack[-1]
        container[0] = min(container[0] + leaves, _ENOUGH)
        if not name.startswith("APPEND"):
            self._charge(leaves)

    def _call(self, parts: int) -> None:
        """Call a function or a class, which may walk through its arguments."""
        _, *arguments = self._pop(parts)
        self._charge(sum(leaves for [leaves] in arguments))
        self._push(arguments)

    def _push(self, parts: list[list[int]]) -> None:
        leaves = 1 + sum(leaves for [leaves] in parts)
        self._stack.append(
            [min(leaves, _ENOUGH)]
        )  # doubled a million times, it would be a trap too

    def _pop(self, count: int) -> list[list[int]]:
        if count > len(self._stack):
            raise IndexError("an instruction takes more than there is")
        parts = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return parts

    def _since_mark(self) -> list[list[int]]:
        parts, self._stack = self._stack, self._marks.pop()
        return parts

    def _charge(self, leaves: int) -> None:
        self._work += leaves
        if self._work > MOST_LEAVES:
            raise ArchiveError(
                f"its keys and arguments have more than {MOST_LEAVES:,} parts, of which most are "
                "repeats: no training saves such a file, and reading it would not end"
            )


def _index(argument: object) -> int:
    if isinstance(argument, int):
        return argument
    raise KeyError(argument)
