"""The schema of a recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from converters.recipe.data import Data
from converters.recipe.metric import Metric
from converters.recipe.probes import Probes
from runtimes.artifact.gates import Gates, OutputGates
from runtimes.preprocess.image import Preprocess
from runtimes.spec import RelatedDims, Specs, Strict

Device = Literal["cpu", "cuda", "intel-gpu", "intel-npu"]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _named(value: Any) -> Any:
    return {"function": value} if isinstance(value, str) else value


def _filled(value: Any) -> Any:
    return {} if value is None else value  # `onnx:` without a value means the defaults


class Recipe(Strict):
    """A recipe: the model, its inputs, its data, the artifacts to build, and their gates."""

    model: str = Field(
        ...,
        description="Source of the eager model: torchvision:NAME, or "
        "python:package.module:factory, a function that returns a torch.nn.Module.",
    )
    args: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of the model's factory."
    )
    weights: Annotated[
        tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | list[str])
    ] = Field(
        (),
        description="Source of the weights, or a list of sources of which the first available one "
        "is used: a file, package:DISTRIBUTION/path (a file of an installed package), DEFAULT "
        "(torchvision's), or random:SEED. By default DEFAULT for torchvision, or else the weights "
        "that the factory returns.",
    )
    trust: bool = Field(
        False,
        description="Allow weights from files that are programs: TorchScript modules and files of "
        "torch.export. Only their tensors are read; their code is not run.",
    )
    inputs: Specs = Field(
        ...,
        min_length=1,
        description="Inputs of the model: name to shape and dtype. Named after parameters of "
        "forward() they go by name, otherwise in order. boxes.0 is an element of a list, "
        "batch.image a value of a dict.",
    )
    outputs: tuple[str, ...] | dict[str, OutputGates] | None = Field(
        None,
        description="Names of the outputs, in order. By default their places in the result of "
        "forward(): logits, boxes.0; output_0 and so on in a tuple or list. A mapping of names "
        "to gates judges these outputs by their own, or not at all "
        "(`ignore: true`); if its names are some of those that forward() gives, the others need "
        "not be named.",
    )
    state: dict[str, str] = Field(
        default_factory=dict,
        description="Explicit state of the model: each input with the output that becomes it in the "
        "next call. Artifacts are then also judged on calls in a row.",
    )
    dims: RelatedDims = Field(
        default_factory=dict,
        description="Ranges of the dynamic dimensions that shapes name, or their relations to "
        "others: `total: past + new` (names and integers with + - *).",
    )
    task: Literal["classification"] | None = Field(
        None,
        description="Task of the model. For classification the first output is logits, and "
        "agreement and accuracy are measured.",
    )
    classes: Literal["imagenet"] | tuple[str, ...] | None = Field(
        None, description="Names of the classes, in order: a list, or imagenet."
    )
    preprocess: Preprocess | None = Field(
        None, description="Preprocessing of an image into the model's first input."
    )
    data: Data = Field(
        default_factory=Data,
        description="Samples for calibration, training and evaluation.",
    )
    devices: Annotated[
        tuple[Device, ...], BeforeValidator(_listed, json_schema_input_type=Device | list[Device])
    ] = Field(
        ("cpu",),
        min_length=1,
        description="Devices that artifacts are judged on. An artifact that runs on none of them "
        "is judged on its own first device.",
    )
    seed: int = Field(
        0, ge=0, description="Seed of the random probes that are used without evaluation data."
    )
    metric: Annotated[
        Metric | None, BeforeValidator(_named, json_schema_input_type=str | Metric | None)
    ] = Field(None, description="A metric of your own, which `gates: {metric_drop: ...}` limits.")
    probes: Probes = Field(default_factory=Probes, description="Inputs that the validator tries.")
    gates: Gates = Field(
        default_factory=Gates, description="Gates: requirements on every artifact's measurements."
    )
    artifacts: dict[str, Annotated[dict[str, Any], BeforeValidator(_filled)]] = Field(
        ...,
        min_length=1,
        description="Artifacts to build: name to options. The name is the format, unless `format:` "
        "names another.",
    )
