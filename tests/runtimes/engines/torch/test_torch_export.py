"""torch.export artifacts in torch."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="torch runs these artifacts: pip install 'burnish[convert]'"
)

from runtimes.artifact.artifact import Artifact  # noqa: E402 - only where there is torch
from runtimes.errors import ArtifactError  # noqa: E402
from runtimes.results import Build  # noqa: E402
from runtimes.session import SessionOptions, load  # noqa: E402
from runtimes.validator.reference import Reference  # noqa: E402
from runtimes.validator.validate import Target, validate  # noqa: E402


@pytest.fixture
def artifact(compiled_build: Path, tmp_path: Path) -> Artifact:
    """A copy to change."""
    return Artifact.open(
        shutil.copytree(compiled_build / "torch-export", tmp_path / "torch-export")
    )


def test_it_passes_every_gate(compiled_build: Path) -> None:
    row = next(row for row in Build.read(compiled_build).artifacts if row.name == "torch-export")
    assert (row.status, row.reason) == ("passed", None)
    assert "computing layers: 3 fp32" in next(
        gate.detail for gate in row.gates if gate.gate == "precision"
    )


def test_it_runs_at_a_batch_that_no_exporter_saw(
    compiled_build: Path, small_reference: Reference
) -> None:
    with load(compiled_build / "torch-export") as session:
        image = small_reference.probes[0].inputs["image"]
        logits = session.run({"image": np.repeat(image, 5, axis=0)})["logits"]
    expected = np.repeat(small_reference.eager[0]["logits"], 5, axis=0)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-100], lambda data: data[:200] + b"!" + data[201:]]
)
def test_a_changed_file_is_refused_before_torch_parses_it(
    artifact: Artifact, damage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch.export, "load", lambda path: pytest.fail("torch was given a changed file")
    )
    artifact.entry.write_bytes(damage(artifact.entry.read_bytes()))
    with pytest.raises(ArtifactError, match=r"model\.pt2 was changed after it was made"):
        load(artifact.path)


@pytest.mark.parametrize("content", [b"", b"not a program", b"PK\x03\x04" + bytes(100)])
def test_a_file_that_is_no_program_is_told_in_the_engines_words(
    artifact: Artifact, broken_before: Callable[[Artifact, bytes], Artifact], content: bytes
) -> None:
    broken = broken_before(artifact, content)
    with pytest.raises(ArtifactError, match=r"torch cannot load model\.pt2: "):
        load(broken.path)


def test_threads_are_set_for_the_process(compiled_build: Path) -> None:
    before = torch.get_num_threads()
    try:
        load(compiled_build / "torch-export", options=SessionOptions(threads=1)).close()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.gpu
def test_torch_export_on_a_gpu_passes_every_gate(gpu_build: Path) -> None:
    target = Target(Artifact.open(gpu_build / "torch-export"), "cuda")
    row = validate(
        [target], Reference.load(gpu_build / "reference.safetensors"), lambda device: None, budget=0
    )[0]
    assert (row.status, row.reason) == ("passed", None)
