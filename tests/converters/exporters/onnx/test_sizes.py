"""Arithmetic of sizes in ONNX graphs: as Python's, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from converters.exporters.job import ExportJob
from converters.exporters.onnx.onnx import OnnxExporter, OnnxOptions
from converters.exporters.onnx.sizes import InexactSizes
from runtimes.artifact.artifact import Artifact
from runtimes.engines.onnx.onnx import OnnxRuntime
from runtimes.session import Session, SessionOptions

MakeJob = Callable[..., ExportJob]


class Kept(nn.Module):
    """Keeps a share of the rows, as token pruning does."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, : int(self.share * x.shape[1])].sum(1)


class Smaller(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=0.29)


class Blocks(nn.Module):
    """Pads to blocks of eight, which it counts by rounding up."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        blocks = -(-x.shape[1] // 8)
        return F.pad(x, (0, 8 * blocks - x.shape[1])).view(x.shape[0], blocks, 8).amax(2)


def test_a_size_that_float32_rounds_otherwise_is_refused_with_its_line(make_job: MakeJob) -> None:
    job = make_job(Kept(0.29), {"x": ["batch", "n", 3]}, {"batch": (1, 4), "n": (16, 128, 32)})
    words = (
        r"at n=100 the graph computes the size 29, the model 28 \(test_sizes\.py, line \d+: "
        r"`return x\[:, : int\(self.share \* x.shape\[1\]\)\].sum\(1\)`\): ONNX .* float32"
    )
    with pytest.raises(InexactSizes, match=words):
        OnnxExporter().export(job, OnnxOptions(format="onnx"))


def test_a_scaled_picture_too_and_no_trace_takes_over(make_job: MakeJob) -> None:
    dims = {"batch": (1, 4), "length": (16, 128, 32)}
    job = make_job(Smaller(), {"x": ["batch", 3, "length"]}, dims)
    with pytest.raises(InexactSizes, match=r"at length=100 .* 29, the model 28"):
        OnnxExporter().export(job, OnnxOptions(format="onnx"))


@pytest.mark.parametrize(
    ("module", "shape", "largest"),
    [
        (Kept(0.5), ["batch", "n", 3], 128),
        (Kept(0.29), ["batch", "n", 3], 99),
        (Smaller(), ["batch", 3, "n"], 99),
        (Blocks(), ["batch", "n"], 40),
    ],
)
def test_other_sizes_are_the_models_at_each_size(
    module: nn.Module, shape: list[Any], largest: int, make_job: MakeJob
) -> None:
    job = make_job(module, {"x": shape}, {"batch": (1, 4), "n": (8, largest, 16)})
    exported = OnnxExporter().export(job, OnnxOptions(format="onnx"))
    assert exported.build["exporter"] == "dynamo"
    rng = np.random.default_rng(0)
    with _session(job, exported.entry) as session:
        for size in range(8, largest + 1):
            sizes = [{"batch": 2, "n": size}.get(axis, axis) for axis in shape]
            x = rng.standard_normal(sizes, np.float32)
            [answer] = session.run({"x": x}).values()
            expected = module(torch.from_numpy(x)).numpy()
            np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5, err_msg=str(size))


def _session(job: ExportJob, entry: str) -> Session:
    from tests.runtimes.validator.gates.manifests import manifest_of

    facts = job.facts
    manifest = manifest_of(facts.inputs, facts.outputs, dims=facts.dims)
    artifact = Artifact(job.folder, manifest.model_copy(update={"entry": entry}))
    return OnnxRuntime().open(artifact, "cpu", SessionOptions())
