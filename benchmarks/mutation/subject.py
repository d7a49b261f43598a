"""Right artifacts: every recipe of `subjects/`, built once, and one artifact of it in hand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import runtimes.validator
from mutation.formats.format import Format
from mutation.formats.onnx import OnnxFormat
from mutation.formats.openvino import OpenVinoFormat
from mutation.formats.torchscript import TorchScriptFormat
from runtimes.artifact.artifact import Artifact
from runtimes.files.layout import REFERENCE_FILE
from runtimes.results import Status
from runtimes.validator.gates.honest import saturates
from runtimes.validator.reference import Reference

RECIPES = Path(__file__).with_name("subjects")
FORMATS: dict[str, Callable[[Artifact], Format]] = {
    "onnx": OnnxFormat,
    "openvino": OpenVinoFormat,
    "torchscript": TorchScriptFormat,
}
_CODE = (Path(__file__).parent, Path(runtimes.validator.__file__).parent)
_NO_EVIDENCE = ("page.py", "run.py")  # code that no result depends on


@dataclass(frozen=True)
class Subject:
    """A right artifact.

    Attributes:
        name: of the recipe and the artifact, as in `mlp/onnx-int8`.
        build: folder of the build.
    """

    name: str
    build: Path

    @cached_property
    def artifact(self) -> Artifact:
        """The artifact, verified."""
        return Artifact.open(self.build / self.name.partition("/")[2])

    @cached_property
    def reference(self) -> Reference:
        """Probes with eager's answers."""
        return Reference.load(self.build / REFERENCE_FILE)

    @cached_property
    def format(self) -> Format:
        """The format, with the right model."""
        return FORMATS[self.artifact.manifest.format](self.artifact)

    @property
    def lossless(self) -> bool:
        """Whether the artifact computes in float32."""
        return self.artifact.manifest.precision == "fp32"

    @cached_property
    def exact(self) -> Subject:
        """The float32 artifact of the same recipe."""
        return Subject(f"{self.name.partition('/')[0]}/onnx", self.build)

    @cached_property
    def digest(self) -> str:
        """Digest of all that a verdict depends on: model, reference, the validator's code and ours."""
        digest = hashlib.sha256(self.format.content)
        digest.update((self.build / REFERENCE_FILE).read_bytes())
        for folder in _CODE:
            for path in sorted(folder.rglob("*.py")):
                if path.name not in _NO_EVIDENCE:
                    digest.update(path.read_bytes())
        return digest.hexdigest()[:16]


def recipes() -> list[str]:
    """Return the names of all recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def build_subjects(names: Iterable[str], folder: Path) -> list[Subject]:
    """Convert the recipes and return their artifacts. Raises RuntimeError if one is not `passed`.

    Lossy artifacts of an engine that saturates on this CPU are left out: they have an error of its own,
    and are not held to the honest one.
    """
    import burnish

    subjects = []
    for name in names:
        print(f"building {name}", flush=True)
        build = burnish.convert(RECIPES / f"{name}.yaml", folder / name, speed=False)
        for row in build.artifacts:
            if row.status is not Status.PASSED:
                raise RuntimeError(f"{name}/{row.name} has to pass unchanged: {row.reason}")
            subject = Subject(f"{name}/{row.name}", folder / name)
            if saturates(subject.artifact.manifest) and not subject.lossless:
                print(f"{subject.name} is left out: its engine saturates on this CPU", flush=True)
            else:
                subjects.append(subject)
    return subjects
