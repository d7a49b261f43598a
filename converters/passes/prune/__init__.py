"""Pruning: channels, heads and neurons removed for good, or weights set to zero."""
