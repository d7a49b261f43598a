"""Judge artifacts that were built earlier, or elsewhere, by the reference that travels with them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from converters.plan.load import load_recipe
from converters.plan.plan import source_of
from converters.sources.load import Source
from converters.sources.restore import EagerFromSource
from runtimes.artifact.artifact import MANIFEST, Artifact, Manifest, inside, sha256
from runtimes.artifact.signature import Trust
from runtimes.errors import ArtifactError, UsageError
from runtimes.files.layout import BUILD_FILE, CHANGED, REFERENCE_FILE
from runtimes.machine import machine
from runtimes.results import Build, Row, Status, check_required
from runtimes.validator.defaults import BUDGET_SECONDS
from runtimes.validator.host import Opener
from runtimes.validator.reference import Reference, check_there
from runtimes.validator.validate import Target, default_options, validate


def revalidate(
    path: Path,
    recipe: str | Path | None,
    devices: Sequence[str],
    require: Sequence[str],
    speed: bool,
    progress: Callable[[str], None],
    signer: Trust,
    trust: bool = False,
) -> Build:
    """See `burnish.validate`."""
    folders, folder, build = _find(path)
    check_required(require, [one.name for one in folders] if build is None else [r.name for r in build.artifacts])
    targets, broken = _targets(folders, build, devices, _References.beside(folder), signer)
    if not targets and not broken:
        raise UsageError(f"{path} holds no artifact")
    eager = _eager(targets, recipe)
    notes = (
        []
        if eager or not targets or not speed
        else ["speed was not compared with eager: that needs torch, and for a python: model --recipe"]
    )
    references = [one.reference for one in targets if one.reference]
    budget = BUDGET_SECONDS if speed else 0

    def opener(device: str) -> Opener | None:
        return eager(device) if eager else None

    rows = (
        validate(targets, references[0], opener, budget=budget, progress=progress, trust=trust) if targets else []
    )
    some = targets[0].artifact.manifest if targets else None
    return Build(
        recipe=build.recipe if build else {},
        model=build.model if build else some.model if some else "",
        weights=build.weights if build else some.weights if some else {},
        machine=machine.describe(),
        artifacts=[*rows, *broken],
        notes=[*dict.fromkeys(note for one in references for note in one.notes), *notes],
        burnish=build.burnish if build else some.burnish if some else None,
    )


def _find(path: Path) -> tuple[list[Path], Path, Build | None]:
    """The artifacts' folders, the folder of the reference, and the build that they belong to."""
    path = path.parent if path.name == BUILD_FILE and path.is_file() else path
    if (path / MANIFEST).is_file():
        parent = path.resolve().parent
        return [path], parent, Build.read(parent) if (parent / BUILD_FILE).is_file() else None
    build = Build.read(path)
    names = dict.fromkeys(row.path for row in build.artifacts if row.path)
    return [inside(path, name) for name in names], path, build


@dataclass(frozen=True)
class _References:
    """The references of a build by their digests; each is read when a manifest that is trusted names it.

    Attributes:
        files: also those of the models that passes changed.
        usual: digest of the loaded model's.
    """

    files: dict[str, Path]
    usual: str
    _read: dict[str, Reference] = field(default_factory=dict)

    @classmethod
    def beside(cls, folder: Path) -> _References:
        """Those in a build's folder. Raises UsageError where there is none."""
        check_there(usual := folder / REFERENCE_FILE)
        changed = (file for file in folder.glob(f"{CHANGED}/*/{REFERENCE_FILE}") if file.is_file())  # no pipe
        files = {sha256(file): file for file in (*changed, usual)}
        return cls(files, sha256(usual))

    def of(self, artifact: Artifact) -> Reference:
        """The one that judges an artifact. Raises ArtifactError where it is not there, or cannot be read."""
        digest = artifact.manifest.reference or ("" if artifact.trust.key else self.usual)
        if digest not in self.files:
            raise ArtifactError(
                f"the {REFERENCE_FILE} beside it is not the one that it was built with: it was changed, or is of "
                "another build; `burnish convert` makes both anew"
            )
        if digest not in self._read:
            self._read[digest] = Reference.load(self.files[digest])
        return self._read[digest]


def _targets(
    folders: Sequence[Path],
    build: Build | None,
    devices: Sequence[str],
    references: _References,
    trust: Trust,
) -> tuple[list[Target], list[Row]]:
    """What to judge; an artifact that cannot even be opened becomes a row at once."""
    targets, broken = [], []
    for folder in folders:
        try:
            artifact = Artifact.open(folder, trust)
            reference = references.of(artifact)
        except (ArtifactError, UsageError) as error:
            row = Row(name=folder.name, format="unknown", device="cpu", status=Status.ERROR, reason=str(error))
            broken.append(row)
            continue
        judged = [row.device for row in build.artifacts if row.path == folder.name] if build else []
        own = artifact.manifest.devices
        asked = [device for device in (devices or judged) if device in own] or [own[0]]
        parent = _parent(folder, build, trust)
        targets += [Target(artifact, device, parent, reference) for device in dict.fromkeys(asked)]
    return targets, broken


def _parent(folder: Path, build: Build | None, trust: Trust) -> Artifact | None:
    """The artifact beside it that it was timed against, where it is still there."""
    rows = build.artifacts if build else []
    names = {one.speed.parent.name for one in rows if one.path == folder.name and one.speed.parent}
    for name in names:
        with contextlib.suppress(ArtifactError, UsageError):  # then it is a row of its own, or was never published
            return Artifact.open(inside(folder.parent, name), trust)
    return None


def _eager(targets: Sequence[Target], recipe: str | Path | None) -> Callable[[str], Opener] | None:
    """What opens the eager model for timing.

    A torchvision model needs no recipe: its latency does not depend on the weights, so seeded random ones
    do. A `python:` model is the user's code and runs only where the user names the recipe.
    """
    if not targets or not find_spec("torch"):
        return None
    made = targets[0].artifact.manifest
    if recipe is not None:
        source = source_of(load_recipe(recipe))
    elif made.model.startswith("torchvision:"):
        args = made.build.get("model_args", {})
        source = Source(made.model, args, ("random:0",), Path(), made.model, made.inputs, made.dims)
    else:
        return None

    def opener(device: str) -> EagerFromSource:
        return EagerFromSource(source, made.inputs, made.outputs, _by_keyword(made), device, default_options())

    return opener


def _by_keyword(manifest: Manifest) -> bool:
    return bool(manifest.build.get("by_keyword"))
