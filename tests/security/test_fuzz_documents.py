"""Broken recipes, manifests, builds and references: words for the user or success, and never an error of Python's.

A few examples, the same in every run; `make fuzz` tries many new ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from burnish import baseline
from burnish.report.inspect import show_artifact
from burnish.report.terminal import console, show_builds
from converters.plan.load import CONFIGS, load_recipe
from converters.plan.schema import recipe_schema
from converters.recipe.document import RecipeError
from runtimes.artifact.artifact import Artifact
from runtimes.errors import BurnishError
from runtimes.files.layout import REFERENCE_FILE
from runtimes.results import Build
from runtimes.session import load
from runtimes.validator import validate as validator
from runtimes.validator.host import SessionHost
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference
from tests.security.forgery import graph, manifest, write_artifact
from tests.security.mutations import broken_bytes, broken_value, budget, from_schema

SCHEMA = recipe_schema()
RECIPES = [path.read_text(encoding="utf-8") for path in sorted(CONFIGS.glob("*.yaml"))]
FILES = {"model.onnx": graph().SerializeToString()}
MANIFEST = {
    **manifest("onnx", FILES, "model.onnx"),
    "schema_version": 1,
    "precision": "fp32",
    "task": "classification",
    "gates": {"noise": 2.0},
    "inputs": {"x": {"shape": ["batch", 4]}},
    "outputs": {"y": {"shape": ["batch", 4]}},
    "dims": {"batch": {"min": 1, "max": 1}},
    "preprocess": {"resize": 8, "crop": 8},
    "classes": ["a", "b"],
    "weights": {
        "source": "DEFAULT",
        "sha256": None,
        "random": False,
        "tried": [{"source": "a", "why": "b"}],
    },
    "build": {
        "operators": {"Add": 1},
        "compute_layers": {"fp32": 1},
        "notes": ["n"],
        "versions": {"onnx": "1"},
        "parameters": 4,
        "flops": 4,
        "isa": ["avx2"],
        "platform": "linux",
        "options": {"opset": 20},
        "unfused": [{"operator": "a", "layer": "b", "why": "c"}],
        "optimize": "none",
        "cpu": "x86",
    },
}
SPEED = {
    "eager_ms": 2.0,
    "median_ms": 1.0,
    "speedup": 2.0,
    "ci95": [1.9, 2.1],
    "throughput": {"1": 5.0},
    "parent": {"name": "p", "size_bytes": 5, "speedup": 1.0, "ci95": [1, 1]},
}
ROW = {
    "name": "a",
    "format": "onnx",
    "device": "cpu",
    "status": "passed",
    "path": "a",
    "size_bytes": 5,
    "precision": "fp32",
    "parity": {"noise": 1.0, "sqnr_db": 80.0},
    "speed": SPEED,
    "notes": ["n"],
    "reason": "r",
    "gates": [{"gate": "g", "ok": True, "detail": "d"}],
}
BUILD = {
    "recipe": {"name": "r"},
    "model": "m",
    "weights": {"source": "s", "tried": [{"source": "a", "why": "b"}]},
    "machine": {"cpu": "c", "cores": 2, "isa": ["avx2"], "gpus": []},
    "artifacts": [ROW],
    "notes": ["n"],
}


def told(function: Callable[..., Any], *args: Any) -> Any:
    """The result; None where it is an error that a user can be shown."""
    try:
        return function(*args)
    except BurnishError as error:
        assert str(error)
        assert "Traceback" not in str(error)
        return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the files of all examples, one after the other."""
    return tmp_path_factory.mktemp("fuzz")


# Recipes


def checked(folder: Path, text: str) -> None:
    """Load a recipe: a plan, or problems, each with a place."""
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        assert load_recipe(path).artifacts
    except RecipeError as error:
        assert error.problems
        assert all(problem.mark.file for problem in error.problems)


@budget(60)
@given(value=from_schema(SCHEMA, SCHEMA))
def test_recipes_of_the_schema(folder: Path, value: Any) -> None:
    checked(folder, yaml.safe_dump(value, allow_unicode=True))


@budget(60)
@given(value=st.sampled_from([yaml.safe_load(text) for text in RECIPES]).flatmap(broken_value))
def test_recipes_with_junk_in_them(folder: Path, value: Any) -> None:
    checked(folder, yaml.safe_dump(value, allow_unicode=True))


@budget(60)
@given(content=st.sampled_from(RECIPES).map(str.encode).flatmap(broken_bytes))
def test_recipes_with_broken_yaml(folder: Path, content: bytes) -> None:
    checked(folder, content.decode("utf-8", "replace"))


# Manifests and builds


