"""What an artifact is: a folder with a manifest.json and the files that it lists."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from runtimes.artifact import trust
from runtimes.artifact.gates import Gates
from runtimes.artifact.provenance import Provenance
from runtimes.artifact.signature import ANYONE, SIGNATURE, KeySource, Trust, trusted
from runtimes.errors import ArtifactError, UsageError
from runtimes.facts import BuildFacts, WeightsFacts
from runtimes.files.atomic import write_atomically
from runtimes.files.documents import parse_json, read_bytes
from runtimes.files.filenames import MOST_FILES, collision, outside, unfit
from runtimes.files.layout import BUILD_FILE
from runtimes.preprocess.image import Preprocess
from runtimes.spec import Dims, Specs, Strict

MANIFEST = "manifest.json"
SCHEMA = 1


class FileEntry(Strict):
    """One file of an artifact."""

    sha256: str = Field(..., pattern=r"^[0-9a-f]{64}$")
    size: int = Field(..., ge=0, lt=1 << 63)


class Manifest(Strict):
    """Everything that running and judging an artifact needs to know, and how the artifact was made."""

    schema_version: int = SCHEMA
    burnish: str = Field(..., description="Version of Burnish that made the artifact.")
    name: str
    format: str
    runtime: str = Field(..., description="Name of the runtime that opens `entry`.")
    entry: str = Field(..., description="The file that the runtime opens.")
    devices: tuple[str, ...] = Field(..., min_length=1, description="Devices that the artifact can run on.")
    precision: str = "fp32"
    model: str
    task: str | None = None
    inputs: Specs
    outputs: Specs
    dims: Dims = Field(default_factory=dict)
    preprocess: Preprocess | None = None
    classes: tuple[str, ...] | None = None
    gates: Gates = Field(default_factory=Gates, description="What the recipe requires of the artifact.")
    weights: WeightsFacts = Field(default_factory=dict)
    reference: str | None = Field(None, description="sha256 of the reference.safetensors that judges it.")
    deterministic: bool | None = Field(
        None, description="Whether the same recipe and versions give the same bytes again; None: not said."
    )
    provenance: Provenance | None = Field(None, description="Where it comes from.")
    build: BuildFacts = Field(default_factory=dict, description="What the exporter reports.")
    files: dict[str, FileEntry] = Field(default_factory=dict, max_length=MOST_FILES)


@dataclass(frozen=True)
class Artifact:
    """An artifact on disk; `trust` is whose it must be, also when another process opens it again."""

    path: Path
    manifest: Manifest
    trust: Trust = ANYONE

    @classmethod
    def open(cls, path: str | Path, key: KeySource = None) -> Artifact:
        """Read the manifest of the artifact at `path`; of its other files only the signature is touched.

        Args:
            path: the artifact's folder.
            key: file of the public key that must have signed it; by default that of BURNISH_TRUSTED_KEY, if any.

        Raises:
            UsageError: there is no artifact, or no such key.
            SignatureError: the key has not signed it (found out before the manifest is parsed).
            ArtifactError: the manifest cannot be understood.
        """
        path, signer = Path(path), trusted(key)
        if (path / MANIFEST).is_symlink():
            raise ArtifactError(f"{path / MANIFEST} is a link: an artifact is a folder of plain files, copy them")
        try:
            content = read_bytes(path / MANIFEST)
        except OSError as error:
            hint = "; it is a build: name one of the artifacts in it" if (path / BUILD_FILE).exists() else ""
            raise UsageError(f"{path} is not an artifact: no readable {MANIFEST}{hint}") from error
        signer.check(path, content)
        try:
            return cls(path, _parse(path, parse_json(content)), signer)
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
        """Compare every file with the manifest. Raises ArtifactError for a missing, changed or extra one.

        The manifest's signature may lie beside it, and nothing else.
        """
        listed = self.manifest.files
        present = set(files_of(self.path)) - {MANIFEST, SIGNATURE}
        problems = [f"{name} is missing" for name in listed if name not in present]
        problems += [f"{name} is not in the manifest" for name in sorted(present - set(listed))]
        problems += [
            f"{name} was changed after it was made"
            for name, entry in listed.items()
            if name in present and _changed(self.path / name, entry)
        ]
        if problems:
            raise ArtifactError(f"{self.path}: {'; '.join(problems)}. Build it again or restore its files.")


def _parse(path: Path, raw: object) -> Manifest:
    found = raw.get("schema_version") if isinstance(raw, dict) else None
    if isinstance(raw, dict) and isinstance(found, int) and found > SCHEMA:
        raise ArtifactError(
            f"{path} was made by a newer Burnish ({raw.get('burnish')}): "
            f"its manifest has version {found}, this one reads {SCHEMA}. Update Burnish."
        )
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        raise ArtifactError(f"{path / MANIFEST} is damaged: {error}") from error
    for name in (manifest.entry, *manifest.files):
        if outside(name):
            raise ArtifactError(f"{path / MANIFEST} names a file outside the artifact: {name!r}")
        if why := unfit(name):
            raise ArtifactError(f"{path / MANIFEST} names a file that no artifact has, {name!r}: {why}")
    if same := collision(manifest.files):
        one, other = same
        raise ArtifactError(f"{path / MANIFEST} has {one!r} and {other!r}, which are one file where case is one")
    if manifest.entry not in manifest.files:
        raise ArtifactError(f"{path / MANIFEST} opens {manifest.entry!r}, which it does not list")
    return manifest


def publish(work: Path, destination: Path, manifest: Manifest) -> Artifact:
    """Turn the files in `work` into the artifact at `destination`, replacing an older one in one rename.

    It is remembered as built here by this user (`trust.py`). It is not signed: a signature in `work` was for
    another manifest, and is removed.
    """
    (work / SIGNATURE).unlink(missing_ok=True)
    files = {name: FileEntry(sha256=sha256(work / name), size=(work / name).stat().st_size)
             for name in files_of(work)}  # fmt: skip
    manifest = manifest.model_copy(update={"files": files})
    text = manifest.model_dump_json(indent=2) + "\n"
    write_atomically(work / MANIFEST, text)
    replace_folder(work, destination)
    trust.remember(hashlib.sha256(text.encode()).hexdigest())
    return Artifact(destination, manifest)


def replace_folder(source: Path, destination: Path) -> None:
    """Rename `source` to `destination`; an older folder there is moved aside first, then removed."""
    aside = destination.with_name(f".{destination.name}.old.{os.getpid()}")
    if destination.exists():
        destination.rename(aside)
    source.rename(destination)
    shutil.rmtree(aside, ignore_errors=True)


def inside(build: Path, name: str) -> Path:
    """The folder of an artifact that build.json names. Raises ArtifactError where that is not in the build."""
    if name in ("", ".", "..") or Path(name).name != name or "\\" in name or "\0" in name:
        raise ArtifactError(f"{build / 'build.json'} names {name!r}, which is no folder of the build")
    return build / name


def sha256(path: Path) -> str:
    """The hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(folder: Path) -> list[str]:
    """Every file below `folder` as a POSIX path; a symbolic link counts as a file, never followed."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    )


def _changed(path: Path, entry: FileEntry) -> bool:
    found = path.lstat()  # what is no plain file (a link, a pipe) is never opened
    return not stat.S_ISREG(found.st_mode) or found.st_size != entry.size or sha256(path) != entry.sha256
