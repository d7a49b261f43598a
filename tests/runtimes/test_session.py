"""load() and run(): what every engine promises."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from runtimes.artifact.artifact import MANIFEST, Artifact
from runtimes.engines.torch.session import TorchSession
from runtimes.errors import InputError, Unavailable, Untrusted, UsageError
from runtimes.machine.devices import gpus
from runtimes.session import SessionOptions, check_device, load, runtime_of
from runtimes.spec import TensorSpec
from runtimes.validator.reference import Reference

Copy = Callable[[str], Artifact]

engines = pytest.mark.parametrize("name", ["torchscript", "onnx"])


def images(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).standard_normal((batch, 3, 32, 32)).astype(np.float32)


@engines
@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_every_legal_batch_gives_as_many_answers(small_build: Path, name: str, batch: int) -> None:
    with load(small_build / name) as session:
        outputs = session.run({"image": images(batch)})
    assert list(outputs) == ["logits"]
    assert (outputs["logits"].shape, outputs["logits"].dtype) == ((batch, 10), np.float32)


@engines
def test_several_threads_may_use_one_session(small_build: Path, name: str) -> None:
    pictures = [images(1 + number % 3) for number in range(24)]
    with load(small_build / name) as session, ThreadPoolExecutor(4) as threads:
        alone = [session.run({"image": picture})["logits"] for picture in pictures]
        at_once = list(threads.map(lambda picture: session.run({"image": picture}), pictures))
    for first, second in zip(alone, at_once, strict=True):
        np.testing.assert_allclose(second["logits"], first, rtol=1e-4, atol=1e-5)


class InPlace(torch.nn.Module):
    """Writes to its input, and returns it twice."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x *= 2
        return x, x


def test_a_session_shares_no_memory_with_its_caller() -> None:
    spec = TensorSpec(shape=(2, 3))
    session = TorchSession(InPlace(), {"x": spec}, {"y": spec, "z": spec}, {}, "cpu")
    given = np.ones((2, 3), np.float32)
    first = session.run({"x": given})
    assert (given == 1).all()
    assert not np.shares_memory(first["y"], first["z"])
    first["y"][:] = 0
    assert (session.run({"x": given})["z"] == 2).all()


@engines
def test_the_answers_are_eagers(small_build: Path, small_reference: Reference, name: str) -> None:
    with load(small_build / name) as session:
        for probe, eager in zip(small_reference.probes, small_reference.eager, strict=True):
            if probe.kind == "nan":
                continue  # a maximum may or may not pass a NaN on
            np.testing.assert_allclose(
                session.run(probe.inputs)["logits"], eager["logits"], rtol=1e-4, atol=1e-5
            )


@engines
def test_a_sample_has_the_same_answer_alone_and_in_a_batch(small_build: Path, name: str) -> None:
    batch = images(8)
    with load(small_build / name) as session:
        alone = [session.run({"image": batch[i : i + 1]})["logits"][0] for i in range(8)]
        np.testing.assert_allclose(
            session.run({"image": batch})["logits"], alone, rtol=1e-4, atol=1e-5
        )


@engines
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "missing 'image'; expected image: float32[batch, 3, 32, 32]"),
        (
            {"picture": images(1), "image": images(1)},
            "unknown name 'picture'; expected image: float32",
        ),
        (
            {"image": images(1).astype(np.float64)},
            "'image' has dtype float64; expected float32[batch, 3, 32, 32]",
        ),
        ({"image": images(1)[0]}, "'image' has 3 dimensions (shape [3, 32, 32]); expected float32"),
        (
            {"image": images(1)[:, :1]},
            "'image' has shape [1, 1, 32, 32]: axis 1 is 1, not 3; expected float32",
        ),
        (
            {"image": images(9)},
            "'image' has batch=9, outside 1..8; expected float32[batch, 3, 32, 32]",
        ),
        (
            {"image": images(1)[:0]},
            "'image' has batch=0, outside 1..8; expected float32[batch, 3, 32, 32]",
        ),
        ({"image": images(1).tolist()}, "'image' is a list, not a NumPy array; expected float32"),
    ],
)
def test_wrong_inputs_are_refused_with_what_was_expected(
    small_build: Path, name: str, inputs: dict[str, np.ndarray], message: str
) -> None:
    with load(small_build / name) as session, pytest.raises(InputError) as error:
        session.run(inputs)
    assert str(error.value).startswith(message)


