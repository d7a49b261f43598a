"""Layout of a checkpoint, checked before torch or safetensors read it: names, sizes, places.

torch's zip files store each tensor uncompressed, one after the other, so their content is never
larger than the file. torch writes no other kind of zip file (compressed, encrypted, overlapping,
one name twice): such a file is a bomb, a file that two parsers read differently, or damaged.
Formats: PKWARE's APPNOTE.TXT 6.3.10, safetensors' README.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Set
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from runtimes.files.documents import parse_json
from runtimes.files.filenames import collision, outside, unfit

MOST_MEMBERS = 100_000  # one for each tensor: the largest published models have a tenth
MOST_INFLATED = (
    1 << 28
)  # bytes of TorchScript code, all that torch compresses; real modules have some 100 kB
MOST_HEADER = 1 << 24  # bytes of a safetensors header: 100 for each tensor, as above
_END, _END64, _LOCATOR64 = (
    struct.Struct("<4s4H2LH"),
    struct.Struct("<4sQ2H2L4Q"),
    struct.Struct("<4sLQL"),
)
_CENTRAL, _LOCAL = struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s5H3L2H")
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_IN_ZIP64 = 0xFFFFFFFF  # marks a number that is in the 64-bit extra field

ArchiveKind = Literal["checkpoint", "torchscript", "exported"]


class ArchiveError(ValueError):
    """A file that torch or safetensors did not write; the message says why."""


@dataclass(frozen=True)
class ArchiveMember:
    """A file in a zip file: its path, stored and inflated bytes, start of its header."""

    path: str
    stored: int
    size: int
    header: int
    deflated: bool

    @property
    def name(self) -> str:
        """The path below the top folder, which has the name of the file that was first written."""
        return self.path.partition("/")[2]


def check_zip(file: BinaryIO) -> ArchiveKind:
    """Return the kind of torch file that a zip file is.

    Raises ArchiveError unless it has torch's layout. Nothing is inflated and no content is read.
    """
    try:
        members = _members(file)
    except (struct.error, OverflowError) as error:
        raise ArchiveError("the zip file ends too early") from error
    kind = _kind({member.name for member in members})
    inflated = 0
    for member in members:
        if member.deflated:
            if kind != "torchscript" or not member.name.startswith("code/"):
                raise ArchiveError(f"{member.name!r} is compressed, which torch never does")
            inflated += member.size
    if inflated > MOST_INFLATED:
        raise ArchiveError(f"its code inflates to more than {MOST_INFLATED} bytes: a zip bomb")
    return kind


def _kind(names: Set[str]) -> ArchiveKind:
    if "archive_format" in names:
        return "exported"
    if "data.pkl" not in names:
        raise ArchiveError("a zip file without data.pkl: torch did not write it")
    scripted = "constants.pkl" in names or any(name.startswith("code/") for name in names)
    return "torchscript" if scripted else "checkpoint"


def _members(file: BinaryIO) -> list[ArchiveMember]:
    """Return all members, in the order of their places.

    Raises ArchiveError, struct.error if the file ends.
    """
    start, count, size = _directory(file)
    if count > MOST_MEMBERS or size > MOST_MEMBERS * (_CENTRAL.size + 1024):
        raise ArchiveError(f"a zip file with more than {MOST_MEMBERS} members")
    file.seek(start)
    listing, at, members = file.read(size), 0, []
    for _ in range(count):
        member, at = _entry(listing, at)
        members.append(member)
    if at != size:
        raise ArchiveError("the zip file's directory is longer than it says")
    _check_names([member.path for member in members])
    members.sort(key=lambda member: member.header)
    starts = [member.header for member in members[1:]] + [start]
    for member, following in zip(members, starts, strict=True):
        if _end(file, member) > following:
            raise ArchiveError(f"{member.path!r} overlaps what comes after it: a zip bomb")
    return members


def _directory(file: BinaryIO) -> tuple[int, int, int]:
    """Return start, entries and bytes of the central directory, which must end the file."""
    end = file.seek(0, 2) - _END.size
    if end < 0:
        raise ArchiveError("no zip file")
    file.seek(end)
    magic, _, _, _, count, size, start, comment = _END.unpack(file.read(_END.size))
    if magic != b"PK\x05\x06" or comment:
        raise ArchiveError("no zip file, or one with data after its end")
    locator = max(0, end - _LOCATOR64.size)
    file.seek(locator)
    magic, _, place, _ = _LOCATOR64.unpack(file.read(_LOCATOR64.size))
    if magic == b"PK\x06\x07":
        end = place
        file.seek(min(place, locator))
        magic, _, _, _, _, _, _, count, size, start = _END64.unpack(file.read(_END64.size))
        if magic != b"PK\x06\x06" or place + _END64.size != locator:
            raise ArchiveError("the zip file's 64-bit directory is not where it says")
    if start + size != end:
        raise ArchiveError("the zip file's directory does not lie before its end")
    return start, count, size


def _entry(listing: bytes, at: int) -> tuple[ArchiveMember, int]:
    """Return one entry of the central directory, and the start of the next one."""
    fields = _CENTRAL.unpack_from(listing, at)
    magic, _, _, flags, method, _, _, _, stored, size = fields[:10]
    name_length, extra_length, comment_length, _, _, _, header = fields[10:]
    name_at = at + _CENTRAL.size
    extra_at = name_at + name_length
    if magic != b"PK\x01\x02":
        raise ArchiveError("the zip file's directory is damaged")
    try:
        name = listing[name_at:extra_at].decode()
    except UnicodeDecodeError as error:
        raise ArchiveError("a member's name is not valid UTF-8") from error
    if flags & _ENCRYPTED:
        raise ArchiveError(f"{name!r} is encrypted")
    if method not in (_STORED, _DEFLATED):
        raise ArchiveError(f"{name!r} is compressed by the method {method}")
    extra = listing[extra_at : extra_at + extra_length]
    size, stored, header = _zip64(extra, size, stored, header)
    if method == _STORED and stored != size:
        raise ArchiveError(
            f"{name!r} is stored in {stored} bytes but said to have {size}: a zip bomb"
        )
    following = extra_at + extra_length + comment_length
    return ArchiveMember(name, stored, size, header, method == _DEFLATED), following


def _zip64(extra: bytes, *numbers: int) -> list[int]:
    """Return the numbers; those that do not fit into 32 bits come from the extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            try:
                return [next(wide) if number == _IN_ZIP64 else number for number in numbers]
            except StopIteration as error:
                raise ArchiveError("a 64-bit size is missing") from error
        at += 4 + length
    return list(numbers)


