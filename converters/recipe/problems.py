"""Problems of a recipe from pydantic's errors: sentences with file, line, key, and a suggestion."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from converters.recipe.document import Document, Keys, Problem, dotted
from runtimes.points import RECIPE
from runtimes.registry import nearest

Model = TypeVar("Model", bound=BaseModel)


def explain(
    model: type[Model], data: Any, document: Document, prefix: Keys
) -> tuple[Model | None, list[Problem]]:
    """Validate `data`, which stands at `prefix` in `document`; return the model or all problems."""
    try:
        return model.model_validate(data, context=RECIPE), []
    except ValidationError as validation:
        problems: dict[tuple[object, ...], Problem] = {}
        for error in validation.errors(include_url=False):
            problem = _problem(model, error, document, prefix)
            # Each branch of a union reports a wrong value; missing and unknown keys are separate
            # problems.
            word = None
            if error["type"] in ("missing", "extra_forbidden"):
                word = error["loc"][-1]
            problems.setdefault((problem.key, str(problem.mark), word), problem)
        return None, list(problems.values())


def _problem(model: type[BaseModel], error: Any, document: Document, prefix: Keys) -> Problem:
    location = error["loc"]
    if error["type"] == "extra_forbidden":
        return _unknown_key(model, location, document, prefix)
    keys = prefix + _written_part(location, document, prefix)
    if error["type"] == "missing":
        message = f"the key `{location[-1]}` is missing"
    else:
        message = _sentence(error["msg"])
        value = error.get("input")
        if not isinstance(value, (dict, list)) and error["type"] != "value_error":
            message += f", not {value!r}"
    return Problem(document.mark(keys), dotted(keys), message)


def _unknown_key(
    model: type[BaseModel], location: Keys, document: Document, prefix: Keys
) -> Problem:
    parent, word = location[:-1], str(location[-1])
    keys = prefix + _written_part(parent, document, prefix)
    suggestion = nearest(word, _legal_keys(model, parent))
    message = f"unknown key `{word}`{suggestion}"
    return Problem(document.mark((*keys, word)), dotted(keys), message)


def _sentence(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message.replace("Input should be", "must be").replace("input should be", "must be")


def _written_part(location: Keys, document: Document, prefix: Keys) -> Keys:
    """Return the part of pydantic's location that is in the document: it adds tags of unions."""
    keys: Keys = ()
    for key in location:
        if (*prefix, *keys, key) in document.marks:
            keys = (*keys, key)
    return keys


def _legal_keys(model: type[BaseModel], location: Keys) -> list[str]:
    """Return the legal keys at a location inside `model`."""
    kinds: list[Any] = [model]
    for key in location:
        inner_kinds = []
        for kind in kinds:
            inner_kinds += _inner_types(kind, key)
        kinds = inner_kinds or kinds
    names: list[str] = []
    for kind in kinds:
        for option in _models(kind):
            names += option.model_fields
    return names


def _inner_types(kind: Any, key: str | int) -> list[Any]:
    """Return the types that the value at `key` of a value of type `kind` may have."""
    inner_types: list[Any] = []
    for option in _union_members(kind):
        origin = typing.get_origin(option)
        if origin in (dict, list, tuple):
            arguments = typing.get_args(option)
            inner_types.append(arguments[-1 if origin is dict else 0])
    for model in _models(kind):
        field = model.model_fields.get(str(key))
        if field:
            inner_types.append(field.annotation)
    return inner_types


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a value of type `kind` may be."""
    for option in _union_members(kind):
        if isinstance(option, type) and issubclass(option, BaseModel):
            yield option


def _union_members(kind: Any) -> tuple[Any, ...]:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return typing.get_args(kind)
    if typing.get_origin(kind) is typing.Annotated:
        return _union_members(typing.get_args(kind)[0])
    return (kind,)
