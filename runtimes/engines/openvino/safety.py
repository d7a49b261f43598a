"""Security checks of an OpenVINO IR before OpenVINO parses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO
from xml.parsers import expat

from runtimes.artifact.artifact import Artifact
from runtimes.errors import ArtifactError
from runtimes.files.regular import open_regular

_DEEPEST = 64  # elements inside elements; a plain model has 7, each body of an If or Loop 5 more
_LONGEST = 1 << 20  # letters of an attribute: names of a thousand fused layers have a tenth
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
        with open_regular(entry, follow=False) as file:
            _feed(parser, file, checker)
    except (
        expat.ExpatError,
        ValueError,
        LookupError,
    ) as error:  # the latter two: an unknown encoding
        raise ArtifactError(
            f"OpenVINO cannot load {entry.name}: it is not XML ({error})"
        ) from error


def _feed(parser: expat.XMLParserType, file: BinaryIO, checker: _Checker) -> None:
    """Parse a file in pieces, and stop at a tag that does not end.

    Expat reads an unfinished tag from its start again with each piece, so in the small pieces of
    `ParseFile` a name of ten million letters takes minutes.
    """
    read = 0
    while piece := file.read(_LONGEST):
        read += len(piece)
        parser.Parse(piece, False)
        if read - parser.CurrentByteIndex > 3 * _LONGEST:
            raise checker.refused(f"a tag has more than {2 * _LONGEST:,} bytes")
    parser.Parse(b"", True)


class _Checker:
    """Follows the elements of a document."""

    def __init__(self, name: str, weights: int) -> None:
        self._name, self._weights = name, weights
        self._open: list[str] = []
        self._count = 0

    def doctype(self, *declared: object) -> None:
        """Refuse a document type."""
        raise self.refused("it declares a document type")

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Check the start of an element."""
        self._open.append(tag)
        self._count += 1
        if self._count > _MOST_ELEMENTS or len(self._open) > _DEEPEST:
            raise self.refused("it is too large or too deeply nested")
        for name, value in attributes.items():
            if len(name) + len(value) > _LONGEST:
                raise self.refused(f"the {name[:40]} of a <{tag[:40]}> has {len(value):,} letters")
        if self._open == [tag] and tag != "net":
            raise self.refused(f"it is a <{tag[:40]}>, not a <net>")
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
            raise self.refused(
                f"a constant lies at {offset[:40]} for {size[:40]} bytes, of {self._weights}"
            )

    def refused(self, why: str) -> ArtifactError:
        """Return the error that says why the file is not parsed."""
        return ArtifactError(
            f"{self._name} is refused: {why}. Burnish writes no such file; do not use it"
        )
