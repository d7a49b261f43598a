"""Precision of layers: what a mode does to each kind of them, and whether an artifact keeps to it."""
