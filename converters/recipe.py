"""The recipe: its schema and every default. Nothing heavy is imported to check one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, ValidationError, model_validator

from converters.data_problems import budget_problems, calibration_problems, data_problems, training_problems
from converters.document import Document, Problem, RecipeError, find, override, read
from converters.exporters import EXPORTERS
from converters.exporters.base import Exporter, ExporterOptions
from converters.passes.order import order_problem
from converters.passes.quantize.options import QuantizeOptions
from converters.problems import explain
from converters.sources import torchvision_names
from runtimes.errors import UsageError
from runtimes.preprocess import Preprocess
from runtimes.registry import nearest
from runtimes.spec import Dims, Specs, Strict, profile_shapes
from runtimes.validator.defaults import Gates

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
"""The recipes that come with a clone of the repository."""


Device = Literal["cpu", "cuda", "intel-gpu", "intel-npu"]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _filled(value: Any) -> Any:
    return {} if value is None else value  # `onnx:` with nothing behind it asks for the defaults


class Samples(Strict):
    """Real samples: a folder of pictures, a file of arrays, or a Python factory of a dataset."""

    images: str | None = Field(None, description="Folder of pictures, relative to the recipe; needs `preprocess:`.")
    arrays: str | None = Field(
        None,
        description="A .npy file (one input), or .npz or .safetensors with an array for each input; the first axis "
        "counts the samples. Relative to the recipe.",
    )
    factory: str | None = Field(
        None,
        description="python:package.module:function, which returns a sequence of samples: an array for each "
        "sample, or a mapping of input names to arrays, alone or with its label; without a batch axis.",
    )
    random: int | None = Field(None, ge=0, description="Seed of noise in place of data. It calibrates for noise.")
    args: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the factory.")
    samples: PositiveInt | None = Field(None, description="How many to use, spread evenly over all there are.")
    labels: str | None = Field(
        None,
        description="Of pictures: folder (names of class folders), prefix (digits of file names), or a CSV of "
        "name,index. Of arrays: the name of the array that holds them.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"name one of {', '.join(SOURCES)}" + (f", not {' and '.join(given)}" if given else "")
            )
        return self

    @property
    def origin(self) -> tuple[str | None, ...]:
        """Where the samples come from: two with the same share them."""
        return self.images, self.arrays, self.factory, str(sorted(self.args.items()))


SOURCES = ("images", "arrays", "factory", "random")


class Data(Strict):
    """Real samples."""

    calibration: Samples | None = Field(
        None, description="What the ranges of static quantization are found on; never used to judge."
    )
    training: Samples | None = Field(
        None,
        description="What the pass `recover` learns from; no labels needed. Default: all of calibration's source. "
        "What judges is left out.",
    )
    evaluation: Samples | None = Field(
        None,
        description="Probes of the validator, in place of seeded noise. Where both name the same source, the "
        "samples that calibrate are left out here.",
    )


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


@dataclass(frozen=True)
class Artifact:
    """One artifact of a recipe: its exporter and options."""

    name: str
    exporter: Exporter
    options: ExporterOptions
    gates: Gates


@dataclass(frozen=True)
class Plan:
    """A recipe that has been checked, with where it stands, and the overrides that it was read with."""

    name: str
    document: Document
    recipe: Recipe
    artifacts: tuple[Artifact, ...]
    settings: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder that the recipe's relative paths start from."""
        return self.document.path.resolve().parent


def load_recipe(name: str | Path, settings: Sequence[str] = (), folders: Sequence[Path] = ()) -> Plan:
    """Find, read and check a recipe.

    Args:
        name: a path, or the name of a recipe in `folders`, ./configs or Burnish's own configs.
        settings: overrides such as `artifacts.onnx.opset=18`.
        folders: looked in before the usual ones.

    Raises:
        RecipeError: with everything that is wrong at once, each with file, line and key.
        UsageError: there is no such recipe.
    """
    path = find(str(name), [*folders, Path("configs"), CONFIGS])
    document = read(path, CONFIGS)
    for setting in settings:
        document = override(document, setting)
    recipe, problems = explain(Recipe, document.data, document, ())
    artifacts, more = _artifacts(document, recipe.gates if recipe else Gates())
    problems += [*more, *_model_problems(document)]
    known = recipe or _readable(document.data)
    unreadable = {name for name in Recipe.model_fields if name in document.data} - known.model_fields_set
    if known.model_fields_set >= {"inputs"} and not unreadable & {"dims", "data", "preprocess"}:
        problems += [*_dim_problems(known, document), *data_problems(known, document)]
        problems += calibration_problems(known, artifacts, document)
        problems += training_problems(known, artifacts, document)
    if not unreadable & {"task", "data"}:
        problems += budget_problems(known, artifacts, document)
    if not unreadable & {"task", "gates"}:
        problems += _gate_problems(known, document)
    problems += _output_problems(known, document)
    if problems or recipe is None:
        order = {str(document.path): 0}
        raise RecipeError(sorted(problems, key=lambda p: (order.get(p.mark.file, 1), p.mark.line or 0)))
    name = path.stem.encode("utf-8", "replace").decode()  # a file name may be no UTF-8
    return Plan(name, document, recipe, tuple(artifacts), tuple(settings))


