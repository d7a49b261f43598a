"""The reference of the Python API, from signatures and docstrings."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

import burnish
from converters.exporters.base import Exported, Exporter, ExporterOptions, ExportJob
from runtimes.artifact.signature import SignatureError
from runtimes.errors import (
    ArtifactError,
    BurnishError,
    InputError,
    Unavailable,
    Untrusted,
    UsageError,
)
from runtimes.results import Accuracy, Build, GateResult, Parity, Row, Speed, Status
from runtimes.session import Runtime, Session, SessionOptions
from tools.tables import code, heading, notice, sentence, table

_INTRODUCTION = """\
# Python reference

For examples see [Python API](../python.md). Importing `burnish` imports neither PyTorch nor an engine; calls do.
"""

SECTIONS: dict[str, tuple[Any, ...]] = {
    "Functions": (burnish.convert, burnish.load, burnish.validate),
    "Sessions": (Session,),
    "Builds": (Build, Row, Status, Parity, Accuracy, Speed, GateResult),
    "Errors": (
        BurnishError,
        UsageError,
        InputError,
        Untrusted,
        ArtifactError,
        SignatureError,
        Unavailable,
    ),
    "Plug-ins": (Exporter, ExporterOptions, ExportJob, Exported, Runtime, SessionOptions),
}
"""Everything that the page describes."""

_FIELD = re.compile(r"^(\s{0,4})([\w`., *]+?)(?: \([^)]*\))?: (.*)$")
_TITLES = ("Args:", "Returns:", "Raises:", "Attributes:")


def python_page() -> str:
    """The Markdown page."""
    parts = [notice("docstrings"), _INTRODUCTION]
    for title, members in SECTIONS.items():
        parts.append(heading(2, title))
        parts += [_member(member) for member in members]
    return "".join(parts)


def _member(member: Any) -> str:
    if inspect.isfunction(member):
        return heading(3, f"`burnish.{member.__name__}`") + _signature(member) + docstring(member)
    parts = [heading(3, f"`{member.__name__}`"), f"\n`{member.__module__}.{member.__name__}`\n"]
    if issubclass(member, BurnishError):
        return (
            parts[0]
            + parts[1]
            + docstring(member)
            + f"\nThe command line exits with {member.exit_code}.\n"
        )
    parts.append(docstring(member))
    if issubclass(member, enum.Enum):
        parts.append(
            "\n"
            + table(("member", "value"), [(f"`{item.name}`", f"`{item.value}`") for item in member])
        )
        return "".join(parts)
    if fields := list(_fields(member)):
        parts.append("\n" + table(("field", "type", "default"), fields))
    for name, method in _methods(member):
        parts += [f"\n#### `{member.__name__}.{name}`\n", _signature(method), docstring(method)]
    return "".join(parts)


def _fields(member: type) -> Iterator[tuple[str, str, str]]:
    """Fields of a model or dataclass: name, type, default."""
    model = getattr(member, "model_fields", None)
    if model is not None:
        for name, field in model.items():
            value = None if field.is_required() else field.get_default(call_default_factory=True)
            shown = f"{type(value).__name__}()" if isinstance(value, BaseModel) else repr(value)
            yield code(name), code(_type(member, name)), "" if field.is_required() else code(shown)
        return
    for name, field in getattr(member, "__dataclass_fields__", {}).items():
        yield code(name), code(_type(member, name)), _default(field)


def _default(field: Any) -> str:
    if callable(field.default_factory):
        return f"`{field.default_factory()!r}`"
    return f"`{field.default!r}`" if "MISSING" not in repr(type(field.default)) else ""


def _type(member: type, name: str) -> str:
    """A field's annotation, as it is written in the source."""
    for owner in member.__mro__:
        annotation = vars(owner).get("__annotations__", {}).get(name)
        if annotation is not None:
            return (
                annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
            )
    return ""


def _methods(member: type) -> Iterator[tuple[str, Any]]:
    """The documented methods that a class itself defines; of plug-in contracts also those to implement."""
    for name, value in vars(member).items():
        method = value.__func__ if isinstance(value, classmethod) else value
        if (
            inspect.isfunction(method)
            and method.__doc__
            and (not name.startswith("_") or name == "_run")
        ):
            yield name, method


def _signature(function: Any) -> str:
    """The call with one parameter per line where it is long."""
    parameters = list(inspect.signature(function).parameters.values())
    words: list[str] = []
    keyword = False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword:
            keyword = True
            words.append("*")
        words.append(_parameter(parameter))
    result = inspect.signature(function).return_annotation
    arrow = "" if result is inspect.Signature.empty else f" -> {result}"
    call = f"{function.__name__}({', '.join(words)}){arrow}"
    if len(call) > 88:
        inner = "".join(f"    {word},\n" for word in words)
        call = f"{function.__name__}(\n{inner}){arrow}"
    return f"\n```text\n{call}\n```\n"


def _parameter(parameter: inspect.Parameter) -> str:
    text = parameter.name
    if parameter.annotation is not inspect.Parameter.empty:
        text += f": {parameter.annotation}"
    if parameter.default is inspect.Parameter.empty:
        return text
    default = "..." if callable(parameter.default) else repr(parameter.default)
    return f"{text} = {default}"


def docstring(member: Any) -> str:
    """A docstring in Markdown: its text, then a list for each of its sections."""
    lines = (inspect.cleandoc(member.__doc__ or "")).splitlines()
    text: list[str] = []
    parts: list[str] = []
    section: list[str] | None = None
    for line in lines:
        if line in _TITLES:
            section = []
            parts += _finished(text)
            text = [line]
        elif section is not None and (line.startswith("    ") or not line):
            text.append(line)
        else:
            if section is not None:
                parts += _finished(text)
                text, section = [], None
            text.append(line)
    parts += _finished(text)
    return "".join(parts)


def _finished(lines: list[str]) -> list[str]:
    """A paragraph, or a section as a list."""
    if not any(lines):
        return []
    if lines[0] not in _TITLES:
        paragraphs = "\n".join(lines).strip().split("\n\n")
        return [f"\n{' '.join(paragraph.split())}\n" for paragraph in paragraphs]
    title, body = lines[0], lines[1:]
    items: list[str] = []
    for line in body:
        field = _FIELD.match(line)
        if field and len(field.group(1)) == 4 and title != "Returns:":
            name = field.group(2).strip("`").rpartition(".")[2]
            items.append(f"- `{name}`: {field.group(3)}")
        elif items:
            items[-1] += f" {line.strip()}"
        elif line.strip():
            items.append(line.strip())
    listed = "\n".join(sentence(item) for item in items)
    name = "Arguments" if title == "Args:" else title.rstrip(":")
    return [f"\n**{name}**\n\n{listed}\n"]
