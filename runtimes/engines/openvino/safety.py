"""Security checks of an OpenVINO IR before OpenVINO parses it."""

from __future__ import annotations

from collections.abc import Mapping
from xml.parsers import expat

from runtimes.artifact.artifact import Artifact
from runtimes.errors import ArtifactError

_DEEPEST = 64  # elements inside elements; a plain model has 7, each body of an If or Loop 5 more
_MOST_ELEMENTS = 5_000_000  # each layer has about ten: a hundred times the largest models


def check_ir(artifact: Artifact) -> None:
    """Raise ArtifactError unless the entry of a verified artifact is an IR that is safe to parse.

    It must be XML without a document type (and so without entities), of bounded size and depth,
    with constants within the weights file. With another suffix OpenVINO would read another format
    by another parser.
    """
    entry = artifact.entry
    if entry.suffix != ".xml":
        raise ArtifactError(f"{entry.name} is refused: an openvino artifact opens a .xml file")
    weights = entry.with_suffix(".bin").name
    folder = artifact.manifest.entry.rpartition("/")[0]
    listed = artifact.manifest.files.get(f"{folder}/{weights}" if folder else weights)
    checker = _Checker(entry.name, listed.size if listed else 0)
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = checker.doctype
    parser.StartElementHandler = checker.start
    parser.EndElementHandler = checker.end
    try:
        with entry.open("rb") as file:
            parser.ParseFile(file)
    except (
        expat.ExpatError,
        ValueError,
        LookupError,
    ) as error:  # the latter two: an unknown encoding
        raise ArtifactError(
            f"OpenVINO cannot load {entry.name}: it is not XML ({error})"
        ) from error


class _Checker:
    """Follows the elements of a document."""

    def __init__(self, name: str, weights: int) -> None:
        self._name, self._weights = name, weights
        self._open: list[str] = []
        self._count = 0

    def doctype(self, *declared: object) -> None:
        """Refuse a document type."""
        raise self._refused("it declares a document type")

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Check the start of an element."""
        self._open.append(tag)
        self._count += 1
        if self._count > _MOST_ELEMENTS or len(self._open) > _DEEPEST:
            raise self._refused("it is too large or too deeply nested")
        if self._open == [tag] and tag != "net":
            raise self._refused(f"it is a <{tag}>, not a <net>")
        if tag == "data" and "offset" in attributes and "size" in attributes:
            self._constant(attributes["offset"], attributes["size"])

    def end(self, tag: str) -> None:
        """Note the end of an element."""
        self._open.pop()

    def _constant(self, offset: str, size: str) -> None:
        plain = all(
            text.isascii() and text.isdecimal() and len(text) < 20 for text in (offset, size)
        )
        if not plain or int(offset) + int(size) > self._weights:
            raise self._refused(f"a constant lies at {offset} for {size} bytes, of {self._weights}")

    def _refused(self, why: str) -> ArtifactError:
        return ArtifactError(
            f"{self._name} is refused: {why}. Burnish writes no such file; do not use it"
        )
