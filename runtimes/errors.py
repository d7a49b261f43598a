"""Errors that a user may see. Each has the exit status of the command line."""

from __future__ import annotations


def printable(text: object) -> str:
    """Return a text with control characters (escapes, writing direction) made visible.

    Every text from a file, an engine or a library passes through here on its way to a terminal.
    Line breaks and tabs stay, for Burnish's own messages.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in str(text))


class BurnishError(Exception):
    """An error whose message says what is wrong, why, and what to do next.

    Its text is harmless on a terminal, also in the traceback of a program that uses Burnish.
    """

    exit_code = 3

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(BurnishError):
    """The request is invalid: a wrong name, value, path or device."""

    exit_code = 2


class ArtifactError(BurnishError):
    """An artifact on disk does not match its manifest, or cannot be read."""


class Untrusted(UsageError):
    """An artifact is a program that this user neither built here nor declared trusted."""


class InputError(UsageError):
    """The arrays given to a session do not fit the artifact's inputs."""


class Unavailable(BurnishError):
    """A package, driver or device that a step needs is missing here; the message names it."""
