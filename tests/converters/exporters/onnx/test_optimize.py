"""Graphs that ONNX Runtime optimized ahead of time: declarations, counts, repeatability."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from converters.exporters.job import ExportJob
from converters.exporters.onnx.counts import count_nodes
from converters.exporters.onnx.onnx import OnnxExporter, OnnxOptions
from converters.exporters.onnx.optimize import Level, optimize_graph
from converters.graph.names import module_path
from converters.models.facts import ModelFacts
from runtimes.spec import DimRange, TensorSpec

MakeJob = Callable[..., ExportJob]
LEVELS = get_args(Level)


class Net(nn.Module):
    """A convolution fused with its activation, a scaled product, and one that is neither."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 16, 3, padding=1), nn.ReLU6()
        self.left, self.right = nn.Linear(16, 8), nn.Linear(16, 8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        rows = self.act(self.conv(image)).flatten(2).transpose(1, 2)
        return (self.left(rows) @ self.right(rows).transpose(1, 2) * 0.125).softmax(-1)


class Foldable(nn.Module):
    """What the TorchScript exporter leaves to be folded: sizes computed from constants."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape[0], -1) + torch.ones(3).sum()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph as it was exported, for a batch of 1 to 4 pictures that are 6 to 12 high."""
    torch.manual_seed(0)
    facts = ModelFacts(
        inputs={"image": TensorSpec(shape=("batch", 3, "side", 8))},
        outputs={"scores": TensorSpec(shape=("batch", "rows", "rows"))},
        dims={"batch": DimRange(max=4), "side": DimRange(min=6, max=12)},
        by_keyword=False,
        parameters=0,
    )
    folder = tmp_path_factory.mktemp("plain")
    OnnxExporter().export(ExportJob(Net().eval(), facts, folder), OnnxOptions(format="onnx"))
    return folder / "model.onnx"


def run(path: Path, image: np.ndarray[Any, Any], level: str = "ENABLE_ALL") -> np.ndarray[Any, Any]:
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": image})[0])


def noise(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def domains(path: Path) -> set[str]:
    return {node.domain for node in onnx.load(str(path)).graph.node}


@pytest.mark.parametrize("level", LEVELS)
def test_the_same_function_with_the_same_ends(plain: Path, tmp_path: Path, level: Level) -> None:
    optimized = tmp_path / "made.onnx"
    optimize_graph(plain, optimized, level)
    before, after = onnx.load(str(plain)), onnx.load(str(optimized))
    onnx.checker.check_model(str(optimized), full_check=True)
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    assert (after.ir_version, after.producer_name) == (before.ir_version, before.producer_name)
    for shape in ((1, 3, 8, 8), (3, 3, 11, 8)):
        for loaded in ("ENABLE_ALL", "DISABLE_ALL"):
            np.testing.assert_allclose(
                run(optimized, noise(*shape), loaded), run(plain, noise(*shape)), atol=1e-6
            )


def test_each_level_uses_the_operators_that_it_says(plain: Path, tmp_path: Path) -> None:
    wanted = {
        "basic": {""},
        "extended": {"", "com.microsoft"},
        "all": {"", "com.microsoft", "com.microsoft.nchwc"},
    }
    for level in LEVELS:
        optimize_graph(plain, tmp_path / f"{level}.onnx", level)
        assert domains(tmp_path / f"{level}.onnx") == wanted[level]
        imported = {
            entry.domain for entry in onnx.load(str(tmp_path / f"{level}.onnx")).opset_import
        }
        assert imported == wanted[level], "no domain is imported that no node uses"


def test_the_report_says_what_has_gone_and_come(plain: Path, tmp_path: Path) -> None:
    assert optimize_graph(plain, tmp_path / "basic.onnx", "basic") == {}
    changes = optimize_graph(plain, tmp_path / "extended.onnx", "extended")
    assert changes["com.microsoft.FusedConv"] == "+1" and changes["Conv"] == changes["Clip"] == "-1"
    counted = Counter(
        node.op_type for node in onnx.load(str(tmp_path / "extended.onnx")).graph.node
    )
    assert counted["FusedConv"] == 1 and not counted["Clip"]


def test_what_the_torchscript_exporter_leaves_is_folded(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(Foldable(), {"image": ["batch", 2, 3]}, {"batch": (1, 4)})
    OnnxExporter().export(job, OnnxOptions(format="onnx", exporter="torchscript"))
    changes = optimize_graph(job.folder / "model.onnx", tmp_path / "made.onnx", "basic")
    assert changes and set(changes.values()) <= {f"-{count}" for count in range(1, 9)}, (
        "nodes only go"
    )
    assert domains(tmp_path / "made.onnx") == {""}


@pytest.mark.parametrize("level", LEVELS)
def test_every_computing_layer_is_still_counted(plain: Path, tmp_path: Path, level: Level) -> None:
    optimize_graph(plain, tmp_path / "made.onnx", level)
    before = count_nodes(plain).compute_layers
    assert before == {"fp32": 4}
    assert count_nodes(tmp_path / "made.onnx", fused=level != "basic").compute_layers == before


@pytest.mark.parametrize("level", LEVELS)
def test_nodes_that_are_as_they_were_keep_their_modules(
    plain: Path, tmp_path: Path, level: Level
) -> None:
    optimize_graph(plain, tmp_path / "made.onnx", level)

    def paths(path: Path) -> dict[tuple[str, str, str], str]:
        return {
            (node.output[0], node.domain, node.op_type): module_path(
                {entry.key: entry.value for entry in node.metadata_props}
            )
            for node in onnx.load(str(path)).graph.node
        }

    before, after = paths(plain), paths(tmp_path / "made.onnx")
    same = before.keys() & after.keys()
    assert len(same) >= 4 and {key: before[key] for key in same} == {
        key: after[key] for key in same
    }
    assert {"left", "right"} <= {after[key] for key in same}
    assert all(not after[key] for key in after.keys() - same), "what was fused has no single origin"


@pytest.mark.parametrize("level", LEVELS)
def test_the_same_graph_gives_the_same_file(plain: Path, tmp_path: Path, level: Level) -> None:
    files = []
    for turn in ("one", "two"):
        (tmp_path / turn).mkdir()
        optimize_graph(plain, tmp_path / turn / "model.onnx", level)
        files.append((tmp_path / turn / "model.onnx").read_bytes())
    assert files[0] == files[1]
    assert not any(
        word.encode() in files[0] for word in (str(tmp_path), str(plain.parent), str(Path.home()))
    )


@pytest.mark.parametrize("level", LEVELS)
def test_weights_may_lie_beside_the_file(plain: Path, tmp_path: Path, level: Level) -> None:
    optimize_graph(plain, tmp_path / "inside.onnx", level)
    optimize_graph(plain, tmp_path / "model.onnx", level, external=True)
    sizes = {path.name: path.stat().st_size for path in tmp_path.glob("model.onnx*")}
    assert set(sizes) == {"model.onnx", "model.onnx.data"}
    assert sizes["model.onnx.data"] >= 16 * 3 * 9 * 4
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    x = noise(2, 3, 8, 8)
    assert np.array_equal(run(tmp_path / "model.onnx", x), run(tmp_path / "inside.onnx", x))
    again = tmp_path / "again.onnx"
    optimize_graph(tmp_path / "model.onnx", again, level)  # from weights beside the file
    np.testing.assert_allclose(run(again, x), run(plain, x), atol=1e-6)


class Condition(nn.Module):
    """An ONNX If with a graph in each branch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,))


@pytest.mark.parametrize("level", LEVELS)
def test_control_flow_stays(make_job: MakeJob, tmp_path: Path, level: Level) -> None:
    job = make_job(Condition(), {"image": ["batch", 3]}, {"batch": (1, 4)})
    OnnxExporter().export(job, OnnxOptions(format="onnx"))
    optimize_graph(job.folder / "model.onnx", tmp_path / "made.onnx", level)
    for sign in (1, -1):
        x = sign * np.ones((2, 3), np.float32)
        np.testing.assert_allclose(
            run(tmp_path / "made.onnx", x), np.sin(x) if sign > 0 else np.cos(x), atol=1e-6
        )
