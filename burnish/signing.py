"""Sign the artifacts of a build, and verify their signatures."""

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
    """One artifact's folder, and why its signature is not valid; None if it is."""

    folder: Path
    problem: str | None


def sign_all(path: Path, key: Path) -> tuple[list[Path], str]:
    """Sign an artifact, or every artifact of a build; none is signed if any file has changed.

    Returns:
        The artifacts' folders, and the fingerprint of the key.

    Raises:
        UsageError: there is no artifact, or no Ed25519 private key.
        ArtifactError: a file is missing, changed or not listed.
    """
    private = read_private(key)
    # Read before the check, so that the signature is of the manifest that was checked.
    manifests = {folder: (folder / MANIFEST).read_bytes() for folder in folders(path)}
    for folder in manifests:
        Artifact.open(folder, ANYONE).verify()
    for folder, manifest in manifests.items():
        sign(folder, manifest, private)
    return list(manifests), fingerprint(private.public_key().public_bytes_raw())


def verify_all(path: Path, trust: Trust) -> list[SignatureCheck]:
    """Check whether an artifact, or each one of a build, is signed and unchanged since.

    Raises UsageError if there is no artifact.
    """
    return [SignatureCheck(folder, _problem(folder, trust)) for folder in folders(path)]


def _problem(folder: Path, trust: Trust) -> str | None:
    try:
        Artifact.open(folder, trust).verify()
    except (ArtifactError, UsageError) as error:
        return str(error)
    return None


def folders(path: Path) -> Sequence[Path]:
    """Return the folder of an artifact, or the artifacts' folders of a build.

    Those of a build are the ones that exist, and the ones that its build.json lists.

    Raises UsageError if there is none, and ArtifactError if build.json lists a folder outside the
    build.
    """
    if (path / MANIFEST).is_file():
        return [path]
    artifacts = {manifest.parent for manifest in path.glob(f"[!.]*/{MANIFEST}")}
    if (path / BUILD_FILE).is_file():
        for row in Build.read(path).artifacts:
            if row.path:
                artifacts.add(inside(path, row.path))
    if not artifacts:
        raise UsageError(f"{path} holds no artifact: name an artifact's folder, or a build's")
    return sorted(artifacts)
