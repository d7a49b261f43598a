"""Types of the keys that readers use in a manifest's free parts; others mean it is damaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_Counts = Mapping[str, int] | None
_Words = Mapping[str, str]


class _Open(BaseModel):
    """Facts to which exporters, including those of other packages, may add keys of their own."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Layer(BaseModel):
    """An entry of `_Work.others`: a ComputingLayer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    layer: str
    kind: str
    precision: str
    multiply_adds: int | None = Field(None, ge=0)


class _Work(_Open):
    """`Manifest.build["work"]`: see `runtimes.precision.judge.Work`."""

    precision: str
    layers: int = Field(ge=0)
    multiply_adds: int | None = Field(None, ge=0)
    others: Sequence[_Layer] = ()


class _Build(_Open):
    """`Manifest.build`: the exporter's report."""

    changed: str | None = Field(None, pattern=r"^models/[0-9A-Za-z]{1,64}$")
    compute_layers: _Counts = None
    flavor: str = ""
    flops: int | float | None = None
    hint: str = ""
    inference_precision: str = ""
    isa: Sequence[str] = ()
    kept_layers: Sequence[str] = ()
    model_args: Mapping[str, Any] = Field(default_factory=dict)
    notes: Sequence[str] = ()
    operators: _Counts = None
    options: Mapping[str, Any] = Field(default_factory=dict)
    parameters: int = 0
    platform: str = ""
    unfused: Sequence[_Words] | None = None
    versions: _Words = Field(default_factory=dict)
    work: _Work | None = None


class _Weights(_Open):
    """`Manifest.weights` and `Build.weights`: a WeightsRecord."""

    source: str = ""
    sha256: str | None = None
    random: bool = False
    tried: Sequence[_Words] = ()


class _Machine(_Open):
    """`Build.machine`: the keys that tables show."""

    cpu: str | None = None
    isa: Sequence[str] | None = None
    gpus: Sequence[str] | None = None
    cores: int | None = None


def _checked(kind: type[_Open]) -> AfterValidator:
    def check(value: dict[str, Any]) -> dict[str, Any]:
        kind.model_validate(value)
        return value

    return AfterValidator(check)


BuildFacts = Annotated[dict[str, Any], _checked(_Build)]
WeightsFacts = Annotated[dict[str, Any], _checked(_Weights)]
MachineFacts = Annotated[dict[str, Any], _checked(_Machine)]
