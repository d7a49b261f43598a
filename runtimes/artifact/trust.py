"""Whose artifact is it? One that is a program is opened where this user built it here, or says that it is trusted.

ONNX graphs and OpenVINO's IR are data. All else runs what its maker put in as soon as it is opened or run: a
TorchScript module can write files, a torch.export file is partly unpickled, the others hold machine code. A digest
in the manifest tells that nothing changed since it was made, not who made it. So `publish` notes the digest of each
manifest, which has the digest of every file, in a folder of this user's; what is not noted there is opened only
with `trust`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

_KEPT = 10_000  # manifests that are remembered, one empty file each: years of builds


def built_here(manifest: Path) -> bool:
    """Whether this user built the artifact with this manifest on this machine, and nothing of it changed."""
    try:
        return (_folder() / hashlib.sha256(manifest.read_bytes()).hexdigest()).is_file()
    except (OSError, RuntimeError):  # no file, or no home folder
        return False


def remember(digest: str) -> None:
    """Note the sha256 of a manifest that was just written. Where that cannot be, its user will be asked."""
    with contextlib.suppress(OSError, RuntimeError):
        _folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        (_folder() / digest).touch(mode=0o600)
        _forget()


def _folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "burnish" / "built"


def _forget() -> None:
    """Remove the notes that are oldest, where there are many."""
    notes = list(_folder().iterdir())
    if len(notes) > _KEPT:
        oldest = sorted(notes, key=lambda note: note.stat().st_mtime)
        for note in oldest[: len(notes) - _KEPT * 9 // 10]:
            note.unlink(missing_ok=True)
