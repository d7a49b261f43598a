"""Nodes, functions and external data of an ONNX file, read without the onnx package."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from runtimes.engines.onnx.protobuf import BYTES, Buffer, Malformed, Span, fields, text

Call = tuple[str, str]
"""Domain and name of an operator or function; ONNX's own domain is empty."""

# Fields of each message that lead to nodes and tensors (onnx.proto); a test compares them with
# onnx.
PARTS: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
}
_NODE_NAME, _NODE_DOMAIN = 4, 7
_FUNCTION_NAME, _FUNCTION_DOMAIN = 1, 10
_EXTERNAL_DATA = 13
_NODE_TEXTS = {1, 2, 3, 4, 7}  # inputs, outputs, name, operator, domain
_LONGEST = 1 << 20  # bytes of such a text: the longest names of layers have some hundred

DEEPEST = 32
"""Limit on nested graphs and functions. Real models have three levels, protobuf stops at 33."""
_MOST_FIELDS = 20_000_000  # of messages that are parsed: each takes about a microsecond


@dataclass
class Body:
    """Content of a graph or a function, including subgraphs.

    Attributes:
        calls: how often each operator or function is used.
        depth: levels of graphs inside it.
    """

    calls: Counter[Call] = field(default_factory=Counter)
    depth: int = 0


@dataclass
class Contents:
    """Content of a file.

    Attributes:
        main: the graph, and the graphs of training.
        functions: the model's own; all of those with the same name.
        external: for each tensor with values in another file its entries: location, offset, length,
            ...
    """

    main: Body = field(default_factory=Body)
    functions: dict[Call, list[Body]] = field(default_factory=dict)
    external: list[list[tuple[str, str]]] = field(default_factory=list)

    def bodies(self) -> Iterator[Body]:
        """Yield every graph and function."""
        yield self.main
        for bodies in self.functions.values():
            yield from bodies


def read(data: Buffer) -> Contents:
    """Read nodes, functions and external data of a serialized ModelProto. Raises Malformed."""
    reader = _GraphReader(data)
    reader.message("ModelProto", (0, len(data)), reader.contents.main, 0)
    return reader.contents


class _GraphReader:
    def __init__(self, data: Buffer) -> None:
        self._data, self.contents, self._left = data, Contents(), _MOST_FIELDS

    def message(self, kind: str, span: Span, body: Body, depth: int) -> None:
        """Read a message; count its calls in `body`."""
        if kind == "GraphProto":
            body.depth = max(body.depth, depth)
            depth += 1
            if depth > DEEPEST:
                raise Malformed(f"graphs nested more than {DEEPEST} levels")
        if kind == "NodeProto":
            body.calls[self._call(span, _NODE_DOMAIN, _NODE_NAME)] += 1
        if kind == "FunctionProto":
            body, depth = Body(), 0
            call = self._call(span, _FUNCTION_DOMAIN, _FUNCTION_NAME)
            self.contents.functions.setdefault(call, []).append(body)
        for number, part in self._fields(span):
            if kind == "NodeProto" and number in _NODE_TEXTS and part[1] - part[0] > _LONGEST:
                raise Malformed(f"a name of {part[1] - part[0]:,} bytes")
            if kind == "TensorProto" and number == _EXTERNAL_DATA:
                self._entry(part)
            elif inner := PARTS.get(kind, {}).get(number):
                if inner == "TensorProto":
                    self.contents.external.append([])
                self.message(inner, part, body, depth)

    def _fields(self, span: Span) -> Iterator[tuple[int, Span]]:
        """Yield the fields that may hold a message or a string."""
        for number, wire, part in fields(self._data, *span):
            self._left -= 1
            if not self._left:
                raise Malformed(f"more than {_MOST_FIELDS} fields")
            if wire == BYTES:
                yield number, part

    def _call(self, span: Span, domain_field: int, name_field: int) -> Call:
        """Return a node's or function's domain and name; the last one counts, as in protobuf."""
        domain = name = ""
        for number, part in self._fields(span):
            if number == domain_field:
                domain = text(self._data, part)
            elif number == name_field:
                name = text(self._data, part)
        return ("" if domain == "ai.onnx" else domain), name

    def _entry(self, span: Span) -> None:
        """Read an entry of a tensor's external_data: a key (1) and a value (2)."""
        values = {number: text(self._data, part) for number, part in self._fields(span)}
        self.contents.external[-1].append((values.get(1, ""), values.get(2, "")))
