"""What tests of converters share: recipes on disk, and modules studied in this process."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from pydantic import TypeAdapter

from converters.exporters.job import ExportJob
from converters.models.facts import study
from runtimes.spec import RelatedDims, TensorSpec
from runtimes.validator.probes import synthetic_probes


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a dedented text file into the test's folder."""

    def write(text: str, name: str = "recipe.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return path

    return write


@pytest.fixture
def own_imports() -> Iterator[None]:
    """Forgets afterwards what a test imported, and where it looked for it."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("user_"):
            del sys.modules[name]


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., ExportJob]:
    """Makes a job: a module, `{"image": ["batch", 3]}` or `{"ids": TensorSpec}`, `{"batch": (1, 8)}`.

    A dimension is a range, with the best size as a third number, or a relation (`"past + new"`).
    """

    def make(
        module: Any,
        inputs: Mapping[str, Any],
        dims: Mapping[str, Any] | None = None,
        outputs: list[str] | None = None,
    ) -> ExportJob:
        specs = {
            name: spec if isinstance(spec, TensorSpec) else TensorSpec(shape=spec)
            for name, spec in inputs.items()
        }
        written = {name: _as_written(value) for name, value in (dims or {}).items()}
        ranges = TypeAdapter(RelatedDims).validate_python(written)
        probes = synthetic_probes(specs, ranges)
        facts, _ = study(copy.deepcopy(module).eval(), specs, ranges, probes, outputs, None)
        folder = tmp_path / "artifact"
        folder.mkdir(exist_ok=True)
        return ExportJob(module.eval(), facts, folder)

    return make


def _as_written(value: Any) -> Any:
    """A dimension as a recipe has it, of `(min, max)` or `(min, max, opt)`."""
    if not isinstance(value, tuple):
        return value
    return dict(zip(("min", "max", "opt"), value, strict=False))
