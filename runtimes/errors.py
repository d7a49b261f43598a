"""The errors that a user may see. Each knows the exit code that the command line ends with."""

from __future__ import annotations


class BurnishError(Exception):
    """Something went wrong that the user can be told about in words: what, why, and what to do next."""

    exit_code = 3


class UsageError(BurnishError):
    """The request itself cannot be carried out: a wrong name, value, path or device."""

    exit_code = 2


class ArtifactError(BurnishError):
    """An artifact on disk is not what its manifest says, or cannot be read."""


class Untrusted(UsageError):
    """An artifact is a program, was not built here by this user, and nobody said that its maker is trusted."""


class InputError(UsageError):
    """The arrays given to a session do not fit the artifact's inputs."""


class Unavailable(BurnishError):
    """This machine lacks what a step needs (a package, a driver, a device); the message names it."""
