"""What a recipe may say of pruning."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from runtimes.spec import Strict

Share = Annotated[float, Field(gt=0, lt=1)]

_SEXAGESIMAL = 2 * 60 + 4  # what YAML 1.1 reads where `2:4` has no quotes

KINDS = ("structured", "pattern", "unstructured")


class PruneOptions(Strict):
    """Options of the pass `prune`: one of structured, pattern and unstructured."""

    structured: Share | None = Field(
        None,
        description="Share of `of` to remove, as whole channels, heads and neurons: the model becomes smaller, and "
        "every engine gains.",
    )
    of: Literal["macs", "params", "latency"] = Field(
        "macs", description="What `structured` is a share of. latency: as measured, layer by layer, in `engine`."
    )
    engine: Literal["onnx", "openvino", "torch"] = Field(
        "onnx", description="Where `of: latency` measures; torch is the eager model's own kernels."
    )
    importance: Literal["magnitude", "taylor", "batchnorm"] = Field(
        "magnitude",
        description="How a channel's worth is told. magnitude: L2 norm of its weights; taylor: weight times "
        "gradient on the recipe's data; batchnorm: the scale behind it.",
    )
    most: Share = Field(
        0.75,
        description="At most this share of one layer's channels goes, counted from the original's, whatever passes "
        "came before.",
    )
    limits: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        default_factory=dict, description="`most` of single layers, by module path or pattern; 0 leaves them alone."
    )
    round_to: PositiveInt = Field(8, description="Channels stay a multiple of this: what kernels are fast with.")
    pattern: Literal["2:4"] | None = Field(
        None,
        description="Of four neighbouring weights two become zero, for the sparse tensor cores of NVIDIA GPUs.",
    )
    unstructured: Share | None = Field(
        None,
        description="Share of the weights of all layers to set to zero; embeddings stay. Files compress better; "
        "dense engines gain nothing.",
    )
    exclude: tuple[str, ...] = Field(
        (),
        description="Layers that stay as they are: module paths as in layer2.0.conv1, or patterns such as head.*",
    )

    @field_validator("pattern", mode="before")
    @classmethod
    def _unquoted(cls, value: Any) -> Any:
        return "2:4" if value == _SEXAGESIMAL else value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            found = f", not {' and '.join(given)}" if given else ""
            raise ValueError(f"name one of {', '.join(KINDS)}{found}")
        only = {"of", "engine", "importance", "most", "limits", "round_to"} & self.model_fields_set
        if only and self.structured is None:
            raise ValueError(f"{', '.join(sorted(only))} is for `structured`, not for `{given[0]}`")
        if "engine" in self.model_fields_set and self.of != "latency":
            raise ValueError("engine is where `of: latency` measures: add it, or leave engine out")
        return self

    @property
    def varies(self) -> str | None:
        """Why pruning again may remove other channels, or None."""
        return "prune chose channels by measured latency" if self.of == "latency" else None

    @property
    def kind(self) -> str:
        """Which of the three kinds of pruning it is."""
        return next(name for name in KINDS if getattr(self, name) is not None)
