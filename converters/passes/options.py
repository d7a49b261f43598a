"""The passes of an artifact: what a recipe may ask for, in which order."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from converters.passes.quantize.options import QuantizeOptions
from runtimes.spec import Strict

_Word = Literal["int8", "int4", "dynamic", "weight-only"]


class PassOptions(Strict):
    """One pass: a mapping with its name as the only key."""

    # The validator changes nothing: it tells the JSON Schema of the words that QuantizeOptions takes as well.
    quantize: Annotated[
        QuantizeOptions | None, BeforeValidator(lambda v: v, json_schema_input_type=_Word | QuantizeOptions)
    ] = Field(None, description="Integers in place of floats: `quantize: int8`, or a mapping of options.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1 or self.quantize is None:
            raise ValueError("each pass is one mapping with one key, as in `- quantize: int8`")
        return self
