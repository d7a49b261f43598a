"""What an ONNX file may not hold, checked before ONNX Runtime (or onnx) parses it."""

from __future__ import annotations

import mmap
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from runtimes.artifact.artifact import Artifact
from runtimes.engines.onnx.graph import DEEPEST, Body, Call, Contents, read
from runtimes.engines.onnx.protobuf import Malformed
from runtimes.errors import ArtifactError
from runtimes.files.filenames import outside

# What ONNX Runtime's own packages have operators for. A node of another domain needs a library, which is code.
DOMAINS = frozenset({
    "", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training",
    "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc",
})  # fmt: skip
# An operator that has an execution provider open a file, named by an attribute.
_OPENS_FILES = ("com.microsoft", "EPContext")
# A place in memory, as ONNX Runtime notes it in graphs that it holds; never in a file.
_IN_MEMORY = "_ORT_MEM_ADDR_"
_KEYS = {"location", "offset", "length", "checksum"}  # ONNX Runtime has more, for weights that it packed itself
_MOST_NODES = (
    1_000_000  # after functions are inlined: ten times the largest models; a chain of doublings stops here
)


def check_onnx(artifact: Artifact) -> None:
    """Raise ArtifactError unless the entry of a verified artifact is a graph that is safe to parse.

    External data lies in files that the manifest lists, all operators are ONNX's or ONNX Runtime's own or functions
    of the model, and what is nested or inlined has bounds.
    """
    entry = artifact.entry
    if entry.suffix != ".onnx":  # ONNX Runtime reads `.ort` files by another parser
        raise _refused(entry, "an onnx artifact opens a .onnx file")
    sizes = {name: one.size for name, one in artifact.manifest.files.items()}
    try:
        found = _contents(entry)
    except Malformed as error:
        raise ArtifactError(f"{entry.name} is damaged or no ONNX graph: {error}") from error
    folder = PurePosixPath(artifact.manifest.entry).parent
    for entries in filter(None, found.external):
        if why := _external_problem(entries, folder, sizes):
            raise _refused(entry, why)
    if why := _operator_problem(found) or _size_problem(found):
        raise _refused(entry, why)


def _contents(path: Path) -> Contents:
    if not path.stat().st_size:
        return Contents()  # nothing to map; ONNX Runtime says the rest
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return read(data)


def _refused(path: Path, why: str) -> ArtifactError:
    return ArtifactError(
        f"{path.name} is refused: {why}. Burnish makes no such file; do not use it, ask whoever sent it"
    )


def _external_problem(
    entries: Sequence[tuple[str, str]], folder: PurePosixPath, sizes: dict[str, int]
) -> str | None:
    """Why a tensor's external data is not what the artifact holds, or None."""
    if strange := {key for key, _ in entries} - _KEYS:
        return f"a tensor's values are described by {min(strange)!r}, which is none of {', '.join(sorted(_KEYS))}"
    places = [value for key, value in entries if key == "location"]
    if not places:
        return "a tensor's values lie in a file that has no name"
    for place in places:
        if _IN_MEMORY in place:
            return f"a tensor's values lie at an address in memory ({place!r})"
        if outside(place):
            return f"a tensor's values lie outside the artifact, in {place!r}"
        name = (folder / place).as_posix()
        if name not in sizes:
            return f"a tensor's values lie in {place!r}, which its manifest does not list"
        if why := _range_problem(dict(entries), sizes[name]):
            return f"a tensor's values lie {why} of {place!r}, which has {sizes[name]} bytes"
    return None


def _range_problem(entries: dict[str, str], size: int) -> str | None:
    """Why offset and length are not within a file, or None."""
    given = {key: entries.get(key) or "0" for key in ("offset", "length")}
    if any(not (text.isascii() and text.isdecimal() and len(text) < 20) for text in given.values()):
        return f"at the offset {given['offset']!r} and for the length {given['length']!r}"
    offset, length = int(given["offset"]), int(given["length"])
    return f"at {offset} to {offset + length}" if offset + length > size else None


def _operator_problem(found: Contents) -> str | None:
    """The operators that no library is loaded for, or None."""
    calls = {call for body in found.bodies() for call in body.calls}
    unknown = sorted(f"{domain}::{name}" for domain, name in calls
                     if domain not in DOMAINS and (domain, name) not in found.functions)  # fmt: skip
    if unknown:
        return f"it needs a library of custom operators ({', '.join(unknown[:5])}), and none is ever loaded"
    if _OPENS_FILES in calls:
        return f"the operator {_OPENS_FILES[1]} opens other files"
    return None


def _size_problem(found: Contents) -> str | None:
    """What would not fit into memory or on the stack, or None."""
    try:
        count, depth = _inlined(found.main, found, {}, ())
    except Malformed as error:
        return str(error)
    if count > _MOST_NODES:
        return f"it has more than {_MOST_NODES} nodes when its functions are inlined"
    return f"its functions and graphs nest more than {DEEPEST} levels" if depth > DEEPEST else None


def _inlined(
    body: Body, found: Contents, known: dict[Call, tuple[int, int]], path: Collection[Call]
) -> tuple[int, int]:
    """Nodes and levels of a body once functions are inlined. Raises Malformed where they call each other."""
    if len(path) > DEEPEST:
        raise Malformed(f"its functions nest more than {DEEPEST} levels")
    count, depth = sum(body.calls.values()), body.depth
    for call, times in body.calls.items():
        if call in path:
            raise Malformed(f"the function {call[1]!r} calls itself")
        if call not in found.functions:
            continue
        if call not in known:
            inner = [_inlined(one, found, known, (*path, call)) for one in found.functions[call]]
            known[call] = max(one[0] for one in inner), max(one[1] for one in inner) + 1
        count, depth = count + times * known[call][0], max(depth, known[call][1])
    return count, depth
