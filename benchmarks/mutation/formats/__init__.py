"""Formats whose artifacts can be mutated: each reads, changes, writes and opens models that are bytes."""