@engines
def test_views_with_strange_strides_run(small_build: Path, name: str) -> None:
    batch = images(4)
    flipped = batch[::-1, :, :, ::-1]
    with load(small_build / name) as session:
        expected = session.run({"image": np.ascontiguousarray(flipped)})["logits"]
        np.testing.assert_array_equal(session.run({"image": flipped})["logits"], expected)


@engines
def test_the_inputs_are_left_as_they_were(small_build: Path, name: str) -> None:
    inputs = images(2)
    before = inputs.copy()
    with load(small_build / name) as session:
        session.run({"image": inputs})
    np.testing.assert_array_equal(inputs, before)


@engines
def test_an_answer_survives_the_next_run(small_build: Path, name: str) -> None:
    with load(small_build / name) as session:
        first = session.run({"image": images(2)})["logits"]
        before = first.copy()
        session.run({"image": images(2) * 5})
    np.testing.assert_array_equal(first, before)


@engines
def test_one_thread_computes_the_same(
    small_build: Path, small_reference: Reference, name: str
) -> None:
    with load(small_build / name, options=SessionOptions(threads=1)) as session:
        logits = session.run(small_reference.probes[0].inputs)["logits"]
    np.testing.assert_allclose(logits, small_reference.eager[0]["logits"], rtol=1e-4, atol=1e-5)


def test_an_unknown_device_is_named_with_the_nearest(small_build: Path) -> None:
    with pytest.raises(UsageError, match="unknown device 'cdua'; did you mean 'cuda'"):
        load(small_build / "onnx", "cdua")


def test_a_device_that_the_artifact_was_not_made_for_is_refused(
    linear: Callable[..., Artifact],
) -> None:
    with pytest.raises(UsageError, match=r"is-correct \(linear\) runs on cpu, not on cuda"):
        load(linear().path, "cuda")


@pytest.mark.skipif(bool(gpus()), reason="this machine has a GPU")
@pytest.mark.parametrize("name", ["torchscript", "onnx"])
def test_cuda_without_a_gpu_is_unavailable(small_build: Path, name: str) -> None:
    with pytest.raises(Unavailable, match=f"{name} cannot run on cuda here: no NVIDIA GPU"):
        load(small_build / name, "cuda")


def test_what_the_runtime_misses_is_said(linear: Callable[..., Artifact]) -> None:
    artifact = linear(
        build={"behaviour": "is correct", "missing": "the linear accelerator is unplugged"}
    )
    with pytest.raises(
        Unavailable, match="cannot run on cpu here: the linear accelerator is unplugged"
    ):
        check_device(artifact, "cpu")


def test_an_unknown_runtime_is_named_with_what_there_is(artifact_copy: Copy) -> None:
    artifact = artifact_copy("onnx")
    path = artifact.path / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"runtime": "onyx"}))
    with pytest.raises(UsageError, match="unknown runtime 'onyx'; did you mean 'onnx'"):
        load(artifact.path)


def test_a_runtime_of_another_package_is_found_and_loaded(linear: Callable[..., Artifact]) -> None:
    with load(linear().path) as session:
        assert session.run({"x": np.ones((2, 4), np.float32)})["logits"].shape == (2, 3)


def test_the_runtime_is_the_manifests(small_build: Path) -> None:
    from runtimes.engines.onnx.onnx import OnnxRuntime

    assert isinstance(runtime_of(Artifact.open(small_build / "onnx")), OnnxRuntime)


def test_a_runtime_of_another_package_counts_as_one_of_programs(
    linear: Callable[..., Artifact],
) -> None:
    artifact = linear()
    load(artifact.path).close()
    path = artifact.path / MANIFEST
    path.write_text(
        path.read_text(encoding="utf-8") + "\n", encoding="utf-8"
    )  # no longer what was built here
    with pytest.raises(Untrusted, match=r"is-correct \(linear\) is a program"):
        load(artifact.path)
    load(artifact.path, options=SessionOptions(trust=True)).close()
