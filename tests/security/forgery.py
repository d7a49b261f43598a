"""What the attacks are made of."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

from runtimes.artifact.artifact import MANIFEST
from runtimes.files.layout import REFERENCE_FILE
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x1b[31m\u202egnp\u2066\r\n[red]forged[/red]"
"""What would rename a terminal, clear it, turn its writing direction, add a line, and colour it through rich."""


class Payload:
    """A pickle that writes a file when it is loaded without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


def check_clean(shown: str) -> None:
    """Nothing that a terminal obeys; and what a name brings in starts no line of its own."""
    assert not [one for one in shown if not one.isprintable() and one != "\n"], repr(shown)
    assert not [line for line in shown.splitlines() if line.startswith("[red]forged")], shown


def graph(**changes: Any) -> ModelProto:
    """The smallest model that runs: y = x + w. Keywords replace parts: nodes, initializers, functions, opsets."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    nodes = changes.get("nodes", [helper.make_node("Add", ["x", "w"], ["y"])])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0])
    body = helper.make_graph(
        nodes, "g", values[:1], values[1:], changes.get("initializers", [weight])
    )
    opsets = [helper.make_opsetid("", 20), *changes.get("opsets", [])]
    made = helper.make_model(
        body, opset_imports=opsets, functions=changes.get("functions", []), ir_version=10
    )
    assert isinstance(made, ModelProto)
    return made


def manifest(runtime: str, files: dict[str, bytes], entry: str) -> dict[str, Any]:
    """The least that a manifest says of files that take `x` and give `y`; its digests are right."""
    listed = {
        name: {"sha256": sha256(content).hexdigest(), "size": len(content)}
        for name, content in files.items()
    }
    return {
        "burnish": "1.0",
        "name": "foreign",
        "format": runtime,
        "runtime": runtime,
        "entry": entry,
        "devices": ["cpu"],
        "model": "torchvision:resnet18",
        "files": listed,
        "inputs": {"x": {"shape": [1, 4]}},
        "outputs": {"y": {"shape": [1, 4]}},
    }


def write_artifact(folder: Path, files: dict[str, bytes], text: str) -> Path:
    """Write files and a manifest into a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return folder


IR = """<?xml version="1.0"?>{doctype}
<net name="n" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="1,4" element_type="f32"/>
<output><port id="0" precision="FP32" names="x"><dim>1</dim><dim>4</dim></port></output></layer>
<layer id="1" name="w" type="Const" version="opset1">
<data element_type="f32" shape="1,4" offset="{offset}" size="{size}"/>
<output><port id="0" precision="FP32"><dim>1</dim><dim>4</dim></port></output></layer>
<layer id="2" name="y" type="{type}" version="{version}"><data auto_broadcast="numpy"/>
<input><port id="0" precision="FP32"><dim>1</dim><dim>4</dim></port>
<port id="1" precision="FP32"><dim>1</dim><dim>4</dim></port></input>
<output><port id="2" precision="FP32" names="y"><dim>1</dim><dim>4</dim></port></output></layer>
<layer id="3" name="r" type="Result" version="opset1">
<input><port id="0" precision="FP32"><dim>1</dim><dim>4</dim></port></input></layer>
</layers><edges><edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
<edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
<edge from-layer="2" from-port="2" to-layer="3" to-port="0"/></edges></net>
"""
"""An OpenVINO IR of y = x + w, with places for what is wrong."""


def ir(**changes: Any) -> str:
    """The IR; keywords replace what is in its places."""
    return IR.format(
        **{"doctype": "", "offset": 0, "size": 16, "type": "Add", "version": "opset1", **changes}
    )


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest as a text, past every check."""
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    change(manifest)
    (path / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def build_of(folder: Path, path: str) -> Path:
    """A build that says that its artifact lies at `path`."""
    row = {"name": "a", "format": "onnx", "device": "cpu", "status": "passed", "path": path}
    build = {"recipe": {}, "model": "m", "weights": {}, "machine": {}, "artifacts": [row]}
    (folder / "build.json").write_text(json.dumps(build), encoding="utf-8")
    return folder


VERBS: list[tuple[str, ...]] = [
    ("run", "{path}", "x.npy"),
    ("bench", "{path}", "--seconds", "0.1"),
    ("validate", "{path}", "--no-speed"),
    ("inspect", "{path}"),
    ("debug", "{path}"),
]


def arguments(verb: tuple[str, ...], path: Path) -> list[str]:
    """A verb on an artifact, with an input and a reference beside it."""
    np.save(path.parent / "x.npy", np.zeros((1, 4), np.float32))
    probe = Probe("zero", {"x": np.zeros((1, 4), np.float32)})
    Reference([probe], [{"y": np.zeros((1, 4), np.float32)}], [{"y": np.zeros((1, 4))}]).save(
        path.parent / REFERENCE_FILE
    )
    return [one.format(path=path).replace("x.npy", str(path.parent / "x.npy")) for one in verb]
