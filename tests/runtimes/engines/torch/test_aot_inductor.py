"""AOTInductor artifacts: only on CPUs that have the instructions, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="torch runs these artifacts: pip install 'burnish[convert]'"
)

from runtimes.artifact.artifact import Artifact  # noqa: E402 - only where there is torch
from runtimes.engines.torch.aot_inductor import AotInductorRuntime  # noqa: E402
from runtimes.errors import ArtifactError, Unavailable  # noqa: E402
from runtimes.machine.machine import instruction_sets, system  # noqa: E402
from runtimes.results import Build  # noqa: E402
from runtimes.session import SessionOptions, load  # noqa: E402
from runtimes.validator.reference import Reference  # noqa: E402
from runtimes.validator.validate import Target, validate  # noqa: E402


@pytest.fixture
def compiled(compiled_build: Path) -> Path:
    """The artifact of the shared build, where this machine could make it."""
    row = next(row for row in Build.read(compiled_build).artifacts if row.name == "aot-inductor")
    if row.status == "skipped":
        pytest.skip(str(row.reason))
    return compiled_build / "aot-inductor"


@pytest.fixture
def artifact(compiled: Path, tmp_path: Path) -> Artifact:
    """A copy to change."""
    return Artifact.open(shutil.copytree(compiled, tmp_path / "aot-inductor"))


@pytest.fixture
def unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test where the library would be opened."""
    loader = lambda *args: pytest.fail("the library was opened")  # noqa: E731
    monkeypatch.setattr(torch._C._aoti, "AOTIModelPackageLoader", loader)


def claim(artifact: Artifact, **build: Any) -> None:
    """Change what the manifest says of how the artifact was made."""
    path = artifact.path / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["build"] |= build
    path.write_text(json.dumps(manifest), encoding="utf-8")


def test_it_passes_every_gate_and_names_what_it_needs(compiled_build: Path, compiled: Path) -> None:
    row = next(row for row in Build.read(compiled_build).artifacts if row.name == "aot-inductor")
    assert (row.status, row.reason) == ("passed", None)
    assert "computing layers: 3 fp32" in next(
        gate.detail for gate in row.gates if gate.gate == "precision"
    )
    build = Artifact.open(compiled).manifest.build
    assert build["platform"] == system()
    assert set(build["isa"]) <= instruction_sets()


def test_it_runs_at_a_batch_that_no_exporter_saw(
    compiled: Path, small_reference: Reference
) -> None:
    with load(compiled) as session:
        image = small_reference.probes[0].inputs["image"]
        logits = session.run({"image": np.repeat(image, 5, axis=0)})["logits"]
    expected = np.repeat(small_reference.eager[0]["logits"], 5, axis=0)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_a_lesser_cpu_is_told_and_the_library_is_not_opened(
    artifact: Artifact, small_reference: Reference, unopened: None
) -> None:
    claim(artifact, isa=[*sorted(instruction_sets())[:1], "avx9000"])
    with pytest.raises(
        Unavailable, match="cannot run on cpu here: it was compiled to use avx9000, which this CPU"
    ):
        load(artifact.path)
    target = Target(Artifact.open(artifact.path), "cpu")
    row = validate([target], small_reference, lambda device: None, budget=0)[0]
    assert row.status == "built"
    assert "build it again here, or for more CPUs with `isa: avx2`" in str(row.reason)


def test_another_platform_is_told(artifact: Artifact, unopened: None) -> None:
    claim(artifact, platform="plan9-mips")
    with pytest.raises(
        Unavailable, match=f"it was built for plan9-mips, this is {system()}: build it again"
    ):
        load(artifact.path)


def test_another_torch_is_told(artifact: Artifact, unopened: None) -> None:
    claim(artifact, versions={"torch": "1.13.0"})
    with pytest.raises(Unavailable, match=r"it was built with torch 1\.13\.0, this is "):
        load(artifact.path)


def test_of_an_artifact_that_is_not_yet_made_nothing_is_missing() -> None:
    assert AotInductorRuntime().missing("cpu", {}) is None


def test_a_changed_file_is_refused_before_it_is_opened(artifact: Artifact, unopened: None) -> None:
    artifact.entry.write_bytes(artifact.entry.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match=r"model\.pt2 was changed after it was made"):
        load(artifact.path)


@pytest.mark.parametrize("content", [b"", b"not a package", b"PK\x03\x04" + bytes(100)])
def test_a_file_that_is_no_package_is_told_in_the_engines_words(
    artifact: Artifact, broken_before: Callable[[Artifact, bytes], Artifact], content: bytes
) -> None:
    broken = broken_before(artifact, content)
    with pytest.raises(ArtifactError, match=r"torch cannot load model\.pt2: "):
        load(broken.path)


def test_loading_needs_no_compiler_and_leaves_nothing_behind(
    compiled: Path, tmp_path: Path, small_reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with load(compiled) as session:
        assert list(tmp_path.iterdir()) == []
        session.run(small_reference.probes[0].inputs)
    assert list(tmp_path.iterdir()) == []
    assert os.environ["TMPDIR"] == str(tmp_path)
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


def test_threads_are_set_for_the_process(compiled: Path) -> None:
    before = torch.get_num_threads()
    try:
        load(compiled, options=SessionOptions(threads=1)).close()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
