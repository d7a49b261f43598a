"""Tools of this repository's own: figures of its code, and a check of its words. Not part of the package."""
