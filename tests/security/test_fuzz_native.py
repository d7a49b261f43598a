"""Broken files that native libraries parse: words for the user or success; no crash, no hang, no code run.

Opened in a child process, since a crash would end this one. A few examples, the same in every run; `make fuzz`
tries many new ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from converters.sources.weights import read_state
from runtimes.errors import BurnishError
from runtimes.process.process import Child, ChildDied
from runtimes.session import load
from tests.security.forgery import Payload, graph, ir, manifest, write_artifact
from tests.security.mutations import broken_bytes, budget

SECONDS = 60.0  # without an answer for so long, it hangs
Open = Callable[..., Any]


class Opener:
    """Lives in a child process, and opens what it is given there."""

    def weights(self, path: Path, trust: bool) -> int:
        """Read a checkpoint; the number of its tensors."""
        return len(read_state(path, trust))

    def artifact(self, path: Path) -> None:
        """Load an artifact and run it."""
        with load(path) as session:
            session.run({"x": np.zeros((1, 4), np.float32)})


def opener(torch: bool) -> Iterator[Open]:
    """A function that calls an `Opener` in a process: its errors are words, and its death fails the test."""
    made: list[Child] = []

    def call(method: str, *args: Any) -> Any:
        if not made:
            made.append(Child(Opener, what="the child", torch=torch))
        try:
            return made[0].call(method, *args, timeout=SECONDS)
        except ChildDied as error:
            made.clear()
            pytest.fail(str(error))
        except BurnishError as error:
            assert "Traceback" not in str(error)
            return str(error)

    yield call
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def with_torch() -> Iterator[Open]:
    """Opens in a process that has torch."""
    yield from opener(torch=True)


@pytest.fixture(scope="module")
def without_torch() -> Iterator[Open]:
    """Opens in a bare process."""
    yield from opener(torch=False)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A file of each kind that weights come in, some with a payload, and what the payload writes."""
    root, marker = (
        tmp_path_factory.mktemp("valid"),
        tmp_path_factory.mktemp("marker") / "the_attack_worked",
    )
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()
    (root / "net.safetensors").write_bytes(save(module.state_dict()))
    torch.save(module.state_dict(), root / "zip.pth")
    torch.save(module.state_dict(), root / "old.pth", _use_new_zipfile_serialization=False)
    evil = {"a": torch.ones(2), "b": Payload(marker)}
    torch.save(evil, root / "evil.pth")
    torch.save(evil, root / "old_evil.pth", _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.script(module), str(root / "net.pt"))
    torch.export.save(torch.export.export(module, (torch.zeros(2, 2),)), root / "net.pt2")
    return marker, {path.name: path.read_bytes() for path in sorted(root.iterdir())}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the files of all examples, one after the other."""
    return tmp_path_factory.mktemp("fuzz")


@budget(120)
@given(data=st.data())
def test_checkpoints(
    folder: Path, with_torch: Open, checkpoints: tuple[Path, dict[str, bytes]], data: st.DataObject
) -> None:
    marker, valid = checkpoints
    name = data.draw(st.sampled_from(sorted(valid)))
    (folder / name).write_bytes(data.draw(broken_bytes(valid[name])))
    with_torch("weights", folder / name, data.draw(st.booleans()))
    assert not marker.exists()


def artifact(folder: Path, runtime: str, files: dict[str, bytes], entry: str) -> Path:
    """The files as an artifact, whose manifest says what they are."""
    return write_artifact(folder, files, json.dumps(manifest(runtime, files, entry)))


@pytest.fixture(scope="module")
def onnx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ONNX artifacts."""
    return tmp_path_factory.mktemp("onnx")


@budget(100)
@given(content=broken_bytes(graph().SerializeToString()))
def test_onnx_files(onnx_folder: Path, without_torch: Open, content: bytes) -> None:
    without_torch("artifact", artifact(onnx_folder, "onnx", {"model.onnx": content}, "model.onnx"))


@pytest.fixture(scope="module")
def ir_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for OpenVINO artifacts."""
    pytest.importorskip(
        "openvino", reason="openvino runs these artifacts: pip install 'burnish[openvino]'"
    )
    return tmp_path_factory.mktemp("ir")


@budget(30)
@given(content=broken_bytes(ir().encode()))
def test_openvino_files(ir_folder: Path, without_torch: Open, content: bytes) -> None:
    files = {"model.xml": content, "model.bin": np.arange(4, dtype=np.float32).tobytes()}
    without_torch("artifact", artifact(ir_folder, "openvino", files, "model.xml"))