def _artifacts(document: Document, gates: Gates) -> tuple[list[Artifact], list[Problem]]:
    """Check the options of every artifact by the classes of their exporters."""
    listed = document.data.get("artifacts")
    found, problems = [], []
    for name, raw in listed.items() if isinstance(listed, dict) else ():
        keys = ("artifacts", name)
        if raw is not None and not isinstance(raw, dict):
            continue  # the recipe's own schema has said so
        options = {"format": name, **(raw or {})}
        if not _is_folder_name(name):
            words = (
                f"a name is letters, digits, - _ . ({_LONGEST} bytes at most) and none of {', '.join(_RESERVED)}"
            )
            problems.append(Problem(document.mark(keys), f"artifacts.{name}", words))
        try:
            exporter: Exporter = EXPORTERS.get(str(options["format"]))()
        except UsageError as error:
            given = isinstance(raw, dict) and "format" in raw
            key = (*keys, "format") if given else keys
            hint = "" if given else " (an artifact whose name is not a format needs `format:`)"
            problems.append(Problem(document.mark(key), f"artifacts.{name}", f"{error}{hint}"))
            continue
        checked, wrong = explain(exporter.Options, options, document, keys)
        problems += wrong
        if checked and (why := _impossible(exporter, checked)):
            problems.append(Problem(document.mark((*keys, "passes")), f"artifacts.{name}.passes", why))
        if checked:
            asked = checked.gates.model_dump(exclude_unset=True) if checked.gates else {}
            merged = gates.model_copy(update={**_budget_gate(checked.quantize), **asked})
            found.append(Artifact(name, exporter, checked, merged))
    return found, problems


def _impossible(exporter: Exporter, options: ExporterOptions) -> str | None:
    """Why a format cannot have the passes that are asked for, or None."""
    if problem := order_problem(options.passes):
        return problem
    if options.quantize is None:
        return None
    every = {name: EXPORTERS.get(name).quantization for name in EXPORTERS.shipped}
    mode = options.quantize.mode
    if mode in exporter.quantization:
        return None
    able = ", ".join(name for name, modes in every.items() if mode in modes)
    return f"{exporter.format} has no {mode} quantization; those that do: {able}"


def _budget_gate(quantize: QuantizeOptions | None) -> dict[str, float]:
    """The gate that proves an accuracy budget: what was searched for is judged like everything else."""
    if quantize is None or quantize.max_drop is None:
        return {}
    share = quantize.max_drop / 100
    return {
        "agreement": {"top1_agreement": 1 - share},
        "top1": {"accuracy_drop": share},
        "sqnr": {"sqnr_db": -20 * math.log10(share)},
    }[quantize.metric]


def _readable(data: dict[str, Any]) -> Recipe:
    """The parts of a faulty recipe that can be read, so that what is wrong between them is told at once too."""
    whole = {"model": "", "inputs": {"x": {"shape": [1]}}, "artifacts": {"x": {}}}
    parts: dict[str, Any] = {}
    for name in Recipe.model_fields:
        if name in data:
            with contextlib.suppress(ValidationError):  # its own mistakes have been told
                parts[name] = getattr(Recipe.model_validate({**whole, name: data[name]}), name)
    return Recipe.model_construct(set(parts), **{"inputs": {}, **parts})


# What a build keeps beside its artifacts.
_RESERVED = ("logs", "models", "build.json", "steps.json", "reference.safetensors")
_LONGEST = 100  # bytes: its log, its script and its scratch have longer names, and file systems take 255


def _is_folder_name(name: str) -> bool:
    return (
        name not in _RESERVED
        and len(name.encode()) <= _LONGEST
        and name[:1].isalnum()
        and all(letter.isalnum() or letter in "-_." for letter in name)
    )


def _model_problems(document: Document) -> list[Problem]:
    model = document.data.get("model")
    if not isinstance(model, str):
        return []  # the schema has said so
    kind, _, rest = model.partition(":")
    mark = document.mark(("model",))
    if kind == "torchvision":
        names = torchvision_names()
        if names and rest not in names:
            return [
                Problem(mark, "model", f"torchvision has no classification model {rest!r}{nearest(rest, names)}")
            ]
        return []
    if kind == "python":
        module, _, factory = rest.partition(":")
        if not module or not factory.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
            return [Problem(mark, "model", "must look like python:package.module:factory")]
        return []
    return [Problem(mark, "model", "must be torchvision:NAME or python:package.module:factory")]


def _gate_problems(recipe: Recipe, document: Document) -> list[Problem]:
    asked = [name for name in ("top1_agreement", "accuracy_drop") if getattr(recipe.gates, name) is not None]
    if recipe.task == "classification":
        return []
    why = "only a classifier has it: add `task: classification`"
    return [Problem(document.mark(("gates", name)), f"gates.{name}", why) for name in asked]


_LARGEST_INPUT = 1 << 28  # values; a gigabyte of float32


def _output_problems(recipe: Recipe, document: Document) -> list[Problem]:
    names = recipe.outputs or ()
    mark = document.mark(("outputs",))
    return [Problem(mark, "outputs", f"{name!r} is named twice") for name in set(names) if names.count(name) > 1]


def _dim_problems(recipe: Recipe, document: Document) -> list[Problem]:
    used = {size for spec in recipe.inputs.values() for size in spec.shape if isinstance(size, str)}
    problems = [
        Problem(
            document.mark(("inputs",)),
            f"dims.{name}",
            f"the dimension {name!r} has no range; add it to `dims:`",
        )
        for name in sorted(used - set(recipe.dims))
    ]
    problems += [
        Problem(document.mark(("dims", name)), f"dims.{name}", f"no input has this dimension{nearest(name, used)}")
        for name in recipe.dims
        if name not in used
    ]
    for name, spec in recipe.inputs.items():
        known = all(size in recipe.dims for size in spec.shape if isinstance(size, str))
        count = math.prod(profile_shapes(spec, recipe.dims)[-1]) if known else 0
        if count > _LARGEST_INPUT:
            why = f"at its largest this input has {count:.3g} values, and the validator runs it: lower the `max`"
            problems.append(Problem(document.mark(("inputs", name)), f"inputs.{name}", why))
    return problems
