"""The schema of `data:`."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, PositiveInt, model_validator

from runtimes.spec import Strict


class SampleSource(Strict):
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

    calibration: SampleSource | None = Field(
        None, description="What the ranges of static quantization are found on; never used to judge."
    )
    training: SampleSource | None = Field(
        None,
        description="What the pass `recover` learns from; no labels needed. Default: all of calibration's source. "
        "What judges is left out.",
    )
    evaluation: SampleSource | None = Field(
        None,
        description="Probes of the validator, in place of seeded noise. Where both name the same source, the "
        "samples that calibrate are left out here.",
    )
