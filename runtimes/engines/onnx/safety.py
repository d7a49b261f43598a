"""Security checks of an ONNX file before ONNX Runtime (or onnx) parses it."""

from __future__ import annotations

import mmap
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from runtimes.artifact.artifact import Artifact
from runtimes.engines.onnx.graph import DEEPEST, Body, Call, Contents, read
from runtimes.engines.onnx.protobuf import Malformed
from runtimes.errors import ArtifactError
from runtimes.files.filenames import outside

# Domains of ONNX Runtime's own operators. A node of another domain needs a library, which is code.
DOMAINS = frozenset(
    {
        "",
        "ai.onnx.ml",
        "ai.onnx.training",
        "ai.onnx.preview.training",
        "com.microsoft",
        "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
    }
)
# An operator by which an execution provider opens a file, named by an attribute.
_OPENS_FILES = ("com.microsoft", "EPContext")
# Marks an address in memory in graphs that ONNX Runtime has loaded; never in a file.
_IN_MEMORY = "_ORT_MEM_ADDR_"
# ONNX Runtime has more keys, for weights that it packed itself.
_KEYS = {"location", "offset", "length", "checksum"}
# After functions are inlined: ten times the largest models; a chain of doublings stops here.
_MOST_NODES = 1_000_000


def check_onnx(artifact: Artifact) -> None:
    """Raise ArtifactError unless the entry of a verified artifact is a graph that is safe to parse.

    External data must be in files that the manifest lists; all operators must be those of ONNX, of
    ONNX Runtime, or functions of the model; and nesting and inlining have limits.
    """
    entry = artifact.entry
    if entry.suffix != ".onnx":  # ONNX Runtime reads `.ort` files by another parser
        raise _refused(entry, "an onnx artifact opens a .onnx file")
    sizes = {name: file.size for name, file in artifact.manifest.files.items()}
    try:
        contents = _read_contents(entry)
    except Malformed as error:
        raise ArtifactError(f"{entry.name} is damaged or no ONNX graph: {error}") from error
    folder = PurePosixPath(artifact.manifest.entry).parent
    for entries in filter(None, contents.external):
        if why := _external_problem(entries, folder, sizes):
            raise _refused(entry, why)
    if why := _operator_problem(contents) or _size_problem(contents):
        raise _refused(entry, why)


def _read_contents(path: Path) -> Contents:
    if not path.stat().st_size:
        return Contents()  # nothing to map; ONNX Runtime reports the error
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return read(data)


def _refused(path: Path, why: str) -> ArtifactError:
    return ArtifactError(
        f"{path.name} is refused: {why}. Burnish writes no such file; do not use it, ask its sender"
    )


def _external_problem(
    entries: Sequence[tuple[str, str]], folder: PurePosixPath, sizes: dict[str, int]
) -> str | None:
    """Return why a tensor's external data is not in the artifact, or None."""
    if unknown := {key for key, _ in entries} - _KEYS:
        legal = ", ".join(sorted(_KEYS))
        return f"a tensor's values are described by {min(unknown)!r}, which is none of {legal}"
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
    """Return the range of the values if it is not within a file of `size` bytes, or None."""
    start, count = entries.get("offset") or "0", entries.get("length") or "0"
    if not (_is_number(start) and _is_number(count)):
        return f"at the offset {start!r} and for the length {count!r}"
    end = int(start) + int(count)
    return f"at {int(start)} to {end}" if end > size else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20


def _operator_problem(contents: Contents) -> str | None:
    """Return a message about operators that need a library or open files, or None."""
    calls: set[Call] = set()
    for body in contents.bodies():
        calls.update(body.calls)
    unknown = []
    for domain, name in calls:
        if domain not in DOMAINS and (domain, name) not in contents.functions:
            unknown.append(f"{domain}::{name}")
    if unknown:
        names = ", ".join(sorted(unknown)[:5])
        return f"it needs a library of custom operators ({names}), and none is ever loaded"
    if _OPENS_FILES in calls:
        return f"the operator {_OPENS_FILES[1]} opens other files"
    return None


def _size_problem(contents: Contents) -> str | None:
    """Return a message if the graph would not fit into memory or on the stack, or None."""
    try:
        count, depth = _inlined(contents.main, contents, {}, ())
    except Malformed as error:
        return str(error)
    if count > _MOST_NODES:
        return f"it has more than {_MOST_NODES} nodes when its functions are inlined"
    return f"its functions and graphs nest more than {DEEPEST} levels" if depth > DEEPEST else None


def _inlined(
    body: Body, contents: Contents, cache: dict[Call, tuple[int, int]], path: Collection[Call]
) -> tuple[int, int]:
    """Return nodes and levels of a body after inlining. Raises Malformed for recursion.

    Args:
        body: the graph or function.
        contents: of the file.
        cache: results for the functions so far, which this call extends.
        path: the calls that lead to the body.
    """
    if len(path) > DEEPEST:
        raise Malformed(f"its functions nest more than {DEEPEST} levels")
    count, depth = sum(body.calls.values()), body.depth
    for call, times in body.calls.items():
        if call in path:
            raise Malformed(f"the function {call[1]!r} calls itself")
        if call not in contents.functions:
            continue
        if call not in cache:
            called = (*path, call)
            sizes = [_inlined(inner, contents, cache, called) for inner in contents.functions[call]]
            counts, depths = zip(*sizes, strict=True)
            cache[call] = max(counts), max(depths) + 1
        count, depth = count + times * cache[call][0], max(depth, cache[call][1])
    return count, depth
