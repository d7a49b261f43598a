"""Errors that a user may see. Each has the exit status of the command line."""

from __future__ import annotations


class BurnishError(Exception):
    """An error whose message says what is wrong, why, and what to do next."""

    exit_code = 3


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