def opened(folder: Path, text: str) -> None:
    """Open an artifact with this manifest, show it in both ways, load and run it."""
    write_artifact(folder, FILES, text)
    found = told(Artifact.open, folder)
    if found is not None:
        told(found.verify)
        show_artifact(found)
        json.dumps(found.manifest.model_dump(mode="json"), allow_nan=False)
        told(ran, folder)


def ran(folder: Path) -> None:
    """Load the artifact and run it once on zeros."""
    with load(folder) as session:
        session.run({"x": np.zeros((1, 4), np.float32)})


@budget(100)
@given(value=broken_value(MANIFEST))
def test_manifests_with_junk_in_them(folder: Path, value: Any) -> None:
    opened(folder, json.dumps(value))


@budget(40)
@given(content=broken_bytes(json.dumps(MANIFEST).encode()))
def test_manifests_with_broken_json(folder: Path, content: bytes) -> None:
    opened(folder, content.decode("utf-8", "replace"))


@budget(100)
@given(value=broken_value(BUILD))
def test_builds_with_junk_in_them(folder: Path, value: Any) -> None:
    (folder / "build.json").write_text(json.dumps(value), encoding="utf-8")
    build = told(Build.read, folder)
    if build is not None:
        show_builds([build, build], console())
        json.dumps(build.model_dump(mode="json"), allow_nan=False)
        baseline.record([build], folder / "baseline.json")
        told(baseline.compare, [build], folder / "baseline.json")


@budget(60)
@given(value=broken_value(BUILD), content=st.binary(max_size=20))
def test_baselines_with_junk_in_them(folder: Path, value: Any, content: bytes) -> None:
    build = Build.model_validate(BUILD)
    (folder / "baseline.json").unlink(missing_ok=True)
    baseline.record([build], folder / "baseline.json")
    text = (folder / "baseline.json").read_bytes()
    (folder / "baseline.json").write_bytes(
        re.sub(rb"\d", lambda match: content[:1] or match.group(), text)
    )
    told(baseline.compare, [build], folder / "baseline.json")


# References


class Here:
    """Stands for a session's process: answers in this one, so that many examples cost little."""

    def __init__(self, artifact: Artifact, device: str, options: Any, log: Any = None) -> None:
        self._host = SessionHost(partial(load, artifact.path))

    def call(self, method: str, *args: Any, timeout: float | None = None) -> Any:
        """As `Child.call`."""
        return getattr(self._host, method)(*args)

    def kill(self) -> None:
        """Nothing to end."""


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[bytes], int]]:
    """Judges the tiny artifact by a reference; gives the number of rows."""
    build = tmp_path_factory.mktemp("build")
    artifact = Artifact.open(write_artifact(build, FILES, json.dumps(MANIFEST)))

    def run(content: bytes) -> int:
        (build.parent / REFERENCE_FILE).write_bytes(content)
        found = Reference.load(build.parent / REFERENCE_FILE)
        target = validator.Target(artifact, "cpu")
        return len(validator.validate([target], found, lambda device: None, budget=0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validator, "start", Here)
        yield run


def split(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header of a reference, its own facts decoded, and its tensors."""
    values = [np.full((1, 4), value, np.float32) for value in (0.0, 1.0, -3.0)]
    answers = [{"y": value + np.arange(1, 5, dtype=np.float32)} for value in values]
    truth = [{"y": one["y"].astype(np.float64)} for one in answers]
    probes = [
        Probe(f"p{k}", {"x": value}, "data", {"batch": 1}, (), (k,))
        for k, value in enumerate(values)
    ]
    Reference(probes, answers, truth).save(path / REFERENCE_FILE)
    content = (path / REFERENCE_FILE).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = json.loads(header["__metadata__"]["burnish"])
    return header, content[8 + length :]


def joined(header: Any, tensors: bytes) -> bytes:
    """The opposite of `split`."""
    if isinstance(header, dict) and "__metadata__" in header:
        header = {**header, "__metadata__": {"burnish": json.dumps(header["__metadata__"])}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + tensors


def test_the_reference_itself_judges(judge: Callable[[bytes], int], tmp_path: Path) -> None:
    assert judge(joined(*split(tmp_path))) == 1


@budget(100)
@given(data=st.data())
def test_references_with_junk_in_them(
    judge: Callable[[bytes], int], folder: Path, data: st.DataObject
) -> None:
    header, tensors = split(folder)
    told(judge, joined(data.draw(broken_value(header)), tensors))


@budget(40)
@given(data=st.data())
def test_references_with_broken_bytes(
    judge: Callable[[bytes], int], folder: Path, data: st.DataObject
) -> None:
    told(judge, data.draw(broken_bytes(joined(*split(folder)))))
