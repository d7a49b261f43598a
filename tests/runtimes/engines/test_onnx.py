"""ONNX artifacts in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtimes.artifact import Artifact
from runtimes.engines.onnx import OnnxRuntime
from runtimes.errors import ArtifactError
from runtimes.session import SessionOptions, load
from runtimes.validator.reference import Reference
from runtimes.validator.validate import Target, validate

Copy = Callable[[str], Artifact]


def test_the_cpu_provider_is_always_there() -> None:
    assert OnnxRuntime().missing("cpu", {}) is None


def test_without_the_cuda_provider_the_package_that_has_it_is_named() -> None:
    import onnxruntime

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


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_a_file_that_is_no_graph_is_told_in_the_engines_words(
    artifact_copy: Copy, broken_before: Callable[[Artifact, bytes], Artifact], content: bytes
) -> None:
    broken = broken_before(artifact_copy("onnx"), content)
    with pytest.raises(ArtifactError, match=r"ONNX Runtime cannot load model\.onnx: \["):
        load(broken.path)


@pytest.mark.gpu
def test_the_cuda_provider_passes_every_gate(gpu_build: Path) -> None:
    if problem := OnnxRuntime().missing("cuda", {}):
        pytest.skip(problem)
    target = Target(Artifact.open(gpu_build / "onnx"), "cuda")
    row = validate([target], Reference.load(gpu_build / "reference.safetensors"), lambda device: None, budget=0)[0]
    assert (row.status, row.reason) == ("passed", None)


@pytest.mark.gpu
def test_cuda_computes_what_the_cpu_computes(gpu_build: Path, small_reference: Reference) -> None:
    if problem := OnnxRuntime().missing("cuda", {}):
        pytest.skip(problem)
    with load(gpu_build / "onnx", "cuda") as session, load(gpu_build / "onnx", "cpu") as cpu:
        assert session._engine.get_providers()[0] == "CUDAExecutionProvider"
        for probe in small_reference.probes:
            found, expected = session.run(probe.inputs)["logits"], cpu.run(probe.inputs)["logits"]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
