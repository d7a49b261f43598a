"""YAML with a memory: every value knows the file and line it came from; `extends:` and overrides merge."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from runtimes.errors import UsageError

Keys = tuple[str | int, ...]
"""Where a value stands: ("artifacts", "onnx", "opset")."""

_SIZE_LIMIT = 1 << 18  # bytes; the longest sensible recipe is a few kilobytes, and PyYAML takes seconds for this
_NODE_LIMIT = 20_000  # values after aliases are expanded: an alias bomb stops here
_DEPTH_LIMIT = 32
_EXTENDS_LIMIT = 8
_PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True)
class Mark:
    """A place in a file."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a recipe."""

    mark: Mark
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.mark}: {self.key}: {self.message}" if self.key else f"{self.mark}: {self.message}"


class RecipeError(UsageError):
    """Everything that is wrong with a recipe, at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True)
class Document:
    """A recipe's values, merged, and where each stands."""

    path: Path
    data: dict[str, Any]
    marks: dict[Keys, Mark] = field(default_factory=dict)

    def mark(self, keys: Keys) -> Mark:
        """The place of a value, or of the nearest value around it."""
        while keys and keys not in self.marks:
            keys = keys[:-1]
        return self.marks.get(keys, Mark(str(self.path)))


def read(path: Path, shipped: Path | None = None) -> Document:
    """Read a recipe and everything it extends: a recipe beside it, else one in `shipped`. Raises RecipeError."""
    return _read(path, shipped, ())


def _read(path: Path, shipped: Path | None, children: tuple[Path, ...]) -> Document:
    mark = Mark(str(path))
    if path.resolve() in children or len(children) > _EXTENDS_LIMIT:
        raise RecipeError([Problem(mark, "extends", "recipes extend each other in a circle")])
    document = _parse(path, mark)
    base = document.data.pop("extends", None)
    if base is None:
        return document
    if not isinstance(base, str):
        raise RecipeError([Problem(document.mark(("extends",)), "extends", "must be the name of a recipe file")])
    name = base if Path(base).suffix else f"{base}.yaml"
    parent = path.parent / name
    if not _is_file(parent) and shipped is not None and _is_file(shipped / name):
        parent = shipped / name
    if not _is_file(parent):
        raise RecipeError([Problem(document.mark(("extends",)), "extends", f"there is no recipe {parent}")])
    return _merge(_read(parent, shipped, (*children, path.resolve())), document)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have, such as one of 300 letters
        return False


def _parse(path: Path, mark: Mark) -> Document:
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise RecipeError([Problem(mark, "", f"larger than {_SIZE_LIMIT} bytes: not a recipe")])
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        data, marks = _Builder(loader, mark.file).build(node)
    except OSError as error:
        raise RecipeError([Problem(mark, "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise RecipeError([Problem(mark, "", f"is not UTF-8 text: {error.reason}")]) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise RecipeError([Problem(replace(mark, line=line), "", f"not valid YAML: {error.problem}")]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError([Problem(mark, "", f"not valid YAML: {error}")]) from error
    if not isinstance(data, dict):
        raise RecipeError([Problem(mark, "", "a recipe is a mapping; it starts with `model:`")])
    return Document(path, data, marks)


class _Builder:
    """Turns YAML nodes into values and notes the line of each."""

    def __init__(self, loader: yaml.SafeLoader, file: str) -> None:
        self._loader, self._file, self._nodes = loader, file, 0
        self.marks: dict[Keys, Mark] = {}

    def build(self, node: yaml.Node | None) -> tuple[Any, dict[Keys, Mark]]:
        value = self._value(node, ()) if node is not None else None
        return value, self.marks

    def _value(self, node: yaml.Node, keys: Keys) -> Any:
        self._nodes += 1
        mark = Mark(self._file, node.start_mark.line + 1)
        if self._nodes > _NODE_LIMIT or len(keys) > _DEPTH_LIMIT:
            raise RecipeError([Problem(mark, "", "too large or too deeply nested for a recipe")])
        self.marks.setdefault(keys, mark)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN:
            raise RecipeError([Problem(mark, dotted(keys), f"a recipe has lists and mappings, no {node.tag!r}")])
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, keys)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*keys, index)) for index, item in enumerate(node.value)]
        return self._constructed(node, keys)

    def _constructed(self, node: yaml.Node, keys: Keys) -> Any:
        try:
            value = self._loader.construct_object(node)
            str(value)  # raises for an integer of thousands of digits, which no message could show
        # so PyYAML ends on `!!float ''`, 2026-99-99, a number of base 60 that is no float
        except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
            mark, kind = Mark(self._file, node.start_mark.line + 1), node.tag.rpartition(":")[2]
            raise RecipeError([Problem(mark, dotted(keys), f"{node.value[:80]!r} is no {kind}")]) from error
        return value

    def _mapping(self, node: yaml.MappingNode, keys: Keys) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            mark = Mark(self._file, key_node.start_mark.line + 1)
            if not isinstance(key_node, yaml.ScalarNode):  # made and shown, one of aliases would burst
                raise RecipeError([Problem(mark, dotted(keys), "a key is text, no list or mapping")])
            key: Hashable = self._constructed(key_node, keys)
            if not isinstance(key, str):
                raise RecipeError([Problem(mark, dotted(keys), f"the key {key!r} is not text: put it in quotes")])
            if key in result:
                raise RecipeError([Problem(mark, dotted((*keys, key)), "is given twice")])
            self.marks[(*keys, key)] = mark
            result[key] = self._value(value_node, (*keys, key))
        return result


