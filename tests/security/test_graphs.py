"""Foreign ONNX graphs and IRs: what leaves the artifact, needs a library or bursts is refused unparsed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from runtimes.process.process import isolated
from runtimes.session import load
from tests.security.forgery import ESCAPES, graph, ir

Foreign = Callable[..., Path]
Refused = Callable[..., str]


def outside_tensor(**entries: str) -> TensorProto:
    """A tensor `w` of four floats whose values lie in another file."""
    tensor = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL
    )
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def onnx_artifact(
    foreign: Foreign, model: ModelProto | bytes, files: dict[str, bytes] | None = None
) -> Path:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return foreign("onnx", {"model.onnx": content, **(files or {})}, "model.onnx")


def test_an_honest_foreign_graph_runs(foreign: Foreign) -> None:
    weights = np.array([1, 2, 3, 4], np.float32).tobytes()
    tensor = outside_tensor(location="w.bin", offset="0", length="16")
    path = onnx_artifact(foreign, graph(initializers=[tensor]), {"w.bin": weights})
    with load(path) as session:
        assert session.run({"x": np.zeros((1, 4), np.float32)})["y"].tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("../secret.bin", "outside the artifact"),
        ("weights/../../secret.bin", "outside the artifact"),
        ("{secret}", "outside the artifact"),
        ("..\\secret.bin", "outside the artifact"),
        ("C:\\secret.bin", "outside the artifact"),
        ("manifest.json", "its manifest does not list"),
        ("nowhere.bin", "its manifest does not list"),
        ("", "its manifest does not list"),
        ("*/_ORT_MEM_ADDR_/*", "at an address in memory"),
        (ESCAPES, "outside the artifact|does not list"),
    ],
)
@pytest.mark.parametrize("place", ["initializer", "constant", "subgraph", "function", "sparse"])
def test_external_data_stays_in_the_artifact(
    foreign: Foreign, refused: Refused, tmp_path: Path, location: str, words: str, place: str
) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(64))
    tensor = outside_tensor(location=location.format(secret=secret), offset="0", length="16")
    told = refused(load, onnx_artifact(foreign, hidden(tensor, place)))
    assert any(one in told for one in words.split("|"))
    assert "Burnish writes no such file" in told


def hidden(tensor: TensorProto, place: str) -> ModelProto:
    """A model with the tensor at one of the places that ONNX has for tensors."""
    if place == "initializer":
        return graph(initializers=[tensor])
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    if place == "constant":
        return graph(nodes=[constant, helper.make_node("Add", ["x", "w"], ["y"])], initializers=[])
    if place == "subgraph":
        return graph(nodes=[branches(constant)])
    if place == "function":
        add = helper.make_node("Add", ["a", "w"], ["b"])
        own = helper.make_function(
            "own", "Own", ["a"], ["b"], [constant, add], [helper.make_opsetid("", 20)]
        )
        return graph(nodes=[helper.make_node("Own", ["x"], ["y"], domain="own")], functions=[own],
                     opsets=[helper.make_opsetid("own", 1)])  # fmt: skip
    model = graph()
    model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    return model


def branches(*nodes: NodeProto) -> NodeProto:
    """An If whose branches hold these nodes."""
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, [1, 4])
    body = helper.make_graph([*nodes, helper.make_node("Identity", ["x"], ["o"])], "b", [], [out])
    return helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        ("0", "4096"),
        ("4096", "16"),
        ("99999999999999999999999", "16"),
        ("-16", "16"),
        ("0", "x"),
        ("0", "²"),
        ("9", "8"),
    ],
)
def test_external_data_stays_in_its_file(
    foreign: Foreign, refused: Refused, offset: str, length: str
) -> None:
    tensor = outside_tensor(location="w.bin", offset=offset, length=length)
    path = onnx_artifact(foreign, graph(initializers=[tensor]), {"w.bin": bytes(16)})
    assert "a tensor's values lie" in refused(load, path)


def test_external_data_is_described_by_what_is_known(foreign: Foreign, refused: Refused) -> None:
    tensor = outside_tensor(location="w.bin", prepacked_0="w|0;99999")
    told = refused(load, onnx_artifact(foreign, graph(initializers=[tensor]), {"w.bin": bytes(16)}))
    assert "described by 'prepacked_0'" in told


def test_a_link_to_a_file_outside_is_refused(
    foreign: Foreign, refused: Refused, tmp_path: Path
) -> None:
    tensor = outside_tensor(location="w.bin", offset="0", length="16")
    path = onnx_artifact(foreign, graph(initializers=[tensor]), {"w.bin": bytes(16)})
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    (path / "w.bin").unlink()
    (path / "w.bin").symlink_to(tmp_path / "secret.bin")
    assert "w.bin was changed" in refused(load, path)


@pytest.mark.parametrize(
    "domain", ["acme", "com.microsoft.pyop", "org.pytorch.aten", "ai.onnx.contrib", ESCAPES]
)
def test_no_library_of_operators_is_loaded(
    foreign: Foreign, refused: Refused, monkeypatch: pytest.MonkeyPatch, domain: str
) -> None:
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda *given: pytest.fail("ONNX Runtime saw the file")
    )
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain=domain)
    told = refused(
        load, onnx_artifact(foreign, graph(nodes=[node], opsets=[helper.make_opsetid(domain, 1)]))
    )
    assert "a library of custom operators" in told
    assert "::Frobnicate" in told


def test_an_operator_that_opens_files_is_refused(foreign: Foreign, refused: Refused) -> None:
    node = helper.make_node(
        "EPContext",
        ["x"],
        ["y"],
        domain="com.microsoft",
        ep_cache_context="../secret",
        embed_mode=0,
    )
    path = onnx_artifact(
        foreign, graph(nodes=[node], opsets=[helper.make_opsetid("com.microsoft", 1)])
    )
    assert "EPContext opens other files" in refused(load, path)


def test_a_model_is_read_by_no_other_parser_than_onnx(foreign: Foreign, refused: Refused) -> None:
    content = graph().SerializeToString()
    for name in ("model.ort", "model", "model.onnx.ort", "model.pb"):
        assert "opens a .onnx file" in refused(load, foreign("onnx", {name: content}, name))


def doublings(depth: int) -> ModelProto:
    """Functions that call the next one twice each: two to the power of `depth` nodes from a few kilobytes."""
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    functions = []
    for level in range(depth):
        inner = (
            {"op_type": f"F{level + 1}", "domain": "own"}
            if level + 1 < depth
            else {"op_type": "Abs"}
        )
        nodes = [helper.make_node(inputs=["a"], outputs=["m"], **inner),
                 helper.make_node(inputs=["m"], outputs=["b"], **inner)]  # fmt: skip
        functions.append(helper.make_function("own", f"F{level}", ["a"], ["b"], nodes, opsets))
    return graph(
        nodes=[helper.make_node("F0", ["x"], ["y"], domain="own")],
        functions=functions,
        opsets=opsets[1:],
    )


@pytest.mark.parametrize(
    ("depth", "words"), [(25, "more than 1000000 nodes"), (100, "nest more than 32 levels")]
)
def test_functions_that_double_are_no_bomb(
    foreign: Foreign, refused: Refused, depth: int, words: str
) -> None:
    assert words in refused(load, onnx_artifact(foreign, doublings(depth)))


def test_a_function_that_calls_itself_is_refused(foreign: Foreign, refused: Refused) -> None:
    opsets = [helper.make_opsetid("own", 1)]
    call = helper.make_node("F", ["a"], ["b"], domain="own")
    functions = [helper.make_function("own", "F", ["a"], ["b"], [call], opsets)]
    model = graph(
        nodes=[helper.make_node("F", ["x"], ["y"], domain="own")],
        functions=functions,
        opsets=opsets,
    )
    assert "the function 'F' calls itself" in refused(load, onnx_artifact(foreign, model))


def test_graphs_in_graphs_have_a_bound(foreign: Foreign, refused: Refused) -> None:
    content = b""
    for _ in range(
        40
    ):  # a graph (6) of an attribute (5) of a node (1): onnx itself writes no so many
        for field in (6, 5, 1):
            content = bytes([field << 3 | 2]) + varint(len(content)) + content
    assert "nested more than 32 levels" in refused(
        load, onnx_artifact(foreign, b"\x3a" + varint(len(content)) + content)
    )


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


@pytest.mark.parametrize(
    "content", [b"\x3b\x3c", b"\xff" * 64, b"\x3a\xff\xff\xff\xff\x0f", b"\x3a\x05ab", b"\x00\x00"]
)
def test_bytes_that_are_no_message_are_refused(
    foreign: Foreign, refused: Refused, content: bytes
) -> None:
    assert "is damaged or no ONNX graph" in refused(load, onnx_artifact(foreign, content))


def _error_of(path: Path) -> str:
    """The error of opening an artifact, and what its engine wrote to stderr."""
    from runtimes.errors import ArtifactError

    reader, writer = os.pipe()
    before = os.dup(2)
    os.dup2(writer, 2)
    try:
        load(path)
        return "opened"
    except ArtifactError as error:
        return f"{error}"
    finally:
        os.dup2(before, 2)
        os.close(writer)
        with os.fdopen(reader, "rb") as written:
            assert written.read() == b"", "ONNX Runtime wrote to the terminal"


def test_names_in_a_graph_reach_no_terminal_through_the_engine(foreign: Foreign) -> None:
    nodes = [helper.make_node("Add", ["x", "x", "x"], ["y"], name=ESCAPES)]
    told = isolated(
        _error_of,
        onnx_artifact(foreign, graph(nodes=nodes)),
        what="the test",
        torch=False,
        timeout=60,
    )
    assert "ONNX Runtime cannot load model.onnx" in told


def ir_artifact(
    foreign: Foreign, entry: str = "model.xml", text: str | None = None, **changes: object
) -> Path:
    pytest.importorskip(
        "openvino", reason="openvino runs these artifacts: pip install 'burnish[openvino]'"
    )
    weights = np.array([1, 2, 3, 4], np.float32).tobytes()
    content = (text or ir(**changes)).encode()
    return foreign("openvino", {entry: content, "model.bin": weights}, entry)


@pytest.mark.parametrize("part", ["name", "op_type", "input", "output"])
def test_names_of_nodes_have_a_bound(foreign: Foreign, refused: Refused, part: str) -> None:
    node = helper.make_node("Add", ["x", "w"], ["y"])
    long = "n" * 10_000_000
    if part in ("input", "output"):
        getattr(node, part).append(long)
    else:
        setattr(node, part, long)
    message = refused(load, onnx_artifact(foreign, graph(nodes=[node])))
    assert "a name of 10,000,000 bytes" in message
    assert len(message) < 500


def test_an_honest_foreign_ir_runs(foreign: Foreign) -> None:
    with load(ir_artifact(foreign)) as session:
        assert session.run({"x": np.zeros((1, 4), np.float32)})["y"].tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"offset": 4096}, "a constant lies at 4096 for 16 bytes, of 16"),
        ({"size": 1 << 40}, "a constant lies at 0"),
        ({"offset": -16}, "a constant lies at -16"),
        ({"type": "Frobnicate", "version": "acme"}, "OpenVINO cannot load"),
        (
            {"doctype": '<!DOCTYPE n [<!ENTITY a SYSTEM "file:///etc/passwd">]>'},
            "declares a document type",
        ),
        ({"text": "<net>" * 100}, "too deeply nested"),
        ({"text": "<html/>"}, "is a <html>, not a <net>"),
        (
            {"text": f'<net name="{"n" * 10_000_000}"/>'},
            "a tag has more than 2,097,152 bytes",
        ),
        (
            {"text": ir().replace('name="w"', f'name="{"w" * 10_000_000}"')},
            "a tag has more than 2,097,152 bytes",
        ),
        ({"text": f"<{'a' * 10_000_000}/>"}, "a tag has more"),
        ({"text": f'<net {"a" * 10_000_000}="b"/>'}, "a tag has more"),
        ({"offset": "9" * 10_000_000}, "a tag has more"),
        ({"text": f'<net name="{"n" * 1_500_000}"/>'}, "has 1,500,000 letters"),
        ({"offset": "9" * 500_000}, "a constant lies at 9999"),
        ({"text": "no XML"}, "it is not XML"),
        ({"entry": "model.onnx"}, "opens a .xml file"),
        ({"entry": "model.pdmodel"}, "opens a .xml file"),
    ],
)
def test_an_ir_keeps_to_its_weights_and_its_format(
    foreign: Foreign, refused: Refused, changes: dict[str, Any], words: str
) -> None:
    message = refused(load, ir_artifact(foreign, **changes))
    assert words in message
    assert len(message) < 5000


def test_nothing_in_burnish_loads_a_library_of_operators() -> None:
    import burnish

    root = Path(burnish.__file__).parent.parent
    sources = [
        path
        for name in ("burnish", "converters", "runtimes")
        for path in (root / name).rglob("*.py")
    ]
    assert len(sources) > 100
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert "register_custom_ops" not in text, path
        assert "add_extension" not in text, path
        assert "torch.ops.load_library" not in text, path
