"""ONNX artifacts in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from runtimes.artifact.artifact import Artifact, publish
from runtimes.engines.onnx.onnx import OnnxRuntime
from runtimes.errors import ArtifactError, Unavailable
from runtimes.machine.bound import vectors
from runtimes.machine.machine import system
from runtimes.session import SessionOptions, load
from runtimes.validator.reference import Reference
from runtimes.validator.validate import Target, validate

Copy = Callable[[str], Artifact]
Change = Callable[..., Artifact]


def test_the_cpu_provider_is_always_there() -> None:
    assert OnnxRuntime().missing("cpu", {}) is None


def test_without_the_cuda_provider_the_package_that_has_it_is_named() -> None:
    problem = OnnxRuntime().missing("cuda", {})
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        assert problem is None
    else:
        assert problem is not None
        assert problem.endswith("has no CUDAExecutionProvider: pip install onnxruntime-gpu")


def test_the_model_is_opened_by_the_provider_of_the_device(small_build: Path) -> None:
    with load(small_build / "onnx", "cpu") as session:
        assert session._engine.get_providers() == ["CPUExecutionProvider"]


def test_threads_are_passed_on(small_build: Path) -> None:
    with load(small_build / "onnx", options=SessionOptions(threads=1)) as session:
        assert session._engine.get_session_options().intra_op_num_threads == 1


def test_inputs_and_outputs_are_the_graphs(small_build: Path) -> None:
    with load(small_build / "onnx") as session:
        assert [value.name for value in session._engine.get_inputs()] == list(session.inputs)
        assert [value.name for value in session._engine.get_outputs()] == list(session.outputs)


@pytest.mark.parametrize("content", [b"", b"\x08\x0a"])  # nothing, and a version alone
def test_a_file_that_is_no_graph_is_told_in_the_engines_words(
    artifact_copy: Copy, broken_before: Callable[[Artifact, bytes], Artifact], content: bytes
) -> None:
    broken = broken_before(artifact_copy("onnx"), content)
    with pytest.raises(ArtifactError, match=r"ONNX Runtime cannot load model\.onnx: \["):
        load(broken.path)


@pytest.fixture
def laid_out(artifact_copy: Copy) -> Change:
    """The artifact with a graph that was optimized to the last, here or as its manifest says."""

    def change(**claims: Any) -> Artifact:
        artifact = artifact_copy("onnx")
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        settings.optimized_model_filepath = str(artifact.path / "made.onnx")
        onnxruntime.InferenceSession(
            str(artifact.entry), settings, providers=["CPUExecutionProvider"]
        )
        (artifact.path / "made.onnx").replace(artifact.entry)
        build = artifact.manifest.build
        build = build | {"optimize": "all", "platform": system(), "isa": vectors()} | claims
        (artifact.path / "manifest.json").unlink()
        changed = artifact.manifest.model_copy(update={"build": build, "devices": ("cpu",)})
        return publish(artifact.path, artifact.path.with_name("published"), changed)

    return change


def test_a_graph_that_is_final_is_not_optimized_again(
    laid_out: Change, small_build: Path, small_reference: Reference
) -> None:
    artifact = laid_out()
    levels = onnxruntime.GraphOptimizationLevel
    with load(artifact.path) as session, load(small_build / "onnx") as plain:
        assert (
            session._engine.get_session_options().graph_optimization_level == levels.ORT_DISABLE_ALL
        )
        assert plain._engine.get_session_options().graph_optimization_level == levels.ORT_ENABLE_ALL
    row = validate([Target(artifact, "cpu")], small_reference, lambda device: None, budget=0)[0]
    assert (row.status, row.reason) == ("passed", None)


WITHOUT = ", ".join(f"without {name}" for name in sorted(vectors()))


@pytest.mark.cpu_flags
@pytest.mark.parametrize(
    ("claims", "words"),
    [
        (
            {"isa": [*vectors(), "avx9000"]},
            "it is laid out for a CPU with avx9000: build it again here, or with",
        ),
        (
            {"isa": []},
            f"it is laid out for a CPU {WITHOUT}: build it again here",
        ),
        (
            {"platform": "plan9-mips"},
            f"it was built for plan9-mips, this is {system()}: build it again here",
        ),
        ({"versions": {"onnxruntime": "1.2.3"}}, "it was built with onnxruntime 1.2.3, this is "),
    ],
    ids=["better", "lesser", "platform", "release"],
)
def test_a_graph_that_is_laid_out_for_another_machine_is_not_opened(
    laid_out: Change,
    small_reference: Reference,
    monkeypatch: pytest.MonkeyPatch,
    claims: dict[str, Any],
    words: str,
) -> None:
    artifact = laid_out(**claims)
    monkeypatch.setattr(OnnxRuntime, "open", lambda *arguments: pytest.fail("it was opened"))
    with pytest.raises(Unavailable) as caught:
        load(artifact.path)
    assert str(caught.value).startswith(f"published cannot run on cpu here: {words}")
    row = validate([Target(artifact, "cpu")], small_reference, lambda device: None, budget=0)[0]
    assert (row.status, str(row.reason).startswith(f"cannot run here: {words}")) == ("built", True)


def test_a_portable_graph_runs_wherever_it_was_made() -> None:
    for level in ("none", "basic", "extended"):
        build = {"optimize": level, "platform": "plan9-mips", "versions": {"onnxruntime": "1.2.3"}}
        assert OnnxRuntime().missing("cpu", build) is None


@pytest.mark.gpu
def test_the_cuda_provider_passes_every_gate(gpu_build: Path) -> None:
    if problem := OnnxRuntime().missing("cuda", {}):
        pytest.skip(problem)
    target = Target(Artifact.open(gpu_build / "onnx"), "cuda")
    row = validate(
        [target], Reference.load(gpu_build / "reference.safetensors"), lambda device: None, budget=0
    )[0]
    assert (row.status, row.reason) == ("passed", None)


@pytest.mark.gpu
def test_cuda_computes_what_the_cpu_computes(gpu_build: Path, small_reference: Reference) -> None:
    if problem := OnnxRuntime().missing("cuda", {}):
        pytest.skip(problem)
    with load(gpu_build / "onnx", "cuda") as session, load(gpu_build / "onnx", "cpu") as cpu:
        assert session._engine.get_providers()[0] == "CUDAExecutionProvider"
        for probe in small_reference.probes:
            logits, expected = session.run(probe.inputs)["logits"], cpu.run(probe.inputs)["logits"]
            np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
