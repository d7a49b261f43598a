"""The schema of a recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from converters.recipe.data import Data
from runtimes.artifact.gates import Gates
from runtimes.preprocess.image import Preprocess
from runtimes.spec import Dims, Specs, Strict

Device = Literal["cpu", "cuda", "intel-gpu", "intel-npu"]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _filled(value: Any) -> Any:
    return {} if value is None else value  # `onnx:` with nothing behind it asks for the defaults


class Recipe(Strict):
    """What to build, from what, and what it must prove."""

    model: str = Field(..., description="torchvision:NAME, or python:package.module:factory.")
    args: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the model's factory.")
    weights: Annotated[tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | list[str])] = Field(
        (),
        description="Sources in order; the first that can be had is used. DEFAULT, a file, "
        "package:DIST/path, random:SEED. Default: DEFAULT for torchvision, else as the factory made it.",
    )
    trust: bool = Field(
        False,
        description="Whether weights may come from files that are programs: TorchScript modules and what "
        "torch.export saved. Their tensors are read, their code is not run.",
    )
    inputs: Specs = Field(..., min_length=1, description="Name to shape and dtype, in the order of forward().")
    outputs: tuple[str, ...] | None = Field(None, description="Names for the outputs, in order.")
    dims: Dims = Field(default_factory=dict, description="Range of every dimension named in a shape.")
    task: Literal["classification"] | None = Field(None, description="What the outputs mean.")
    classes: Literal["imagenet"] | tuple[str, ...] | None = Field(None, description="Class names.")
    preprocess: Preprocess | None = Field(None, description="From a picture to the model's first input.")
    data: Data = Field(default_factory=Data)
    devices: Annotated[
        tuple[Device, ...], BeforeValidator(_listed, json_schema_input_type=Device | list[Device])
    ] = Field(("cpu",), min_length=1, description="One row per artifact and device that it can run on.")
    seed: int = Field(0, ge=0, description="Seed of the synthetic probes.")
    gates: Gates = Field(default_factory=Gates, description="Requirements on every artifact.")
    artifacts: dict[str, Annotated[dict[str, Any], BeforeValidator(_filled)]] = Field(
        ...,
        min_length=1,
        description="Name to options; the name is the format unless `format:` says another.",
    )
