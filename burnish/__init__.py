"""Burnish: one recipe turns an eager PyTorch model into every artifact one might ship, and proves each one."""

from burnish.api import convert, load, validate

__all__ = ["convert", "load", "validate"]
