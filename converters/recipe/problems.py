"""From pydantic's errors to sentences with a file, a line and the word that was meant."""

from __future__ import annotations

import typing
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from converters.recipe.document import Document, Keys, Problem, dotted
from runtimes.registry import nearest

Model = TypeVar("Model", bound=BaseModel)


def explain(model: type[Model], data: Any, document: Document, prefix: Keys) -> tuple[Model | None, list[Problem]]:
    """Validate `data`, which stands at `prefix` in `document`; return the model or all that is wrong."""
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        problems: dict[tuple[object, ...], Problem] = {}
        for one in error.errors(include_url=False):
            problem = _problem(model, one, document, prefix)
            # Each branch of a union complains of a value; keys that are missing or unknown are one problem each.
            word = one["loc"][-1] if one["type"] in ("missing", "extra_forbidden") else None
            problems.setdefault((problem.key, str(problem.mark), word), problem)
        return None, list(problems.values())


def _problem(model: type[BaseModel], error: Any, document: Document, prefix: Keys) -> Problem:
    keys = prefix + _known(error["loc"], document, prefix)
    if error["type"] == "extra_forbidden":
        word = str(error["loc"][-1])
        fields = _fields(model, error["loc"][:-1])
        keys = prefix + _known(error["loc"][:-1], document, prefix)
        return Problem(document.mark((*keys, word)), dotted(keys), f"unknown key `{word}`{nearest(word, fields)}")
    if error["type"] == "missing":
        name = error["loc"][-1]
        return Problem(document.mark(keys), dotted(keys), f"the key `{name}` is missing")
    message = error["msg"].removeprefix("Value error, ")
    given = error.get("input")
    shown = "" if isinstance(given, (dict, list)) or error["type"] == "value_error" else f", not {given!r}"
    return Problem(document.mark(keys), dotted(keys), _sentence(message) + shown)


def _sentence(message: str) -> str:
    return message.replace("Input should be", "must be").replace("input should be", "must be")


def _known(loc: Keys, document: Document, prefix: Keys) -> Keys:
    """The part of pydantic's location that is in the document: it adds the tags of unions, too."""
    known: Keys = ()
    for key in loc:
        if (*prefix, *known, key) in document.marks:
            known = (*known, key)
    return known


def _fields(model: type[BaseModel], loc: Keys) -> list[str]:
    """The legal keys at a location inside `model`."""
    kinds: list[Any] = [model]
    for key in loc:
        kinds = [inner for kind in kinds for inner in _inside(kind, key)] or kinds
    return [
        name
        for kind in kinds
        for option in _options(kind)
        if isinstance(option, type) and issubclass(option, BaseModel)
        for name in option.model_fields
    ]


def _inside(kind: Any, key: str | int) -> list[Any]:
    """The types that the value at `key` of a value of type `kind` may have."""
    found: list[Any] = []
    for option in _options(kind):
        if isinstance(option, type) and issubclass(option, BaseModel):
            field = option.model_fields.get(str(key))
            found += [field.annotation] if field else []
        elif typing.get_origin(option) in (dict, list, tuple):
            found += [typing.get_args(option)[-1 if typing.get_origin(option) is dict else 0]]
    return found


def _options(kind: Any) -> tuple[Any, ...]:
    import types

    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return typing.get_args(kind)
    if typing.get_origin(kind) is typing.Annotated:
        return _options(typing.get_args(kind)[0])
    return (kind,)