def _check_names(names: list[str]) -> None:
    """Raise ArchiveError unless all lie below one folder, are plain, and are different."""
    for name in names:
        if outside(name) or unfit(name):
            raise ArchiveError(f"it has a member called {name!r}, which is not a plain path")
    folders = {name.partition("/")[0] if "/" in name else "" for name in names}
    if len(folders) > 1 or "" in folders:
        raise ArchiveError("its members lie in several folders: torch did not write it")
    # torch finds members regardless of case; only the names of code are the user's own.
    if len(set(names)) < len(names) or collision(name for name in names if "/code/" not in name):
        raise ArchiveError("it has one name twice")


def _end(file: BinaryIO, member: ArchiveMember) -> int:
    """Return the end of a member's content by its local header, which is checked."""
    file.seek(member.header)
    magic, _, flags, method, _, _, _, _, _, name_length, extra_length = _LOCAL.unpack(
        file.read(_LOCAL.size)
    )
    name = file.read(name_length)
    expected = _DEFLATED if member.deflated else _STORED
    same = magic == b"PK\x03\x04" and name == member.path.encode() and method == expected
    if not same or flags & _ENCRYPTED:
        raise ArchiveError(f"{member.path!r}: its local header differs from the directory")
    return int(member.header + _LOCAL.size + name_length + extra_length + member.stored)


def check_safetensors(file: BinaryIO) -> None:
    """Raise ArchiveError unless the tensors of a safetensors file lie side by side within it.

    The header is read, up to a bound; no tensor is.
    """
    whole = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if whole < 8 or length > min(MOST_HEADER, whole - 8):
        raise ArchiveError(f"its header is said to have {length} bytes, the file has {whole}")
    try:
        header = parse_json(file.read(length))
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"its header is not valid JSON ({error})") from error
    if not isinstance(header, dict):
        raise ArchiveError("its header is not a mapping")
    header.pop("__metadata__", None)
    spans = sorted(_span(name, entry) for name, entry in header.items())
    at = 0
    for start, end, name in spans:
        if start != at or end < start:
            raise ArchiveError(f"the tensor {name!r} overlaps another, or leaves a gap")
        at = end
    if at != whole - 8 - length:
        raise ArchiveError(
            f"its tensors have {at} bytes, the file has {whole - 8 - length} for them"
        )


def _span(name: str, entry: Any) -> tuple[int, int, str]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if isinstance(offsets, list) and list(map(type, offsets)) == [int, int]:
        return offsets[0], offsets[1], name
    raise ArchiveError(f"the tensor {name!r} has no valid offsets: {json.dumps(offsets)[:80]}")
