"""Burnish turns an eager PyTorch model into every artifact one might ship, and proves each one."""

from __future__ import annotations

from typing import Any

__all__ = ["convert", "load", "validate"]


def __getattr__(name: str) -> Any:
    """Import the API on first use; `burnish --help` needs none. Types are in `__init__.pyi`."""
    if name not in __all__:
        raise AttributeError(f"module 'burnish' has no attribute {name!r}")
    from burnish import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
