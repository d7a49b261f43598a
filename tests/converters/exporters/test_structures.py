"""Structures of inputs and outputs, in every format: the user's names, and eager's numbers."""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from converters.exporters import EXPORTERS
from converters.exporters.job import ExportJob
from converters.exporters.torch.aot_inductor import missing_compiler
from converters.models.calls.half import widen
from converters.models.facts import study
from converters.sources.restore import open_eager
from runtimes.artifact.artifact import Artifact, FileEntry
from runtimes.session import Session, SessionOptions, runtime_of
from runtimes.spec import DimRange, Dims, Specs, TensorSpec
from runtimes.validator.probes import synthetic_probes
from runtimes.validator.reference import Reference
from tests.manifests import exported_manifest

DIMS = {"batch": DimRange(min=1, max=4)}
FORMATS = ("torchscript", "torch-export", "onnx", "openvino")


@dataclasses.dataclass
class Detection:
    """A result that torch.export knows nothing of."""

    logits: Any
    boxes: Any
    aux: Any = None


class ModelOutput(OrderedDict[str, Any]):
    """A dictionary with fields that may be None, as language models return."""

    def __init__(self, **fields: Any) -> None:
        super().__init__({name: value for name, value in fields.items() if value is not None})


class Pair(NamedTuple):
    first: Any
    second: Any


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)


class DataClass(Layers):
    def forward(self, x: torch.Tensor) -> Any:
        return Detection(self.a(x), [self.b(x), 2 * self.b(x)])


class Fields(Layers):
    def forward(self, x: torch.Tensor) -> Any:
        hidden = Pair(self.b(x), self.a(x) + 1)
        return ModelOutput(loss=None, logits=self.a(x), hidden=hidden)


class Mixed(Layers):
    def forward(self, x: torch.Tensor) -> Any:
        return self.a(x), [{"boxes": self.b(x), "scores": self.a(x).sigmoid(), "none": None}]


class KeywordOnly(Layers):
    def forward(self, x: torch.Tensor, *, scale: torch.Tensor) -> torch.Tensor:
        return self.a(x) * scale


class AnyKeyword(Layers):
    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        return self.a(inputs["x"]) - 2 * self.b(inputs["y"])


class Listed(Layers):
    def forward(self, xs: list[torch.Tensor], batch: dict[str, Any]) -> torch.Tensor:
        return self.a(xs[0]) - 2 * self.b(xs[1]) + batch["deep"][0]["z"]


class Optional(Layers):
    def forward(self, x: Any = None, y: Any = None, mask: Any = None) -> torch.Tensor:
        result = self.a(x) if y is None else self.b(y)
        return result if mask is None else result * mask


class Positional(Layers):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.a(x) - 2 * self.b(y)


class Half(Layers):
    """Casts as models do whose weights are stored in half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.bfloat16()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x.to(torch.bfloat16))


FOUR, THREE = ("batch", 4), ("batch", 3)
CASES: dict[str, tuple[type[nn.Module], dict[str, Any], list[str]]] = {
    "dataclass": (DataClass, {"x": FOUR}, ["logits", "boxes.0", "boxes.1"]),
    "fields": (Fields, {"x": FOUR}, ["logits", "hidden.first", "hidden.second"]),
    "mixed": (Mixed, {"x": FOUR}, ["output_0", "output_1.0.boxes", "output_1.0.scores"]),
    "keyword-only": (KeywordOnly, {"scale": THREE, "x": FOUR}, ["output"]),
    "any keyword": (AnyKeyword, {"y": FOUR, "x": FOUR}, ["output"]),
    "containers": (Listed, {"xs.1": FOUR, "batch.deep.0.z": THREE, "xs.0": FOUR}, ["output"]),
    "optional, left out": (Optional, {"x": FOUR}, ["output"]),
    "optional, the second": (Optional, {"y": FOUR}, ["output"]),
    "optional, given": (Optional, {"mask": THREE, "x": FOUR}, ["output"]),
    "in order": (Positional, {"image": FOUR, "text": FOUR}, ["output"]),
    "half": (Half, {"x": FOUR}, ["output"]),
    "half inputs": (Half, {"x": TensorSpec(shape=FOUR, dtype="float16")}, ["output"]),
}


@dataclasses.dataclass(frozen=True)
class Studied:
    """A model as the build loads it, its facts and its reference."""

    model: nn.Module
    job: ExportJob
    reference: Reference
    inputs: Specs
    dims: Dims

    def export(self, name: str, graph: Path | None = None) -> Artifact:
        """The artifact of a format, with all of the manifest that a session reads."""
        exporter = EXPORTERS.get(name)()
        options = {"format": name, **({"autotune": False} if name == "aot-inductor" else {})}
        folder = self.job.folder / name
        folder.mkdir()
        job = dataclasses.replace(self.job, folder=folder, graph=graph)
        exported = exporter.export(job, exporter.Options.model_validate(options))
        facts = job.facts
        files = {}
        for path in folder.iterdir():
            files[path.name] = FileEntry(sha256="0" * 64, size=path.stat().st_size)
        build = {"by_keyword": facts.by_keyword, **exported.build}
        manifest = exported_manifest(
            exported, facts, name, runtime=exporter.runtime, build=build, files=files
        )
        return Artifact(folder, manifest)

    def check(self, session: Session) -> None:
        """Compare a session's answers with the truth on every probe that has finite answers."""
        compared = 0
        for probe, truth in zip(self.reference.probes, self.reference.truth, strict=True):
            outputs = session.run(probe.inputs)
            assert list(outputs) == list(truth)
            for name, expected in truth.items():
                if np.isfinite(expected).all():
                    error = np.abs(outputs[name] - expected).max()
                    assert error <= 1e-5 * max(1.0, np.abs(expected).max()), (probe.name, name)
                    compared += 1
        assert compared > 5


def studied(case: str, folder: Path) -> Studied:
    kind, shapes, outputs = CASES[case]
    torch.manual_seed(0)
    model = widen(kind().eval())
    inputs: Specs = {}
    for name, shape in shapes.items():
        inputs[name] = shape if isinstance(shape, TensorSpec) else TensorSpec(shape=shape)
    probes = synthetic_probes(inputs, DIMS)
    facts, reference = study(copy.deepcopy(model), inputs, DIMS, probes, None, None)
    assert list(facts.outputs) == outputs
    assert reference.truth_dtype == "float64"
    return Studied(model, ExportJob(model, facts, folder), reference, inputs, DIMS)


def open_session(artifact: Artifact) -> Session:
    return runtime_of(artifact).open(artifact, "cpu", SessionOptions())


@pytest.mark.parametrize("case", CASES)
def test_structures_in_every_format(case: str, tmp_path: Path) -> None:
    made = studied(case, tmp_path)
    graph = None
    for name in FORMATS:
        artifact = made.export(name, graph)
        if name == "onnx":
            graph = artifact.entry  # OpenVINO's start
        with open_session(artifact) as session:
            made.check(session)


@pytest.mark.parametrize("case", CASES)
def test_the_eager_session_that_is_timed_binds_as_the_model_is_called(
    case: str, tmp_path: Path
) -> None:
    made = studied(case, tmp_path)
    facts = made.job.facts
    options = SessionOptions()
    made.check(open_eager(made.model, facts.inputs, facts.outputs, facts.dims, "cpu", options))


@pytest.mark.skipif(missing_compiler() is not None, reason="no C++ compiler")
def test_a_compiled_library(tmp_path: Path) -> None:
    made = studied("containers", tmp_path)
    with open_session(made.export("aot-inductor")) as session:
        made.check(session)
