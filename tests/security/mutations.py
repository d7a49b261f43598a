"""How valid files become broken ones: strategies for hypothesis, and the budget that they get."""

from __future__ import annotations

import copy
import os
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("BURNISH_FUZZ", "0"))
"""Examples for each target, new ones in every run (`make fuzz`); 0: a few, the same ones in every run."""

junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.sampled_from(["", "..", "/", "\x1b[2J", "\0", "a" * 1000, "1e999", "{}"]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
)


def budget(few: int) -> settings:
    """Settings of a target that gets `few` examples in the usual run."""
    return settings(max_examples=EXAMPLES or few, derandomize=not EXAMPLES, deadline=None)


@st.composite
def broken_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with one to four changes: bytes overwritten, put in, left out or repeated, or the end cut off."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(changed) - 1)))
        length = draw(st.integers(1, 8))
        match draw(st.sampled_from(["overwrite", "insert", "remove", "repeat", "cut"])):
            case "overwrite":
                changed[at : at + length] = draw(st.binary(min_size=length, max_size=length))
            case "insert":
                changed[at:at] = draw(st.binary(min_size=length, max_size=length))
            case "remove":
                del changed[at : at + length]
            case "repeat":
                changed[at:at] = changed[at : at + 64]
            case "cut":
                del changed[at:]
    return bytes(changed)


@st.composite
def broken_value(draw: st.DrawFn, value: Any) -> Any:
    """The JSON value with one to three parts replaced by junk, removed or added."""
    changed = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        holder, key = changed, None
        while isinstance(holder, (dict, list)) and holder:
            key = draw(
                st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder)))
            )
            if not isinstance(holder[key], (dict, list)) or not holder[key] or draw(st.booleans()):
                break
            holder = holder[key]
        if key is None:
            continue
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                holder[key] = draw(junk)
            case "remove":
                del holder[key]
            case "add" if isinstance(holder, dict):
                holder[draw(st.text(max_size=8))] = draw(junk)
    return changed


def from_schema(
    schema: dict[str, Any], root: dict[str, Any], depth: int = 6
) -> st.SearchStrategy[Any]:
    """Values of a JSON Schema, as far as its types say."""
    if "$ref" in schema:
        return st.deferred(lambda: from_schema(_referenced(schema["$ref"], root), root, depth - 1))
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([from_schema(one, root, depth) for one in schema["anyOf"]])
    match schema.get("type"):
        case "object" if depth > 0:
            return _object(schema, root, depth)
        case "array" if depth > 0:
            return st.lists(from_schema(schema.get("items", {}), root, depth - 1), max_size=3)
        case "integer":
            return st.integers(max(-5, schema.get("minimum", -5)), 40)
        case "number":
            return st.floats(-1, 100, allow_nan=False)
        case "boolean":
            return st.booleans()
        case "string":
            return st.sampled_from(
                ["batch", "x", "torchvision:resnet18", "python:a:b", "random:0", "a/b.npy", ""]
            )
        case "null":
            return st.none()
    return junk


def _referenced(reference: str, root: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = root["$defs"][reference.rpartition("/")[2]]
    return found


def _object(schema: dict[str, Any], root: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    known = {
        name: st.deferred(lambda inner=inner: from_schema(inner, root, depth - 1))
        for name, inner in schema.get("properties", {}).items()
    }
    needed = {name: known.pop(name) for name in schema.get("required", []) if name in known}
    fixed = st.fixed_dictionaries(needed, optional=known)
    extra = schema.get("additionalProperties")
    if not isinstance(extra, dict):
        return fixed
    names = st.sampled_from(["batch", "x", "y", "onnx-2", "a b"])
    more = st.dictionaries(names, from_schema(extra, root, depth - 1), max_size=2)
    return st.tuples(more, fixed).map(lambda both: {**both[0], **both[1]})
