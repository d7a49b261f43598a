"""Kinds of defects. Each finds its places in a graph; a place has one change, with a seed for details."""
