"""Pruning: channels, heads and neurons removed permanently, or weights set to zero."""
