"""The passes of an artifact: what a recipe may ask for."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from converters.recipe.prune import PruneOptions
from converters.recipe.quantize import QuantizeOptions
from converters.recipe.recover import RecoverOptions
from runtimes.spec import Strict

_Word = Literal["int8", "int4", "dynamic", "weight-only"]
_Lesson = Literal["logits", "features", "both", "batchnorm"]


class PassOptions(Strict):
    """One pass: a mapping with its name as the only key."""

    prune: PruneOptions | None = Field(None, description="Make the model smaller: `prune: {structured: 0.5}`.")
    # The validators change nothing: they tell the JSON Schema of the words that the options take as well.
    recover: Annotated[
        RecoverOptions | None, BeforeValidator(lambda v: v, json_schema_input_type=_Lesson | RecoverOptions)
    ] = Field(
        None, description="Give a pruned model its accuracy back: `recover: logits`, or a mapping of options."
    )
    quantize: Annotated[
        QuantizeOptions | None, BeforeValidator(lambda v: v, json_schema_input_type=_Word | QuantizeOptions)
    ] = Field(None, description="Integers in place of floats: `quantize: int8`, or a mapping of options.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1 or getattr(self, next(iter(self.model_fields_set))) is None:
            raise ValueError("each pass is one mapping with one key, as in `- quantize: int8`")
        return self

    @property
    def name(self) -> str:
        """Which pass it is."""
        return next(iter(self.model_fields_set))

    @property
    def varies(self) -> str | None:
        """Why doing it again may give another result, or None."""
        options: PruneOptions | RecoverOptions | QuantizeOptions = getattr(self, self.name)
        return options.varies
