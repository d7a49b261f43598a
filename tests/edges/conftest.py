"""One network in every format whose artifacts can be written in a moment."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from tests.security.forgery import manifest, write_artifact

FORMATS = ("torchscript", "torch-export", "onnx", "openvino")
WIDTH, ROWS = 256, 64


class Dense(nn.Module):
    """Products that are large enough for several threads."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH, bias=False)
        self.second = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


def samples(seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """An input of the network."""
    return np.random.default_rng(seed).standard_normal((ROWS, WIDTH)).astype(np.float32)


def write(folder: Path, runtime: str, entry: str, **changes: Any) -> Path:
    """Write the manifest of files in `folder`, which take and give `samples`."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    spec = {"shape": [ROWS, WIDTH]}
    facts = {
        **manifest(runtime, files, entry),
        "inputs": {"x": spec},
        "outputs": {"y": spec},
        **changes,
    }
    return write_artifact(folder, files, json.dumps(facts))


def save_torchscript(module: nn.Module, folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    torch.jit.save(torch.jit.script(module.eval()), str(folder / "model.pt"))
    return write(folder, "torchscript", "model.pt", **changes)


def save_exported(module: nn.Module, folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    program = torch.export.export(module.eval(), (torch.from_numpy(samples()),))
    torch.export.save(program, folder / "model.pt2")
    return write(folder, "torch-export", "model.pt2", **changes)


def save_onnx(nodes: list[Any], folder: Path, **changes: Any) -> Path:
    """Write a graph of `nodes` from x to y, which may use the network's weights."""
    folder.mkdir()
    shape = [ROWS, WIDTH]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    weights = [numpy_helper.from_array(array, name) for name, array in weight_arrays().items()]
    body = helper.make_graph(nodes, "g", values[:1], values[1:], weights)
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(body, opset_imports=opsets, ir_version=10)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return write(folder, "onnx", "model.onnx", **changes)


@cache
def network() -> Dense:
    """The network, always of the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Dense().eval()


@cache
def weight_arrays() -> dict[str, np.ndarray[Any, Any]]:
    state = network().state_dict()
    return {name.partition(".")[0]: tensor.numpy().T for name, tensor in state.items()}


def dense_nodes() -> list[Any]:
    return [
        helper.make_node("MatMul", ["x", "first"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "second"], ["y"]),
    ]


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The network's artifact by format; those of PyTorch need trust."""
    folder = tmp_path_factory.mktemp("formats")
    paths = {
        "torchscript": save_torchscript(network(), folder / "torchscript"),
        "torch-export": save_exported(network(), folder / "torch-export"),
        "onnx": save_onnx(dense_nodes(), folder / "onnx"),
    }
    openvino = pytest.importorskip("openvino", reason="one of the formats is OpenVINO's")
    (folder / "openvino").mkdir()
    model = openvino.Core().read_model(paths["onnx"] / "model.onnx")
    openvino.save_model(model, folder / "openvino" / "model.xml", compress_to_fp16=False)
    paths["openvino"] = write(folder / "openvino", "openvino", "model.xml")
    return paths
