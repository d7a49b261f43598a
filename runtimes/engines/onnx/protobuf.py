"""Protocol Buffers' wire format: iterates over fields without types or copies.

https://protobuf.dev/programming-guides/encoding/. Where protobuf's own parsers differ, this one is
strict: it refuses groups, which no ONNX writer uses, and lengths that an int cannot hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from typing import Final

Buffer = bytes | mmap
Span = tuple[int, int]
"""Start and end of a field's content."""

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

_TAG_BYTES = 5  # a tag is an unsigned 32-bit number
_VARINT_BYTES = 10


class Malformed(ValueError):
    """Bytes are not a message."""


def fields(data: Buffer, start: int, end: int) -> Iterator[tuple[int, int, Span]]:
    """Yield number, wire type and content of each field in data[start:end]. Raises Malformed."""
    while start < end:
        tag, start = _varint(data, start, end, _TAG_BYTES)
        number, wire = tag >> 3, tag & 7
        if wire == BYTES:
            length, start = _varint(data, start, end, _TAG_BYTES)
            stop = start + length
        elif wire == VARINT:
            stop = _varint(data, start, end, _VARINT_BYTES)[1]
        elif wire in (FIXED32, FIXED64):
            stop = start + (4 if wire == FIXED32 else 8)
        else:
            raise Malformed(f"a field of the wire type {wire}")
        if number == 0 or stop > end:
            raise Malformed(
                "a field that leaves its message" if number else "a field without a number"
            )
        yield number, wire, (start, stop)
        start = stop


def text(data: Buffer, span: Span) -> str:
    """Return the content of a string field."""
    return data[span[0] : span[1]].decode("utf-8", "backslashreplace")


def _varint(data: Buffer, start: int, end: int, longest: int) -> tuple[int, int]:
    """Return a number of at most `longest` bytes and the position after it."""
    value = 0
    for shift in range(longest):
        if start >= end:
            break
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, start
    raise Malformed("a number without an end")
