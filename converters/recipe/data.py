"""The schema of `data:`."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, PositiveInt, model_validator

from runtimes.spec import Strict


class SampleSource(Strict):
    """Source of samples: a folder of images, a file of arrays, a Python factory, or noise."""

    images: str | None = Field(
        None,
        description="Folder of images (searched recursively), relative to the recipe. Needs "
        "`preprocess:`.",
    )
    arrays: str | None = Field(
        None,
        description="A .npy file (for a model with one input), or a .npz or .safetensors file with "
        "an array per input, relative to the recipe. The first axis counts the samples.",
    )
    factory: str | None = Field(
        None,
        description="python:package.module:function that returns a sequence of samples without a "
        "batch axis. A sample is an array, or a mapping of input names to arrays, or a pair of "
        "that and its label.",
    )
    random: int | None = Field(
        None,
        ge=0,
        description="Seed of random noise in place of data. Ranges calibrated on noise do not fit "
        "real inputs.",
    )
    args: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of `factory`."
    )
    samples: PositiveInt | None = Field(
        None,
        description="Number of samples to use, spread evenly over the source. By default 100 "
        "calibrate; all samples with labels judge, and 24 if there are no labels.",
    )
    labels: str | None = Field(
        None,
        description="Labels of the samples. For `images`: `folder` (a folder per class, numbered "
        "in alphabetical order), `prefix` (the digits that a file name starts with), or a CSV file "
        "with rows of file name and class index. For `arrays`: name of the array with indices.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        names = [name for name in SOURCES if getattr(self, name) is not None]
        if len(names) != 1:
            but = f", not {' and '.join(names)}" if names else ""
            raise ValueError(f"name one of {', '.join(SOURCES)}{but}")
        return self

    @property
    def origin(self) -> tuple[str | None, ...]:
        """Origin of the samples: two sources with the same origin share them."""
        return self.images, self.arrays, self.factory, str(sorted(self.args.items()))


SOURCES = ("images", "arrays", "factory", "random")


class Data(Strict):
    """Sources of samples, by their use."""

    calibration: SampleSource | None = Field(
        None,
        description="Samples for calibration of static quantization. They are never used for "
        "evaluation.",
    )
    training: SampleSource | None = Field(
        None,
        description="Samples that the pass `recover` and `importance: taylor` train on, without "
        "labels. By default every sample of the calibration source. Samples of the evaluation are "
        "left out.",
    )
    evaluation: SampleSource | None = Field(
        None,
        description="Samples that the validator compares artifacts on. By default seeded noise. If "
        "calibration has the same source, its samples are left out here.",
    )
