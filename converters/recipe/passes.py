"""The schema of `passes:` of an artifact."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from converters.recipe.prune import PruneOptions
from converters.recipe.quantize import QuantizeOptions
from converters.recipe.recover import RecoverOptions
from runtimes.spec import Strict

_QuantizeWord = Literal["int8", "int4", "dynamic", "weight-only"]
_RecoverWord = Literal["logits", "features", "both", "batchnorm"]


class PassOptions(Strict):
    """One pass: a mapping with the pass's name as its only key."""

    prune: PruneOptions | None = Field(
        None,
        description="Prune the model: remove channels, or set weights to zero, for example "
        "`prune: {structured: 0.5}`.",
    )
    # The validators change nothing: they add the words that the options accept to the JSON Schema.
    recover: Annotated[
        RecoverOptions | None,
        BeforeValidator(lambda value: value, json_schema_input_type=_RecoverWord | RecoverOptions),
    ] = Field(
        None,
        description="Recover the accuracy of a pruned model by distillation from the original: "
        "`recover: logits`, or a mapping of options.",
    )
    quantize: Annotated[
        QuantizeOptions | None,
        BeforeValidator(
            lambda value: value, json_schema_input_type=_QuantizeWord | QuantizeOptions
        ),
    ] = Field(None, description="Quantize the graph: `quantize: int8`, or a mapping of options.")

    @model_validator(mode="after")
    def _one_pass(self) -> Self:
        if len(self.model_fields_set) != 1 or getattr(self, self.name) is None:
            raise ValueError("each pass is a mapping with one key, as in `- quantize: int8`")
        return self

    @property
    def name(self) -> str:
        """Name of the pass."""
        return next(iter(self.model_fields_set))

    @property
    def varies(self) -> str | None:
        """Reason why the pass may give another result when it is repeated, or None."""
        options: PruneOptions | RecoverOptions | QuantizeOptions = getattr(self, self.name)
        return options.varies
