"""TensorRT engines: what can be known without a GPU, and on one what they compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from runtimes.artifact.artifact import Artifact
from runtimes.engines.tensorrt import (
    PACKAGES,
    TensorRtRuntime,
    _Cuda,
    missing_cuda_bindings,
    missing_flavor,
)
from runtimes.engines.torch.torch_tensorrt import TorchTensorRtRuntime
from runtimes.errors import ArtifactError, BurnishError, Unavailable
from runtimes.machine.devices import gpus
from runtimes.results import Build, Status
from runtimes.session import Session, SessionOptions, load
from runtimes.validator.reference import Reference
from runtimes.validator.validate import Target, validate

needs_rtx = pytest.mark.skipif(missing_flavor("rtx") is not None, reason=str(missing_flavor("rtx")))
needs_bindings = pytest.mark.skipif(
    missing_cuda_bindings() is not None, reason=str(missing_cuda_bindings())
)
no_gpu = pytest.mark.skipif(bool(gpus()), reason="this machine has a GPU")


@needs_rtx
def test_the_engine_says_who_made_it_for_which_gpus(small_build: Path) -> None:
    manifest = Artifact.open(small_build / "tensorrt").manifest
    assert manifest.build["flavor"] == "rtx"
    assert manifest.build["compute_capabilities"]
    assert manifest.build["compute_layers"] == {"fp32": 3}
    assert manifest.devices == ("cuda",)


@needs_rtx
@no_gpu
def test_without_a_gpu_an_engine_is_built_and_not_run(small_build: Path) -> None:
    row = next(row for row in Build.read(small_build).artifacts if row.name == "tensorrt")
    assert row.status is Status.BUILT
    assert row.reason is not None
    assert "no NVIDIA GPU with a working driver" in row.reason
    with pytest.raises(Unavailable, match="no NVIDIA GPU"):
        load(small_build / "tensorrt")


@needs_rtx
def test_a_file_that_is_no_engine_is_told_with_who_built_it(
    artifact_copy: Callable[[str], Artifact], broken_before: Callable[[Artifact, bytes], Artifact]
) -> None:
    broken = broken_before(artifact_copy("tensorrt"), b"not an engine" * 10)
    with pytest.raises(
        ArtifactError,
        match=r"cannot load model\.engine: it was built by rtx .* Build it again here",
    ):
        TensorRtRuntime().open(broken, "cuda", SessionOptions())


@pytest.mark.parametrize("flavor", PACKAGES)
def test_a_missing_flavor_is_named_with_its_install_command(
    flavor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PACKAGES, flavor, "no_such_tensorrt")
    extra = {"tensorrt": "burnish[tensorrt]", "rtx": "burnish[tensorrt-rtx]"}[flavor]
    problem = f"no_such_tensorrt is not installed: pip install '{extra}'"
    assert missing_flavor(flavor) == problem
    assert TensorRtRuntime().missing("cuda", {"flavor": flavor}) == problem


@no_gpu
def test_torch_tensorrt_needs_a_driver_even_to_be_imported() -> None:
    problem = TorchTensorRtRuntime().missing("cuda", {})
    assert problem is not None
    assert problem.startswith(
        "torch-tensorrt needs an NVIDIA driver even to be imported; no NVIDIA GPU"
    )


@needs_bindings
def test_a_failing_cuda_call_is_told_in_cudas_words() -> None:
    words = "invalid device ordinal" if gpus() else "driver version is insufficient"
    with pytest.raises(BurnishError, match=f"cudaSetDevice: .*{words}"):
        _Cuda().check("cudaSetDevice", 9999)


@pytest.fixture
def engine(gpu_build: Path) -> Iterator[Session]:
    """A TensorRT engine of the small model, on this machine's GPU."""
    with load(gpu_build / "tensorrt", "cuda") as session:
        yield session


@pytest.mark.gpu
def test_an_engine_passes_every_gate(gpu_build: Path) -> None:
    target = Target(Artifact.open(gpu_build / "tensorrt"), "cuda")
    row = validate(
        [target], Reference.load(gpu_build / "reference.safetensors"), lambda device: None, budget=0
    )[0]
    assert (row.status, row.reason) == ("passed", None)


@pytest.mark.gpu
def test_the_engine_computes_what_eager_computes(
    engine: Session, small_reference: Reference
) -> None:
    for probe, eager in zip(small_reference.probes, small_reference.eager, strict=True):
        np.testing.assert_allclose(
            engine.run(probe.inputs)["logits"], eager["logits"], rtol=1e-4, atol=1e-5
        )


@pytest.mark.gpu
def test_buffers_grow_and_are_used_again_for_smaller_batches(engine: Session) -> None:
    images = np.random.default_rng(0).standard_normal((8, 3, 32, 32)).astype(np.float32)
    answers = {size: engine.run({"image": images[:size]})["logits"] for size in (1, 8, 2, 5, 1)}
    for size, logits in answers.items():
        np.testing.assert_allclose(logits, answers[8][:size], rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_an_answer_of_the_engine_survives_the_next_run(engine: Session) -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    first = engine.run({"image": images})["logits"]
    before = first.copy()
    engine.run({"image": images * 5})
    np.testing.assert_array_equal(first, before)


@pytest.mark.gpu
def test_a_view_with_strange_strides_runs_on_the_engine(engine: Session) -> None:
    images = (
        np.random.default_rng(0)
        .standard_normal((4, 3, 32, 32))
        .astype(np.float32)[::-1, :, :, ::-1]
    )
    expected = engine.run({"image": np.ascontiguousarray(images)})["logits"]
    np.testing.assert_array_equal(engine.run({"image": images})["logits"], expected)


@pytest.mark.gpu
def test_an_engine_gives_its_memory_back_and_may_be_closed_twice(gpu_build: Path) -> None:
    session = load(gpu_build / "tensorrt", "cuda")
    session.run({"image": np.zeros((8, 3, 32, 32), np.float32)})
    session.close()
    session.close()
