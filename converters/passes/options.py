"""The passes of an artifact: what a recipe may ask for, in which order."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from converters.passes.quantize.options import SHORT, QuantizeOptions
from runtimes.spec import Strict

_Word = Literal["int8", "int4", "dynamic", "weight-only"]
assert set(SHORT) == set(_Word.__args__)  # type: ignore[attr-defined]


class PassOptions(Strict):
    """One pass: a mapping with its name as the only key."""

    quantize: Annotated[
        QuantizeOptions | None, BeforeValidator(lambda v: v, json_schema_input_type=_Word | QuantizeOptions)
    ] = Field(None, description="Integers in place of floats: `quantize: int8`, or a mapping of options.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1 or self.quantize is None:
            raise ValueError("each pass is one mapping with one key, as in `- quantize: int8`")
        return self
