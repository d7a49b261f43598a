"""Isolated processes."""