def _merge(base: Document, over: Document) -> Document:
    """`over` on top of `base`: mappings merge key by key, null removes one (or null), anything else replaces."""
    marks = dict(base.marks)
    data = _merged(base.data, over.data, (), marks, over.marks)
    return Document(over.path, data, marks)


def _merged(base: Any, over: Any, keys: Keys, marks: dict[Keys, Mark], fresh: dict[Keys, Mark]) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        result = dict(base)
        for key, value in over.items():
            here = (*keys, key)
            marks[here] = fresh.get(here, Mark("?"))
            if value is None and key in base and (base[key] is None or isinstance(base[key], dict)):
                del result[key]
            else:
                result[key] = _merged(result.get(key), value, here, marks, fresh)
        return result
    for where, mark in fresh.items():
        if where[: len(keys)] == keys:
            marks[where] = mark
    return over


def override(document: Document, setting: str) -> Document:
    """Apply one `--set key.key=value`; the value is read as YAML, null removes a mapping."""
    path, separator, text = setting.partition("=")
    mark = Mark(f"--set {setting}")
    keys = tuple(path.strip().split("."))
    if not separator or not all(keys):
        raise RecipeError([Problem(mark, "", "must look like artifacts.onnx.opset=18")])
    try:
        loader = yaml.SafeLoader(text)
        nested, inner = _Builder(loader, mark.file).build(loader.get_single_node())
    except RecipeError as error:
        raise RecipeError(replace(problem, mark=mark, key=path) for problem in error.problems) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError([Problem(mark, path, f"not valid YAML: {error}")]) from error
    for key in reversed(keys):
        nested = {key: nested}
    marks = {keys[: end + 1]: mark for end in range(len(keys))} | {(*keys, *below): mark for below in inner}
    return _merge(document, Document(document.path, nested, marks))


def dotted(keys: Iterable[str | int]) -> str:
    """("inputs", "image", "shape", 0) as a person writes it: inputs.image.shape[0]."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def find(name: str, folders: Iterable[Path]) -> Path:
    """The recipe called `name` (a path, or NAME for NAME.yaml in one of `folders`).

    Raises UsageError with the nearest names where there is none.
    """
    folders = list(folders)
    if _is_file(path := Path(name)):
        return path
    if not path.suffix or path.suffix not in (".yaml", ".yml"):
        for folder in folders:
            for suffix in (".yaml", ".yml"):
                if _is_file(candidate := folder / f"{name}{suffix}"):
                    return candidate
    known = sorted({path.stem for folder in folders for path in folder.glob("*.y*ml") if path.stem[0] != "_"})
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}" if known else ""
    raise UsageError(f"there is no recipe {name!r}{hint}")
