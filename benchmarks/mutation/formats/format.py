"""Protocols of a format whose models can be mutated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from mutation.changes.change import Constant, Finder
from runtimes.session import Session


class Editable(Protocol):
    """A model that is to be changed at one place."""

    def constants(self) -> Iterator[Constant]:
        """Yield the constants that something reads."""

    def serialize(self) -> bytes:
        """Return the model as bytes."""


class Format(Protocol):
    """The format of one subject.

    Attributes:
        kinds: finders of its defects, by their names; they take what `read` returns.
        content: the right model.
    """

    kinds: Mapping[str, Finder]
    content: bytes

    def read(self) -> Any:
        """Return the right model as an `Editable`."""

    def open(self, content: bytes) -> Session:
        """Open a model as the subject's engine does, on one thread. Raises ArtifactError."""
