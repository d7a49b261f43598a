"""Recipes as YAML documents: values with file and line, `extends:` and overrides merged."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import yaml

from converters.recipe.text.loader import LimitedLoader, Unread
from runtimes.errors import UsageError
from runtimes.files.regular import open_regular

Keys = tuple[str | int, ...]
"""Path of a value: ("artifacts", "onnx", "opset")."""

_SIZE_LIMIT = 1 << 18  # bytes: a long recipe has some kilobytes, and this takes PyYAML seconds
_NODE_LIMIT = 20_000  # values after aliases are expanded: an alias bomb stops here
_DEPTH_LIMIT = 32
_SETTING_LIMIT = 1 << 16  # letters of one --set: what most systems take as one argument
_KEY_LIMIT = 200  # letters of a key in --set; the longest of a recipe has thirty
_MOST_PROBLEMS = 50  # that a message lists; nobody mends more at once
_EXTENDS_LIMIT = 8
_PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True)
class Mark:
    """A line of a file."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """A problem of a recipe."""

    mark: Mark
    key: str
    message: str

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{self.mark}: {key}{self.message}"


class RecipeError(UsageError):
    """All problems of a recipe at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        lines = list(map(str, self.problems[:_MOST_PROBLEMS]))
        if more := len(self.problems) - len(lines):
            lines.append(f"and {more} more problems")
        super().__init__("\n".join(lines))

    @classmethod
    def at(cls, mark: Mark, key: str, message: str) -> Self:
        """Return the error of a single problem."""
        return cls([Problem(mark, key, message)])


@dataclass(frozen=True)
class Document:
    """The merged values of a recipe, and the file and line of each."""

    path: Path
    data: dict[str, Any]
    marks: dict[Keys, Mark] = field(default_factory=dict)

    def mark(self, keys: Keys) -> Mark:
        """Return the file and line of a value, or of the nearest value around it."""
        while keys and keys not in self.marks:
            keys = keys[:-1]
        return self.marks.get(keys, Mark(str(self.path)))


def read(path: Path, shipped: Path | None = None) -> Document:
    """Read a recipe and the recipes that it extends: beside it, or else in `shipped`.

    Raises RecipeError.
    """
    return _read(path, shipped, ())


def _read(path: Path, shipped: Path | None, children: tuple[Path, ...]) -> Document:
    mark = Mark(str(path))
    if path.resolve() in children or len(children) > _EXTENDS_LIMIT:
        raise RecipeError.at(mark, "extends", "recipes extend each other in a circle")
    document = _parse(path, mark)
    base = document.data.pop("extends", None)
    if base is None:
        return document
    extends = document.mark(("extends",))
    if not isinstance(base, str):
        raise RecipeError.at(extends, "extends", "must be the name of a recipe file")
    name = base if Path(base).suffix else f"{base}.yaml"
    parent = path.parent / name
    if not _is_file(parent) and shipped is not None and _is_file(shipped / name):
        parent = shipped / name
    if not _is_file(parent):
        raise RecipeError.at(extends, "extends", f"there is no recipe {parent}")
    return _merge(_read(parent, shipped, (*children, path.resolve())), document)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # an impossible file name, such as one of 300 letters
        return False


def _parse(path: Path, mark: Mark) -> Document:
    try:
        with open_regular(path) as file:
            content = file.read(_SIZE_LIMIT + 1)
        if len(content) > _SIZE_LIMIT:
            raise RecipeError.at(mark, "", f"larger than {_SIZE_LIMIT} bytes: not a recipe")
        loader = LimitedLoader(content.decode("utf-8"), 2 * _NODE_LIMIT)  # with keys
        data, marks = _Builder(loader, mark.file).build(loader.get_single_node())
    except OSError as error:
        raise RecipeError.at(mark, "", f"cannot be read: {error.strerror}") from error
    except Unread as error:
        key_mark = replace(mark, line=error.line)
        raise RecipeError.at(key_mark, dotted(error.keys), str(error)) from error
    except UnicodeDecodeError as error:
        raise RecipeError.at(mark, "", f"is not UTF-8 text: {error.reason}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        message = f"not valid YAML: {error.problem}"
        raise RecipeError.at(replace(mark, line=line), "", message) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError.at(mark, "", f"not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise RecipeError.at(mark, "", "a recipe is a mapping; it starts with `model:`")
    return Document(path, data, marks)


class _Builder:
    """Turns YAML nodes into values, and records the line of each."""

    def __init__(self, loader: yaml.SafeLoader, file: str) -> None:
        self._loader, self._file, self._nodes = loader, file, 0
        self.marks: dict[Keys, Mark] = {}

    def build(self, node: yaml.Node | None) -> tuple[Any, dict[Keys, Mark]]:
        """Return the value of a node, and the lines of all values in it."""
        value = self._value(node, ()) if node is not None else None
        return value, self.marks

    def _value(self, node: yaml.Node, keys: Keys) -> Any:
        self._nodes += 1
        mark = Mark(self._file, node.start_mark.line + 1)
        if self._nodes > _NODE_LIMIT or len(keys) > _DEPTH_LIMIT:
            raise RecipeError.at(mark, "", "too large or too deeply nested for a recipe")
        self.marks.setdefault(keys, mark)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN:
            message = f"a recipe has lists and mappings, no {node.tag!r}"
            raise RecipeError.at(mark, dotted(keys), message)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, keys)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*keys, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, keys)

    def _scalar(self, node: yaml.Node, keys: Keys) -> Any:
        try:
            value = self._loader.construct_object(node)
            str(value)  # raises for an integer of thousands of digits, which no message could show
        # PyYAML raises these on `!!float ''`, 2026-99-99, a number of base 60 that is no float.
        except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
            mark, kind = Mark(self._file, node.start_mark.line + 1), node.tag.rpartition(":")[2]
            message = f"{node.value[:80]!r} is no {kind}"
            raise RecipeError.at(mark, dotted(keys), message) from error
        return value

    def _mapping(self, node: yaml.MappingNode, keys: Keys) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            mark = Mark(self._file, key_node.start_mark.line + 1)
            # Constructed and shown, a key of aliases could expand to any size.
            if not isinstance(key_node, yaml.ScalarNode):
                raise RecipeError.at(mark, dotted(keys), "a key is text, not a list or mapping")
            key: Hashable = self._scalar(key_node, keys)
            if not isinstance(key, str):
                message = f"the key {key!r} is not text: put it in quotes"
                raise RecipeError.at(mark, dotted(keys), message)
            if key in result:
                raise RecipeError.at(mark, dotted((*keys, key)), "is given twice")
            self.marks[(*keys, key)] = mark
            result[key] = self._value(value_node, (*keys, key))
        return result


