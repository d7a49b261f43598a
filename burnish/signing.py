"""Sign the artifacts of a build, and verify their signatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtimes.artifact.artifact import MANIFEST, Artifact, inside
from runtimes.artifact.build_signature import check_build, sign_build
from runtimes.artifact.keys import fingerprint, read_private
from runtimes.artifact.signature import ANYONE, SignatureError, Trust, sign
from runtimes.errors import ArtifactError, UsageError
from runtimes.files.documents import read_bytes
from runtimes.files.layout import BUILD_FILE
from runtimes.results import Build


@dataclass(frozen=True)
class SignatureCheck:
    """Folder of an artifact or a build, and why its signature is not valid; None if it is."""

    folder: Path
    problem: str | None


def sign_all(path: Path, key: Path) -> tuple[list[Path], str]:
    """Sign an artifact, or a build and every artifact of it; none if any file has changed.

    Returns:
        The artifacts' folders, and the build's if it was signed; the fingerprint of the key.

    Raises:
        UsageError: there is no artifact, or no Ed25519 private key.
        ArtifactError: a file is missing, changed or not listed, or an artifact of a build lies in a
            folder of another name.
    """
    private = read_private(key)
    # Read before the check, so that the signature is of the manifest that was checked.
    manifests = {folder: read_bytes(folder / MANIFEST) for folder in folders(path)}
    is_build = path not in manifests
    for folder in manifests:
        artifact = Artifact.open(folder, ANYONE)
        artifact.verify()
        if is_build:
            _check_name(artifact)
    for folder, manifest in manifests.items():
        sign(folder, manifest, private)
    signed = list(manifests)
    if is_build and (path / BUILD_FILE).is_file():
        sign_build(path, {folder.name: text for folder, text in manifests.items()}, private)
        signed.append(path)
    return signed, fingerprint(private.public_key().public_bytes_raw())


def _check_name(artifact: Artifact) -> None:
    """Raise ArtifactError for an artifact of a build in a folder that has not its name."""
    if artifact.path.name != artifact.manifest.name:
        raise ArtifactError(
            f"{artifact.path} holds the artifact {artifact.manifest.name!r}: the folders of the build "
            "were exchanged or renamed. Build it again"
        )


def verify_all(path: Path, trust: Trust) -> list[SignatureCheck]:
    """Check whether an artifact, or a build and each artifact of it, is signed and unchanged since.

    Raises UsageError if there is no artifact.
    """
    artifacts = folders(path)
    is_build = path not in artifacts
    checks = [SignatureCheck(folder, _problem(folder, trust, is_build)) for folder in artifacts]
    if is_build and (path / BUILD_FILE).is_file():
        checks.append(SignatureCheck(path, _build_problem(path, trust)))
    return checks


def _problem(folder: Path, trust: Trust, in_build: bool) -> str | None:
    try:
        artifact = Artifact.open(folder, trust)
        artifact.verify()
        if in_build:
            _check_name(artifact)
    except (ArtifactError, UsageError) as error:
        return str(error)
    return None


def _build_problem(path: Path, trust: Trust) -> str | None:
    try:
        check_build(path, trust)
    except SignatureError as error:
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
