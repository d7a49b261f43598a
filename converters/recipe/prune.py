"""The schema of the pass `prune`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from runtimes.spec import Strict

Share = Annotated[float, Field(gt=0, lt=1)]

_SEXAGESIMAL = 2 * 60 + 4  # YAML 1.1 reads `2:4` without quotes as a number of base 60

KINDS = ("structured", "pattern", "unstructured")
_STRUCTURED_ONLY = {"of", "engine", "importance", "most", "limits", "round_to"}


class PruneOptions(Strict):
    """Options of the pass `prune`: one of structured, pattern and unstructured."""

    structured: Share | None = Field(
        None,
        description="Structured pruning: share of `of` to remove, as whole channels, attention "
        "heads and neurons. The model becomes smaller and faster in every engine.",
    )
    of: Literal["macs", "params", "latency"] = Field(
        "macs",
        description="Cost that `structured` is a share of: multiply-accumulate operations, "
        "parameters, or the latency that is measured layer by layer in `engine`.",
    )
    engine: Literal["onnx", "openvino", "torch"] = Field(
        "onnx",
        description="Engine that `of: latency` measures: ONNX Runtime, OpenVINO, or eager PyTorch.",
    )
    importance: Literal["magnitude", "taylor", "batchnorm"] = Field(
        "magnitude",
        description="How channel importance is computed. magnitude: L2 norm of the channel's "
        "weights; taylor: weight times gradient on the recipe's data; batchnorm: scale of the "
        "BatchNorm that follows.",
    )
    most: Share = Field(
        0.75,
        description="Maximum share of a layer's channels to remove, counted from the original "
        "model, even if several passes prune it.",
    )
    limits: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        default_factory=dict,
        description="`most` for single layers: module path or pattern to share. 0 leaves a layer "
        "unpruned.",
    )
    round_to: PositiveInt = Field(
        8,
        description="Round numbers of channels to a multiple of this, because kernels are fast "
        "with such numbers.",
    )
    pattern: Literal["2:4"] | None = Field(
        None,
        description="2:4 sparsity: two of four neighbouring weights are set to zero, for the "
        "sparse tensor cores of NVIDIA GPUs.",
    )
    unstructured: Share | None = Field(
        None,
        description="Unstructured pruning: share of the weights of all layers to set to zero, "
        "except embeddings. Files compress better, but engines are not faster.",
    )
    exclude: tuple[str, ...] = Field(
        (),
        description="Layers that are not pruned: module paths such as layer2.0.conv1, or patterns "
        "such as head.*",
    )

    @field_validator("pattern", mode="before")
    @classmethod
    def _unquoted(cls, value: Any) -> Any:
        return "2:4" if value == _SEXAGESIMAL else value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = list(self._named())
        if len(kinds) != 1:
            but = f", not {' and '.join(kinds)}" if kinds else ""
            raise ValueError(f"name one of {', '.join(KINDS)}{but}")
        misplaced = _STRUCTURED_ONLY & self.model_fields_set
        if misplaced and self.structured is None:
            names = ", ".join(sorted(misplaced))
            raise ValueError(f"{names}: only for `structured`, not for `{kinds[0]}`")
        if "engine" in self.model_fields_set and self.of != "latency":
            raise ValueError("engine: only for `of: latency`: add that, or remove engine")
        return self

    @property
    def varies(self) -> str | None:
        """Reason why pruning again may remove other channels, or None."""
        return "prune chose channels by measured latency" if self.of == "latency" else None

    @property
    def kind(self) -> str:
        """Kind of pruning: one of KINDS."""
        return next(self._named())

    def _named(self) -> Iterator[str]:
        """Yield the kinds of pruning that are given."""
        for name in KINDS:
            if getattr(self, name) is not None:
                yield name