def _merge(base: Document, over: Document) -> Document:
    """Merge `over` into `base`.

    Mappings are merged key by key, null removes a mapping (or null), any other value is replaced.
    """
    marks = dict(base.marks)
    data = _merged(base.data, over.data, (), marks, over.marks)
    return Document(over.path, data, marks)


def _merged(
    base: Any, over: Any, keys: Keys, marks: dict[Keys, Mark], over_marks: dict[Keys, Mark]
) -> Any:
    """Return the merged value at `keys`; `marks` get the lines of values that come from `over`."""
    if isinstance(base, dict) and isinstance(over, dict):
        result = dict(base)
        for key, value in over.items():
            inner = (*keys, key)
            marks[inner] = over_marks.get(inner, Mark("?"))
            is_removable = key in base and (base[key] is None or isinstance(base[key], dict))
            if value is None and is_removable:
                del result[key]
            else:
                result[key] = _merged(result.get(key), value, inner, marks, over_marks)
        return result
    for path, mark in over_marks.items():
        if path[: len(keys)] == keys:
            marks[path] = mark
    return over


def override(document: Document, setting: str) -> Document:
    """Apply one `--set key.key=value`; the value is parsed as YAML, null removes a mapping."""
    path, separator, text = setting.partition("=")
    mark = Mark(f"--set {setting if len(setting) < _KEY_LIMIT else f'{setting[:40]}...'}")
    if len(setting) > _SETTING_LIMIT:
        message = f"has {len(setting):,} letters: write so long a value into a recipe"
        raise RecipeError.at(mark, "", message)
    keys = tuple(path.strip().split("."))
    if not separator or not all(keys):
        raise RecipeError.at(mark, "", "must look like artifacts.onnx.opset=18")
    if len(keys) > _DEPTH_LIMIT or max(map(len, keys)) > _KEY_LIMIT:
        raise RecipeError.at(mark, "", "names no value: its path is longer than any of a recipe")
    try:
        loader = LimitedLoader(text, 2 * _NODE_LIMIT)
        nested, inner = _Builder(loader, mark.file).build(loader.get_single_node())
    except RecipeError as error:
        problems = [replace(problem, mark=mark, key=path) for problem in error.problems]
        raise RecipeError(problems) from error
    except Unread as error:
        raise RecipeError.at(mark, path, str(error)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError.at(mark, path, f"not valid YAML: {error}") from error
    for key in reversed(keys):
        nested = {key: nested}
    marks: dict[Keys, Mark] = {keys[: end + 1]: mark for end in range(len(keys))}
    for inner_keys in inner:
        marks[(*keys, *inner_keys)] = mark
    return _merge(document, Document(document.path, nested, marks))


def dotted(keys: Iterable[str | int]) -> str:
    """Return a path of keys as text: ("inputs", "image", "shape", 0) as inputs.image.shape[0]."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def find(name: str, folders: Iterable[Path]) -> Path:
    """Find the recipe `name`: a path, or NAME for NAME.yaml in one of `folders`.

    Raises UsageError with the nearest name if there is none.
    """
    folders = list(folders)
    if _is_file(path := Path(name)):
        return path
    if not path.suffix or path.suffix not in (".yaml", ".yml"):
        for folder in folders:
            for suffix in (".yaml", ".yml"):
                if _is_file(candidate := folder / f"{name}{suffix}"):
                    return candidate
    raise UsageError(f"there is no recipe {name!r}{_suggestion(name, folders)}")


def _suggestion(name: str, folders: Iterable[Path]) -> str:
    """Return the recipe with the nearest name, or else all recipes."""
    recipes: set[str] = set()
    for folder in folders:
        recipes.update(path.stem for path in folder.glob("*.y*ml") if path.stem[0] != "_")
    if close := difflib.get_close_matches(name, sorted(recipes), n=1, cutoff=0.5):
        return f"; did you mean {close[0]!r}?"
    return f"; there are {', '.join(sorted(recipes))}" if recipes else ""
