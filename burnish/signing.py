"""Sign the artifacts of a build, and say of each whether a key has signed it as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtimes.artifact.artifact import MANIFEST, Artifact, inside
from runtimes.artifact.keys import fingerprint, read_private
from runtimes.artifact.signature import ANYONE, Trust, sign
from runtimes.errors import ArtifactError, UsageError
from runtimes.files.layout import BUILD_FILE
from runtimes.results import Build


@dataclass(frozen=True)
class SignatureCheck:
    """One artifact's folder, and why it is not what the key has signed; None where it is."""

    folder: Path
    problem: str | None


def sign_all(path: Path, key: Path) -> tuple[list[Path], str]:
    """Sign an artifact, or every artifact of a build; nothing is signed unless every file is as it was made.

    Returns:
        The artifacts' folders, and the fingerprint of the key.

    Raises:
        UsageError: no artifact there, or no Ed25519 private key.
        ArtifactError: a file is missing, changed or not listed.
    """
    private = read_private(key)
    found = [(folder, (folder / MANIFEST).read_bytes()) for folder in folders(path)]
    for folder, _ in found:
        Artifact.open(folder, ANYONE).verify()
    for folder, manifest in found:
        sign(folder, manifest, private)
    return [folder for folder, _ in found], fingerprint(private.public_key().public_bytes_raw())


def verify_all(path: Path, trust: Trust) -> list[SignatureCheck]:
    """Whether an artifact, or each one of a build, is signed, and has every file as it was then.

    Raises UsageError where there is no artifact.
    """
    return [SignatureCheck(folder, _problem(folder, trust)) for folder in folders(path)]


def _problem(folder: Path, trust: Trust) -> str | None:
    try:
        Artifact.open(folder, trust).verify()
    except (ArtifactError, UsageError) as error:
        return str(error)
    return None


def folders(path: Path) -> Sequence[Path]:
    """The folder of an artifact, or those of a build: what lies there, and what its build.json says should.

    Raises UsageError where there is none, ArtifactError where build.json names a folder outside the build.
    """
    if (path / MANIFEST).is_file():
        return [path]
    there = {manifest.parent for manifest in path.glob(f"[!.]*/{MANIFEST}")}
    if (path / BUILD_FILE).is_file():
        there |= {inside(path, row.path) for row in Build.read(path).artifacts if row.path}
    if not there:
        raise UsageError(f"{path} holds no artifact: name an artifact's folder, or a build's")
    return sorted(there)
