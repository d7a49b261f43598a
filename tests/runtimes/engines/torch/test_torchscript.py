"""TorchScript artifacts and the eager model in torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="torch runs these artifacts: pip install 'burnish[convert]'"
)

from runtimes.artifact.artifact import Artifact, publish  # noqa: E402 - only where there is torch
from runtimes.engines.torch.eager import eager_session  # noqa: E402
from runtimes.engines.torch.outputs import flatten  # noqa: E402
from runtimes.errors import ArtifactError, BurnishError  # noqa: E402
from runtimes.session import SessionOptions, load  # noqa: E402
from runtimes.spec import TensorSpec  # noqa: E402
from runtimes.validator.reference import Reference  # noqa: E402
from runtimes.validator.validate import Target, validate  # noqa: E402

VECTOR = TensorSpec(shape=(3,))


class TwoInputs(torch.nn.Module):
    def forward(self, left: Any, right: Any) -> Any:
        return {"difference": left - right, "more": [left + right]}


def vectors(**values: float) -> dict[str, np.ndarray]:
    return {name: np.full(3, value, np.float32) for name, value in values.items()}


@pytest.mark.parametrize("content", [b"", b"not a module", b"PK\x03\x04" + bytes(100)])
def test_a_file_that_is_no_module_is_told_in_the_engines_words(
    artifact_copy: Callable[[str], Artifact],
    broken_before: Callable[[Artifact, bytes], Artifact],
    content: bytes,
) -> None:
    broken = broken_before(artifact_copy("torchscript"), content)
    with pytest.raises(ArtifactError, match=r"torch cannot load model\.pt: "):
        load(broken.path)


def test_loading_optimizes_but_for_an_artifact_that_does_not_want_it(
    artifact_copy: Callable[[str], Artifact], tmp_path: Path, small_reference: Reference
) -> None:
    artifact = artifact_copy("torchscript")
    (artifact.path / "manifest.json").unlink()
    build = {**artifact.manifest.build, "optimize_for_inference": False}
    plain = publish(
        artifact.path, tmp_path / "plain", artifact.manifest.model_copy(update={"build": build})
    )
    with load(plain.path) as session:
        logits = session.run(small_reference.probes[0].inputs)["logits"]
    np.testing.assert_allclose(logits, small_reference.eager[0]["logits"], rtol=1e-4, atol=1e-5)


def test_inputs_go_by_name_or_in_order() -> None:
    inputs, outputs = {"right": VECTOR, "left": VECTOR}, {"difference": VECTOR, "sum": VECTOR}
    arrays = vectors(left=5, right=1)
    by_name = eager_session(TwoInputs(), inputs, outputs, {}, by_keyword=True)
    in_order = eager_session(TwoInputs(), inputs, outputs, {}, by_keyword=False)
    assert by_name.run(arrays)["difference"].tolist() == [4, 4, 4]
    assert in_order.run(arrays)["difference"].tolist() == [-4, -4, -4]
    assert by_name.run(arrays)["sum"].tolist() == [6, 6, 6]


def test_a_model_with_more_outputs_than_names_is_an_error() -> None:
    session = eager_session(TwoInputs(), {"left": VECTOR, "right": VECTOR}, {"only": VECTOR}, {})
    with pytest.raises(BurnishError, match=r"returned 2 tensors, but 1 were expected \(only\)"):
        session.run(vectors(left=1, right=1))


def test_an_eager_session_is_in_eval_mode() -> None:
    session = eager_session(torch.nn.Dropout(0.5).train(), {"x": VECTOR}, {"y": VECTOR}, {})
    assert session.run(vectors(x=1))["y"].tolist() == [1, 1, 1]


def test_threads_are_set_for_the_process() -> None:
    before = torch.get_num_threads()
    try:
        eager_session(torch.nn.Identity(), {}, {}, {}, options=SessionOptions(threads=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_nested_results_are_flattened_in_order() -> None:
    a, b, c, d = (torch.tensor(number) for number in range(4))
    assert flatten({"x": (a, [b, None]), "y": {"z": c}}) == [a, b, c]
    assert flatten(d) == [d]


def test_a_result_without_tensors_is_refused() -> None:
    with pytest.raises(
        BurnishError, match="the model returns a str in 0; only tensors can be exported"
    ):
        flatten(["text"])


@pytest.mark.gpu
def test_torchscript_on_a_gpu_passes_every_gate(gpu_build: Path) -> None:
    target = Target(Artifact.open(gpu_build / "torchscript"), "cuda")
    row = validate(
        [target], Reference.load(gpu_build / "reference.safetensors"), lambda device: None, budget=0
    )[0]
    assert (row.status, row.reason) == ("passed", None)


@pytest.mark.gpu
def test_torchscript_on_a_gpu_takes_and_gives_numpy(
    gpu_build: Path, small_reference: Reference
) -> None:
    with load(gpu_build / "torchscript", "cuda") as session:
        for probe, eager in zip(small_reference.probes, small_reference.eager, strict=True):
            np.testing.assert_allclose(
                session.run(probe.inputs)["logits"], eager["logits"], rtol=1e-4, atol=1e-5
            )


@pytest.mark.gpu
def test_torch_tensorrt_exports_and_passes_every_gate(gpu_build: Path) -> None:
    pytest.importorskip(
        "torch_tensorrt", reason="torch-tensorrt is not installed: pip install 'burnish[tensorrt]'"
    )
    target = Target(Artifact.open(gpu_build / "torch-tensorrt"), "cuda")
    row = validate(
        [target], Reference.load(gpu_build / "reference.safetensors"), lambda device: None, budget=0
    )[0]
    assert (row.status, row.reason) == ("passed", None)
