"""Validate artifacts that were built earlier or elsewhere, by the reference beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from converters.data.metric import opened
from converters.plan.load import load_recipe
from converters.plan.plan import Plan, source_of
from converters.sources.load import Source
from converters.sources.restore import EagerFromSource
from runtimes.artifact import trust
from runtimes.artifact.artifact import MANIFEST, Artifact, Manifest, inside, sha256
from runtimes.artifact.gates import Gates
from runtimes.artifact.signature import Trust
from runtimes.errors import ArtifactError, UsageError
from runtimes.files.layout import BUILD_FILE, CHANGED, REFERENCE_FILE
from runtimes.machine import machine
from runtimes.results import Build, Row, Status, check_required
from runtimes.validator.gates.foreign import strict_gates
from runtimes.validator.host import Opener
from runtimes.validator.reference import Reference, check_there
from runtimes.validator.validate import Target, default_options, validate


@dataclass(frozen=True)
class RevalidateOptions:
    """Options of `burnish.validate`.

    Attributes:
        recipe: of a `python:` model, to compare its speed with the eager model.
        devices: instead of those of the build.
        require: names of artifacts that must pass, or "all".
        budget: seconds of timing per artifact; 0 leaves speed unmeasured.
        signer: the key that must have signed each artifact, if any.
        trust: open artifacts that are programs even if this user did not build them here.
    """

    recipe: str | Path | None
    devices: Sequence[str]
    require: Sequence[str]
    budget: float
    signer: Trust
    trust: bool = False


def revalidate(path: Path, options: RevalidateOptions, progress: Callable[[str], None]) -> Build:
    """Validate a build or one artifact again. Raises UsageError if there is none."""
    location = _Location.find(path)
    check_required(options.require, location.artifact_names())
    references = _References.beside(location.folder)
    plan = load_recipe(options.recipe) if options.recipe is not None else None
    targets, broken = _targets(location, options, references, plan)
    if not targets and not broken:
        raise UsageError(f"{path} holds no artifact")
    if not targets:
        return _result(location.build, None, broken, [])
    open_eager = _eager(targets[0].artifact.manifest, plan)
    judged_by = [target.reference for target in targets if target.reference]

    def opener(device: str) -> Opener | None:
        return open_eager(device) if open_eager else None

    with contextlib.ExitStack() as stack:
        if plan is not None:
            metric = stack.enter_context(opened(plan.recipe, plan.folder))
            targets = [replace(target, metric=metric) for target in targets]
        rows = validate(
            targets,
            judged_by[0],
            opener,
            budget=options.budget,
            progress=progress,
            trust=options.trust,
        )
    notes = []
    for reference in judged_by:
        notes += reference.notes
    if options.budget and open_eager is None:
        notes.append(
            "speed was not compared with eager: that needs PyTorch, and a python: model --recipe"
        )
    return _result(location.build, targets[0].artifact.manifest, [*rows, *broken], notes)


def _result(
    build: Build | None, manifest: Manifest | None, rows: Sequence[Row], notes: Sequence[str]
) -> Build:
    """Return the new verdicts, with the facts of the build, or else of an artifact's manifest."""
    source = build or manifest
    return Build(
        recipe=build.recipe if build else {},
        model=source.model if source else "",
        weights=source.weights if source else {},
        machine=machine.describe(),
        artifacts=list(rows),
        notes=list(dict.fromkeys(notes)),
        burnish=source.burnish if source else None,
    )


@dataclass(frozen=True)
class _Location:
    """Folders of artifacts, the folder of their reference, and the build that they belong to."""

    artifacts: list[Path]
    folder: Path
    build: Build | None

    @classmethod
    def find(cls, path: Path) -> _Location:
        """Find the artifacts of a build, or one artifact. Raises UsageError if there are none."""
        if path.name == BUILD_FILE and path.is_file():
            path = path.parent
        if (path / MANIFEST).is_file():
            parent = path.resolve().parent
            build = Build.read(parent) if (parent / BUILD_FILE).is_file() else None
            return cls([path], parent, build)
        build = Build.read(path)
        names = dict.fromkeys(row.path for row in build.artifacts if row.path)
        return cls([inside(path, name) for name in names], path, build)

    def artifact_names(self) -> list[str]:
        """Return the names that may be required."""
        if self.build is None:
            return [folder.name for folder in self.artifacts]
        return [row.name for row in self.build.artifacts]

    def rows(self, folder: Path) -> list[Row]:
        """Return the rows of the build on an artifact."""
        if self.build is None:
            return []
        return [row for row in self.build.artifacts if row.path == folder.name]


