"""Artifacts: folders with a manifest.json and the files that it lists."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from runtimes.artifact import trust
from runtimes.artifact.build_signature import check_place
from runtimes.artifact.gates import Gates
from runtimes.artifact.provenance import Provenance
from runtimes.artifact.signature import ANYONE, SIGNATURE, KeySource, Trust, trusted
from runtimes.errors import ArtifactError, UsageError
from runtimes.facts import BuildFacts, WeightsFacts
from runtimes.files.atomic import write_atomically
from runtimes.files.documents import parse_json, read_bytes
from runtimes.files.filenames import MOST_FILES, collision, outside, unfit
from runtimes.files.layout import BUILD_FILE
from runtimes.files.regular import open_regular
from runtimes.preprocess.image import Preprocess
from runtimes.spec import RelatedDims, Specs, Strict

MANIFEST = "manifest.json"
SCHEMA = 1
Precision = Literal["fp32", "fp16", "bf16", "int8", "int4"]
"""Precision that an artifact computes in. Gates depend on it, so no other word is taken for one of these."""


class FileEntry(Strict):
    """One file of an artifact."""

    sha256: str = Field(..., pattern=r"^[0-9a-f]{64}$")
    size: int = Field(..., ge=0, lt=1 << 63)


class Manifest(Strict):
    """The facts by which an artifact is run and judged, and how it was built."""

    schema_version: int = SCHEMA
    burnish: str = Field(..., description="Version of Burnish that built the artifact.")
    name: str
    format: str
    runtime: str = Field(..., description="Name of the runtime that opens `entry`.")
    entry: str = Field(..., description="The file that the runtime opens.")
    devices: tuple[str, ...] = Field(
        ..., min_length=1, description="Devices that the artifact can run on."
    )
    precision: Precision = "fp32"
    model: str
    task: str | None = None
    inputs: Specs
    outputs: Specs
    dims: RelatedDims = Field(default_factory=dict)
    preprocess: Preprocess | None = None
    classes: tuple[str, ...] | None = None
    gates: Gates = Field(
        default_factory=Gates, description="Requirements of the recipe on the artifact."
    )
    weights: WeightsFacts = Field(default_factory=dict)
    reference: str | None = Field(None, description="sha256 of its reference.safetensors.")
    deterministic: bool | None = Field(
        None,
        description="Whether the same recipe and versions give the same bytes; None: unknown.",
    )
    provenance: Provenance | None = Field(None, description="Origin of the artifact.")
    build: BuildFacts = Field(default_factory=dict, description="Report of the exporter.")
    files: dict[str, FileEntry] = Field(default_factory=dict, max_length=MOST_FILES)


@dataclass(frozen=True)
class Artifact:
    """An artifact on disk; `trust` names its signer, also if another process opens it again."""

    path: Path
    manifest: Manifest
    trust: Trust = ANYONE

    @classmethod
    def open(cls, path: str | Path, key: KeySource = None) -> Artifact:
        """Read the manifest of the artifact at `path`, and its signature, but no other file.

        Args:
            path: the artifact's folder.
            key: file of the public key that must have signed it; by default BURNISH_TRUSTED_KEY's.

        Raises:
            UsageError: there is no artifact, or no such key.
            SignatureError: the key has not signed it (checked before the manifest is parsed), or
                has not signed it under this name in this build.
            ArtifactError: the manifest cannot be understood.
        """
        path, signer = Path(path), trusted(key)
        if (path / MANIFEST).is_symlink():
            raise ArtifactError(
                f"{path / MANIFEST} is a link: an artifact is a folder of plain files, copy them"
            )
        try:
            content = read_bytes(path / MANIFEST)
        except OSError as error:
            hint = ""
            if (path / BUILD_FILE).exists():
                hint = "; it is a build: name one of the artifacts in it"
            raise UsageError(f"{path} is not an artifact: no readable {MANIFEST}{hint}") from error
        signer.check(path, content)
        try:
            manifest = _parse(path, parse_json(content))
            check_place(path, manifest.name, content, signer)
            return cls(path, manifest, signer)
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is not an artifact: no readable {MANIFEST}") from error
        except ValueError as error:
            raise ArtifactError(f"{path / MANIFEST} is damaged: {error}") from error

    @property
    def entry(self) -> Path:
        """The file that the runtime opens."""
        return self.path / self.manifest.entry

    @property
    def size_bytes(self) -> int:
        """Size of all files that the manifest lists."""
        return sum(entry.size for entry in self.manifest.files.values())

    def verify(self) -> None:
        """Compare every file with the manifest.

        Raises ArtifactError for missing, changed and extra files. Besides the listed files only the
        manifest and its signature may exist.
        """
        listed = self.manifest.files
        present = set(files_of(self.path)) - {MANIFEST, SIGNATURE}
        problems = [f"{name} is missing" for name in listed if name not in present]
        problems += [f"{name} is not in the manifest" for name in sorted(present - set(listed))]
        for name, entry in listed.items():
            if name in present and _changed(self.path / name, entry):
                problems.append(f"{name} was changed after it was made")
        if problems:
            listing = "; ".join(problems)
            raise ArtifactError(f"{self.path}: {listing}. Build it again or restore its files.")


def _parse(path: Path, raw: object) -> Manifest:
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if isinstance(raw, dict) and isinstance(version, int) and version > SCHEMA:
        raise ArtifactError(
            f"{path} was built by a newer Burnish ({raw.get('burnish')}): its manifest has "
            f"version {version}, this Burnish reads up to {SCHEMA}. Update Burnish."
        )
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        raise ArtifactError(f"{path / MANIFEST} is damaged: {error}") from error
    for name in (manifest.entry, *manifest.files):
        if outside(name):
            raise ArtifactError(f"{path / MANIFEST} names a file outside the artifact: {name!r}")
        if why := unfit(name):
            raise ArtifactError(f"{path / MANIFEST} has an illegal file name, {name!r}: {why}")
    if pair := collision(manifest.files):
        first, second = pair
        raise ArtifactError(
            f"{path / MANIFEST} has {first!r} and {second!r}, which are one file if case does not "
            "count"
        )
    if manifest.entry not in manifest.files:
        raise ArtifactError(f"{path / MANIFEST} opens {manifest.entry!r}, which it does not list")
    return manifest


def publish(folder: Path, destination: Path, manifest: Manifest) -> Artifact:
    """Turn the files in `folder` into the artifact at `destination`, by a rename.

    An older artifact there is replaced.     It is remembered as built here by this user
    (`trust.py`). It is not signed: a signature in `folder` was for another manifest, and is
    removed.
    """
    (folder / SIGNATURE).unlink(missing_ok=True)
    files: dict[str, FileEntry] = {}
    for name in files_of(folder):
        path = folder / name
        files[name] = FileEntry(sha256=sha256(path), size=path.stat().st_size)
    manifest = manifest.model_copy(update={"files": files})
    text = manifest.model_dump_json(indent=2) + "\n"
    write_atomically(folder / MANIFEST, text)
    replace_folder(folder, destination)
    trust.remember(hashlib.sha256(text.encode()).hexdigest())
    return Artifact(destination, manifest)


def replace_folder(source: Path, destination: Path) -> None:
    """Rename `source` to `destination`; an older folder is moved aside first, then removed."""
    aside = destination.with_name(f".{destination.name}.old.{os.getpid()}")
    if destination.exists():
        destination.rename(aside)
    source.rename(destination)
    shutil.rmtree(aside, ignore_errors=True)


def inside(build: Path, name: str) -> Path:
    """Return the folder of an artifact in a build. Raises ArtifactError for a name outside."""
    if name in ("", ".", "..") or Path(name).name != name or "\\" in name or "\0" in name:
        raise ArtifactError(
            f"{build / 'build.json'} names {name!r}, which is no folder of the build"
        )
    return build / name


def sha256(path: Path) -> str:
    """Return the hex digest of a file's content. Raises OSError as `open_regular` does."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(folder: Path) -> list[str]:
    """Return every file below `folder` as a POSIX path; links are files and not followed."""
    names = []
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            names.append(path.relative_to(folder).as_posix())
    return sorted(names)


def _changed(path: Path, entry: FileEntry) -> bool:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):  # a link or a pipe is never opened
        return True
    return status.st_size != entry.size or sha256(path) != entry.sha256
