"""Run time: an artifact becomes a session. Only the engines of PyTorch need torch."""

from __future__ import annotations

from typing import Any

__all__ = ["Artifact", "Session", "load"]


def __getattr__(name: str) -> Any:
    """Import on first use: `burnish --help` needs none of it. Types are in `__init__.pyi`."""
    if name == "Artifact":
        from runtimes.artifact.artifact import Artifact

        return Artifact
    if name in __all__:
        from runtimes import session

        return getattr(session, name)
    raise AttributeError(f"module 'runtimes' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
