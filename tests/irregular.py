"""Paths that are no regular files: reading one may wait for ever, or never end."""

from __future__ import annotations

import os
from pathlib import Path


def make_irregular(path: Path, kind: str) -> Path:
    """Make a `pipe`, a `folder`, a `device`, or a `link to a ...` one; `nothing` makes none."""
    target = kind.removeprefix("link to a ")
    if target == "device":
        path.symlink_to("/dev/zero")
    elif target != kind:
        path.symlink_to(make_irregular(path.with_name(f"{path.name}-target"), target))
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    return path
