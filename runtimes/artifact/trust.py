"""Trust in programs: such an artifact is opened if this user built it here or says so.

ONNX graphs and OpenVINO's IR are data. All other formats run code of their author as soon as they
are opened or run: a TorchScript module can write files, a torch.export file is partly unpickled,
the others hold machine code. A digest in the manifest proves that nothing changed since the build,
not who the builder was. So `publish` notes the digest of each manifest, which has the digest of
every file, in a folder of this user; others are opened only with `trust`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

_LIMIT = 10_000  # manifests that are remembered, one empty file each: years of builds


def built_here(manifest: Path) -> bool:
    """Return whether this user built the artifact here and its manifest is unchanged since."""
    try:
        return (_folder() / hashlib.sha256(manifest.read_bytes()).hexdigest()).is_file()
    except (OSError, RuntimeError):  # no file, or no home folder
        return False


def remember(digest: str) -> None:
    """Note the sha256 of a manifest just written. If that fails, the artifact needs --trust."""
    with contextlib.suppress(OSError, RuntimeError):
        _folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        (_folder() / digest).touch(mode=0o600)
        _forget()


def _folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "burnish" / "built"


def _forget() -> None:
    """Remove the oldest notes if there are too many."""
    notes = list(_folder().iterdir())
    if len(notes) > _LIMIT:
        oldest = sorted(notes, key=lambda note: note.stat().st_mtime)
        for note in oldest[: len(notes) - _LIMIT * 9 // 10]:
            note.unlink(missing_ok=True)