@dataclass(frozen=True)
class _References:
    """The references of a build by their digests; each is read when a trusted manifest names it.

    Attributes:
        files: with those of the models that passes changed.
        default: digest of the loaded model's reference.
    """

    files: dict[str, Path]
    default: str
    _read: dict[str, Reference] = field(default_factory=dict)

    @classmethod
    def beside(cls, folder: Path) -> _References:
        """Return those in a build's folder. Raises UsageError if there is none."""
        reference = folder / REFERENCE_FILE
        check_there(reference)
        files = [path for path in folder.glob(f"{CHANGED}/*/{REFERENCE_FILE}") if path.is_file()]
        by_digest = {sha256(path): path for path in (*files, reference)}
        return cls(by_digest, sha256(reference))

    def of(self, artifact: Artifact) -> Reference:
        """Return an artifact's reference. Raises ArtifactError if it is missing or unreadable."""
        digest = artifact.manifest.reference or ("" if artifact.trust.key else self.default)
        if digest not in self.files:
            raise ArtifactError(
                f"the {REFERENCE_FILE} beside it is not the one that it was built with: it was "
                "changed, or belongs to another build; `burnish convert` builds both again"
            )
        if digest not in self._read:
            self._read[digest] = Reference.load(self.files[digest])
        return self._read[digest]


def _targets(
    location: _Location,
    options: RevalidateOptions,
    references: _References,
    plan: Plan | None,
) -> tuple[list[Target], list[Row]]:
    """Return the targets of the validation, and error rows of artifacts that cannot be opened."""
    targets, broken = [], []
    for folder in location.artifacts:
        try:
            artifact = Artifact.open(folder, options.signer)
            _check_claims(artifact.manifest, location, folder)
            reference = references.of(artifact)
            limits, notes = _limits(artifact, plan)
        except (ArtifactError, UsageError) as error:
            broken.append(_error_row(folder, error))
            continue
        parent = _parent(folder, location, options.signer)
        for device in _devices(artifact, options.devices, location.rows(folder)):
            target = Target(artifact, device, parent, reference, limits=limits, notes=notes)
            targets.append(target)
    return targets, broken


def _check_claims(manifest: Manifest, location: _Location, folder: Path) -> None:
    """Raise ArtifactError if a manifest says otherwise than the build by what it is to be judged.

    Another precision has more lenient gates, and only a classifier's classes are compared.
    """
    claims: list[tuple[str, str | None, str | None]] = []
    for row in location.rows(folder):
        claims.append(("precision", manifest.precision, row.precision))
    if location.build is not None and "task" in location.build.recipe:
        claims.append(("task", manifest.task, location.build.recipe["task"]))
    for name, claimed, built in claims:
        if built is not None and claimed != built:
            raise ArtifactError(
                f"its manifest says `{name}: {claimed}`, the {BUILD_FILE} beside it {built}: one of "
                "them was changed; convert it again"
            )


def _limits(artifact: Artifact, plan: Plan | None) -> tuple[Gates | None, tuple[str, ...]]:
    """Return the gates to judge by in place of the manifest's, and a note for the reader.

    The recipe's if one is named; else the manifest's own only if this user built the artifact here,
    or a trusted key signed it. Raises ArtifactError if the recipe asks for another precision.
    """
    manifest = artifact.manifest
    planned = {each.name: each for each in plan.artifacts} if plan else {}
    if manifest.name in planned:
        required = planned[manifest.name]
        precision = required.options.asked_precision
        if precision != manifest.precision:
            raise ArtifactError(
                f"its manifest says {manifest.precision}, the recipe asks for {precision}: convert it "
                "again"
            )
        return required.gates, ()
    if artifact.trust.key is not None or trust.built_here(artifact.path / MANIFEST):
        return None, ()
    limits = strict_gates(manifest)
    if limits.model_fields_set == manifest.gates.model_fields_set:
        return limits, ()
    note = (
        "not built here, so limits of its manifest that are more lenient than the defaults do not "
        "count: name your recipe (--recipe) to judge by its gates"
    )
    return limits, (note,)


def _error_row(folder: Path, error: Exception) -> Row:
    return Row(
        name=folder.name, format="unknown", device="cpu", status=Status.ERROR, reason=str(error)
    )


def _devices(artifact: Artifact, requested: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Return the requested devices, or those of the build, that the artifact supports."""
    supported = artifact.manifest.devices
    wanted = requested or [row.device for row in rows]
    devices = [device for device in wanted if device in supported]
    return list(dict.fromkeys(devices or [supported[0]]))


def _parent(folder: Path, location: _Location, signer: Trust) -> Artifact | None:
    """Return the artifact that it was timed beside, if that still exists."""
    for row in location.rows(folder):
        if row.speed.parent is None:
            continue
        # An artifact that cannot be opened has a row of its own, or was never published.
        with contextlib.suppress(ArtifactError, UsageError):
            return Artifact.open(inside(folder.parent, row.speed.parent.name), signer)
    return None


def _eager(manifest: Manifest, plan: Plan | None) -> Callable[[str], Opener] | None:
    """Return the function that opens the eager model for timing, or None.

    A torchvision model needs no recipe: its latency does not depend on the weights, so seeded
    random weights are enough. A `python:` model is the user's code, and runs only if the user names
    its recipe.
    """
    if not find_spec("torch"):
        return None
    if plan is not None:
        source = source_of(plan)
    elif manifest.model.startswith("torchvision:"):
        source = Source(
            manifest.model,
            manifest.build.get("model_args", {}),
            ("random:0",),
            Path(),
            manifest.model,
            manifest.inputs,
            manifest.dims,
        )
    else:
        return None

    def opener(device: str) -> EagerFromSource:
        return EagerFromSource(source, manifest.inputs, manifest.outputs, device, default_options())

    return opener
