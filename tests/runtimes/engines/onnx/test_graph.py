"""The reader of ONNX files finds what the onnx package finds, wherever ONNX has a place for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

import onnx
import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    StringStringEntryProto,
    TensorProto,
    TrainingInfoProto,
)

from runtimes.engines.onnx import graph as _onnx_graph
from runtimes.engines.onnx.graph import PARTS, Contents, read
from runtimes.engines.onnx.protobuf import Malformed, fields

Entries = list[list[tuple[str, str]]]


def message_fields(descriptor: Any) -> dict[int, Any]:
    types = {}
    for field in descriptor.fields:
        if field.message_type is not None:
            types[field.number] = field.message_type
    return types


def reaches(descriptor: Any, wanted: set[str], visited: frozenset[str] = frozenset()) -> bool:
    """Return whether a message may hold one of the wanted messages, or is one."""
    if descriptor.name in wanted:
        return True
    for inner in message_fields(descriptor).values():
        if inner.name not in visited and reaches(inner, wanted, visited | {descriptor.name}):
            return True
    return False


def test_every_way_to_a_tensor_or_a_node_is_known() -> None:
    wanted, parts, left = {"TensorProto", "NodeProto"}, {}, [ModelProto.DESCRIPTOR]
    while left:
        message = left.pop()
        if message.name in parts:
            continue
        parts[message.name] = {}
        for number, kind in message_fields(message).items():
            if reaches(kind, wanted):
                parts[message.name][number] = kind.name
                left.append(kind)
    assert {name: fields for name, fields in parts.items() if fields} == PARTS


@pytest.mark.parametrize(
    ("kind", "field", "number"),
    [
        (NodeProto, "op_type", _onnx_graph._NODE_NAME),
        (NodeProto, "domain", _onnx_graph._NODE_DOMAIN),
        (FunctionProto, "name", _onnx_graph._FUNCTION_NAME),
        (FunctionProto, "domain", _onnx_graph._FUNCTION_DOMAIN),
        (TensorProto, "external_data", _onnx_graph._EXTERNAL_DATA),
        (StringStringEntryProto, "key", 1),
        (StringStringEntryProto, "value", 2),
    ],
)
def test_fields_have_the_numbers_of_the_package(kind: Any, field: str, number: int) -> None:
    assert kind.DESCRIPTOR.fields_by_name[field].number == number


words = st.text("ab./\\é", max_size=4)
external = st.lists(st.builds(StringStringEntryProto, key=words, value=words), max_size=2)
tensors = st.builds(
    TensorProto,
    dims=st.lists(st.integers(0, 1 << 40), max_size=2),
    raw_data=st.binary(max_size=4),
    float_data=st.lists(st.floats(width=32), max_size=2),
    external_data=external,
)
sparse = st.builds(SparseTensorProto, values=tensors, indices=tensors)


def attributes(graphs: st.SearchStrategy[GraphProto]) -> st.SearchStrategy[AttributeProto]:
    single = {
        "t": tensors,
        "g": graphs,
        "sparse_tensor": sparse,
        "f": st.floats(width=32),
        "s": st.binary(max_size=3),
    }
    many = {
        "tensors": tensors,
        "graphs": graphs,
        "sparse_tensors": sparse,
        "ints": st.integers(-9, 1 << 60),
    }
    kinds = [st.builds(AttributeProto, **{name: value}) for name, value in single.items()]
    kinds += [
        st.builds(AttributeProto, **{name: st.lists(value, max_size=2)})
        for name, value in many.items()
    ]
    return st.one_of(kinds)


def nodes(graphs: st.SearchStrategy[GraphProto]) -> st.SearchStrategy[NodeProto]:
    domains = st.sampled_from(["", "ai.onnx", "own"])
    held = st.lists(attributes(graphs), max_size=2)
    return st.builds(
        NodeProto, op_type=words, domain=domains, input=st.lists(words, max_size=2), attribute=held
    )


def graphs_of(inner: st.SearchStrategy[GraphProto]) -> st.SearchStrategy[GraphProto]:
    return st.builds(
        GraphProto,
        node=st.lists(nodes(inner), max_size=2),
        initializer=st.lists(tensors, max_size=2),
        sparse_initializer=st.lists(sparse, max_size=1),
    )


graphs = st.recursive(
    st.builds(GraphProto, initializer=st.lists(tensors, max_size=2)), graphs_of, max_leaves=4
)
functions = st.builds(
    FunctionProto,
    name=words,
    domain=st.sampled_from(["", "own"]),
    node=st.lists(nodes(graphs), max_size=2),
    attribute_proto=st.lists(attributes(graphs), max_size=1),
)
training = st.builds(TrainingInfoProto, initialization=graphs, algorithm=graphs)
models = st.builds(
    ModelProto,
    ir_version=st.integers(0, 12),
    graph=graphs,
    functions=st.lists(functions, max_size=2),
    training_info=st.lists(training, max_size=1),
)


def messages(message: Message) -> Iterator[Message]:
    """Yield every message inside a message, and itself."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else [value]:
                yield from messages(inner)


def external_of(model: ModelProto) -> list[list[tuple[str, str]]]:
    external = []
    for message in messages(model):
        if isinstance(message, TensorProto) and message.external_data:
            external.append([(entry.key, entry.value) for entry in message.external_data])
    return sorted(external)


def calls_of(model: ModelProto) -> Counter[tuple[str, str]]:
    calls: Counter[tuple[str, str]] = Counter()
    for message in messages(model):
        if isinstance(message, NodeProto):
            domain = "" if message.domain == "ai.onnx" else message.domain
            calls[domain, message.op_type] += 1
    return calls


def calls_in(contents: Contents) -> Counter[tuple[str, str]]:
    return sum((body.calls for body in contents.bodies()), Counter())


@given(models)
def test_it_finds_what_the_package_finds(model: ModelProto) -> None:
    contents = read(model.SerializeToString())
    assert sorted(filter(None, contents.external)) == external_of(model)
    assert calls_in(contents) == calls_of(model)
    assert set(contents.functions) == {
        (function.domain, function.name) for function in model.functions
    }


@given(models, st.data())
@example(ModelProto(graph=GraphProto(initializer=[TensorProto(name="w")])), None)
def test_of_what_the_package_reads_it_misses_nothing(
    model: ModelProto, data: st.DataObject | None
) -> None:
    """Two parsers of one file: this one reports all that the other reads, or refuses the file."""
    content = bytearray(model.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3)) if data else 0):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    try:
        parsed = onnx.load_model_from_string(bytes(content))
    except DecodeError:
        return
    try:
        contents = read(bytes(content))
    except Malformed:
        return
    assert set(chain(*external_of(parsed))) <= set(chain(*contents.external))
    assert set(calls_of(parsed)) <= set(calls_in(contents))


def test_a_message_that_is_given_twice_hides_nothing() -> None:
    """protobuf merges them, and so both count."""
    first, second = (
        ModelProto(
            graph=GraphProto(
                initializer=[TensorProto(external_data=[StringStringEntryProto(key=k)])]
            )
        )
        for k in "ab"
    )
    contents = read(first.SerializeToString() + second.SerializeToString())
    assert [key for entries in contents.external for key, _ in entries] == ["a", "b"]


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_in_order_or_malformed(content: bytes) -> None:
    at = 0
    try:
        for number, _, (start, end) in fields(content, 0, len(content)):
            assert number > 0
            assert at < start <= end <= len(content) or (start <= end and at < end)
            at = end
        assert at == len(content)
    except Malformed as error:
        assert str(error)
