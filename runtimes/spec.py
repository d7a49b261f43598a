"""Tensor specifications: names, shapes with named dynamic dimensions, dtypes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from runtimes.relations import Interval, Relation, parse_relation

DType = Literal["float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
InputKind = Literal["ids", "mask", "length"]
Shape = tuple[int | str, ...]
"""Sizes of a tensor; a string names a dynamic dimension."""


class Strict(BaseModel):
    """Base of all classes that are read from files: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DimRange(Strict):
    """Legal sizes of one dynamic dimension; `opt` is the size to be fastest at."""

    min: PositiveInt = Field(1, description="Smallest legal size.")
    opt: PositiveInt | None = Field(
        None, description="The size to optimize for; defaults to `min`."
    )
    max: PositiveInt = Field(..., description="Largest legal size.")
    multiple_of: PositiveInt = Field(
        1, description="Sizes are multiples of this, as the strides of a network may need."
    )
    equals: str | None = Field(
        None,
        exclude_if=lambda text: text is None,
        description="Relation that gives the size, such as `past + new`. A recipe writes it in "
        "place of the range, which follows from those of the others.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min <= self.best <= self.max:
            order = f"min {self.min} <= opt {self.best} <= max {self.max}"
            raise ValueError(f"sizes must rise: {order} does not hold")
        for size in self.bounds:
            if size % self.multiple_of:
                raise ValueError(f"{size} is not a multiple of {self.multiple_of}")
        if self.equals is not None:
            parse_relation(self.equals)
        return self

    @property
    def relation(self) -> Relation | None:
        """The relation to other dimensions that gives the size, if there is one."""
        return None if self.equals is None else parse_relation(self.equals)

    @property
    def count(self) -> int:
        """How many sizes are legal."""
        return (self.max - self.min) // self.multiple_of + 1

    def allows(self, size: int) -> bool:
        """Return whether a size is legal."""
        return self.min <= size <= self.max and size % self.multiple_of == 0

    @property
    def bounds(self) -> tuple[int, int, int]:
        """Smallest, best and largest size: the three points of an optimization profile."""
        return self.min, self.best, self.max

    @property
    def best(self) -> int:
        """The size to optimize for."""
        return self.min if self.opt is None else self.opt


class TensorSpec(Strict):
    """One input or output: its shape (a string names a dynamic dimension) and dtype."""

    shape: Shape = Field(
        ..., description="Sizes; a name instead of a number makes the dimension dynamic."
    )
    dtype: DType = Field("float32", description="Element type.")
    range: tuple[float, float] | None = Field(
        None, description="Legal values [low, high]; integers are drawn from it (default [0, 1])."
    )
    kind: InputKind | None = Field(
        None,
        description="Meaning of an integer input. ids: rows of a table, each of which is tried; "
        "mask: zeros and ones, with a 1 in each row; length: at most the dynamic dimension that the "
        "input itself lacks, unless `range` says otherwise. By default integers without a range "
        "that are named a mask are one, and those of a range of three or more are ids.",
    )

    @model_validator(mode="after")
    def _legal(self) -> Self:
        for size in self.shape:
            if isinstance(size, int) and size < 1:
                raise ValueError(f"a size must be at least 1, not {size}")
        if self.range is not None and not self.range[0] <= self.range[1]:
            raise ValueError(
                f"range must be [low, high], not [{self.range[0]:g}, {self.range[1]:g}]"
            )
        integer = self.dtype != "bool" and not self.dtype.startswith("float")
        if (
            self.range is not None
            and integer
            and math.ceil(self.range[0]) > math.floor(self.range[1])
        ):
            raise ValueError(
                f"there is no {self.dtype} in the range [{self.range[0]:g}, {self.range[1]:g}]"
            )
        if self.kind is not None and self.dtype.startswith("float"):
            raise ValueError(f"kind: {self.kind} is for integers, not for {self.dtype}")
        return self

    def concrete(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Return the shape with every named dimension replaced by its size in `sizes`."""
        return tuple(sizes[size] if isinstance(size, str) else size for size in self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


def complete_sizes(sizes: Mapping[str, int], dims: Mapping[str, DimRange]) -> dict[str, int]:
    """Return sizes of all dimensions, in their order: given ones, and those that follow."""
    result = {}
    for name, dim in dims.items():
        result[name] = dim.relation.size(sizes) if dim.relation else sizes[name]
    return result


def free_dims(dims: Mapping[str, DimRange]) -> dict[str, DimRange]:
    """Return the dimensions that do not follow from others."""
    return {name: dim for name, dim in dims.items() if dim.equals is None}


def profile_shapes(spec: TensorSpec, dims: Mapping[str, DimRange]) -> list[tuple[int, ...]]:
    """Return the shapes of an optimization profile: at the dynamic dimensions' min, opt and max."""
    shapes = []
    for point in range(3):
        sizes = {name: dim.bounds[point] for name, dim in dims.items()}
        shapes.append(spec.concrete(sizes))
    return shapes


Specs = dict[str, TensorSpec]
Dims = dict[str, DimRange]
Arrays = dict[str, np.ndarray[Any, Any]]


def _resolve_relations(dims: Any) -> Any:
    """Return the dimensions of a file, with relations such as `past + new` as ranges.

    Raises ValueError for a relation that cannot be read, names a dimension without a range of its
    own, or gives sizes below 1. Other faults are left for the schema to report.
    """
    if not isinstance(dims, Mapping):
        return dims
    texts = {name: text for name, value in dims.items() if (text := _relation_text(value))}
    ranges = {name: value for name, value in dims.items() if name not in texts}
    try:
        ranges = {name: DimRange.model_validate(value) for name, value in ranges.items()}
    except ValidationError:
        return ranges
    related = {name: _related(name, text, ranges) for name, text in texts.items()}
    return {name: related.get(name) or ranges[name] for name in dims}


def _relation_text(value: Any) -> str | None:
    """Return the relation of a dimension as a recipe (a text) or a manifest has it, or None."""
    text = value.get("equals") if isinstance(value, Mapping) else getattr(value, "equals", value)
    return text if isinstance(text, str) else None


def _related(name: str, text: str, ranges: Mapping[str, DimRange]) -> DimRange:
    try:
        relation = parse_relation(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    for other in relation.names:
        if other not in ranges:
            raise ValueError(f"{name}: {text}: {other!r} has no range of its own in `dims:`")
    used = {other: ranges[other] for other in relation.names}
    low, high = relation.bounds({key: Interval(dim.min, dim.max) for key, dim in used.items()}).ends
    best = relation.size(best_sizes(used))
    if low < 1:
        raise ValueError(
            f"{name}: {text} can be {low}, and a size must be at least 1: write the largest "
            "dimension as the sum of the others (`total: past + new`)"
        )
    return DimRange(min=low, opt=best, max=high, equals=text)


RelatedDims = Annotated[
    Dims, BeforeValidator(_resolve_relations, json_schema_input_type=dict[str, DimRange | str])
]
"""Dimensions as a file has them: ranges, or relations such as `past + new`."""


def mismatch(arrays: Mapping[str, Any], specs: Specs, dims: Dims) -> str | None:
    """Return how `arrays` differ from `specs` and `dims`, or None if they match.

    Checks names, dtypes, ranks, fixed sizes, ranges of dynamic sizes, and that a dimension that
    appears twice has one size.
    """
    expected = ", ".join(f"{name}: {spec}" for name, spec in specs.items())
    if unknown := [name for name in arrays if name not in specs]:
        return f"unknown name {', '.join(map(repr, unknown))}; expected {expected}"
    if missing := [name for name in specs if name not in arrays]:
        return f"missing {', '.join(map(repr, missing))}; expected {expected}"
    sizes: dict[str, int] = {}
    for name, spec in specs.items():
        if problem := _tensor_mismatch(arrays[name], spec, dims, sizes):
            return f"{name!r} {problem}; expected {spec}"
    return _relation_mismatch(sizes, dims)


def _relation_mismatch(sizes: Mapping[str, int], dims: Dims) -> str | None:
    for name, dim in dims.items():
        relation = dim.relation
        if relation is None or not {name, *relation.names} <= sizes.keys():
            continue
        if sizes[name] != (size := relation.size(sizes)):
            given = ", ".join(f"{other}={sizes[other]}" for other in relation.names)
            return f"{name}={sizes[name]}, but {name} is {relation.text}: {size} for {given}"
    return None


def _tensor_mismatch(array: Any, spec: TensorSpec, dims: Dims, sizes: dict[str, int]) -> str | None:
    if not isinstance(array, np.ndarray):
        return f"is a {type(array).__name__}, not a NumPy array"
    if isinstance(array, np.ma.MaskedArray):  # engines would read the masked values
        return "is a masked array, and models know no mask: fill it (`array.filled(value)`)"
    if array.dtype != spec.dtype:
        return f"has dtype {array.dtype}"
    if array.ndim != len(spec.shape):
        return f"has {array.ndim} dimensions (shape {list(array.shape)})"
    for axis, (size, expected) in enumerate(zip(array.shape, spec.shape, strict=True)):
        if isinstance(expected, int):
            if size != expected:
                return f"has shape {list(array.shape)}: axis {axis} is {size}, not {expected}"
        elif sizes.setdefault(expected, size) != size:
            return f"has {expected}={size}, but another dimension has {expected}={sizes[expected]}"
        elif expected in dims and not dims[expected].min <= size <= dims[expected].max:
            return f"has {expected}={size}, outside {dims[expected].min}..{dims[expected].max}"
        elif expected in dims and not dims[expected].allows(size):
            return f"has {expected}={size}, which is no multiple of {dims[expected].multiple_of}"
    return None


def export_sizes(dims: Dims) -> dict[str, int]:
    """Return the sizes to trace with: if possible not 0 or 1, which exporters specialize."""
    free = {name: max(dim.best, min(2, dim.max)) for name, dim in free_dims(dims).items()}
    return complete_sizes(free, dims)


def best_sizes(dims: Dims) -> dict[str, int]:
    """Return for each dynamic dimension the size to be fastest at."""
    return {name: dim.best for name, dim in dims.items()}


def graph_outputs(inputs: Collection[str], outputs: Collection[str]) -> dict[str, str]:
    """Return the name of each output inside a graph whose values have one name each (ONNX).

    An output that shares its name with an input, as a state that is passed on, is `NAME_out` there.
    """
    taken = {*inputs, *outputs}
    names = {}
    for name in outputs:
        inner = name
        if name in inputs:
            while inner in taken:
                inner += "_out"
        taken.add(inner)
        names[name] = inner
    return names
