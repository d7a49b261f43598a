"""Samples: how they are read, and their uses."""
