"""Image preprocessing as the manifest specifies it: resize, crop, scale, normalize."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from runtimes.errors import InputError
from runtimes.files.regular import open_regular
from runtimes.spec import Strict

_LARGEST = 8192  # pixels of a side: a picture of 800 MB in float32; manifests may be foreign
# The decoders that files can reach. Pillow has forty more: one starts Ghostscript, most are for
# formats of games and scanners that nobody has attacked or mended for years.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
_LONGEST_SIDE = 65_535  # pixels: JPEG's own limit; a side is resized together with the other one
_MOST_PIXELS = 178_956_970  # before the crop: the number that Pillow refuses to open, 537 MB


class Preprocess(Strict):
    """The usual preprocessing of image classifiers, in torchvision's order."""

    resize: PositiveInt | None = Field(
        None, le=_LARGEST, description="Size of the shorter side, in pixels, before the crop."
    )
    crop: PositiveInt | None = Field(
        None, le=_LARGEST, description="Side of the square cut from the middle, in pixels."
    )
    interpolation: Literal["nearest", "bilinear", "bicubic"] = Field(
        "bilinear", description="How pixels are resampled when the picture is resized."
    )
    mean: tuple[float, ...] = Field(
        (0.0,), description="Mean per channel, or one for all channels, of values in 0..1."
    )
    std: tuple[float, ...] = Field(
        (1.0,), description="Standard deviation per channel, or one for all, of values in 0..1."
    )
    color: Literal["rgb", "grey"] = Field(
        "rgb", description="Channels the model takes: three, or one of grey."
    )

    @model_validator(mode="after")
    def _channels(self) -> Self:
        channels = 3 if self.color == "rgb" else 1
        if len(self.mean) not in (1, channels) or len(self.std) not in (1, channels):
            raise ValueError(f"mean and std need 1 or {channels} numbers for {self.color} pictures")
        if min(self.std) <= 0:
            raise ValueError("std must be above 0")
        return self


def read_image(path: str | Path, how: Preprocess) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Read a picture and prepare it.

    Returns:
        float32 [channels, height, width], normalized.

    Raises:
        InputError: the file is no JPEG, PNG, WebP, BMP, GIF or TIFF picture, is damaged, too large,
            or smaller than the crop.
    """
    picture = _decode(path, "RGB" if how.color == "rgb" else "L")
    if how.resize:
        size = _resized(picture.size, how.resize)
        _check_size(size, path, f"resized to {how.resize} pixels of its shorter side, it ")
        picture = picture.resize(size, _filter(how.interpolation))
    if how.crop:
        picture = picture.crop(_middle(picture.size, how.crop, path))
    pixels = np.asarray(picture, dtype=np.float32) / np.float32(255)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    mean = np.asarray(how.mean, dtype=np.float32)[:, None, None]
    std = np.asarray(how.std, dtype=np.float32)[:, None, None]
    return np.ascontiguousarray((pixels - mean) / std)


def _decode(path: str | Path, mode: str) -> Any:
    """Return the picture in a file, in Pillow's `mode`. Raises InputError as `read_image` does."""
    from PIL import Image, UnidentifiedImageError

    # Pillow's readers raise all of these for damaged files, mostly OSError.
    damaged = (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        Image.DecompressionBombError,
    )
    try:
        with open_regular(path) as file, Image.open(file, formats=_FORMATS) as image:
            _check_size(image.size, path, "it ")
            return image.convert(mode)
    except UnidentifiedImageError as error:
        kinds = "JPEG, PNG, WebP, BMP, GIF or TIFF"
        raise InputError(
            f"cannot read {path} as a picture: it is no {kinds} file, whatever its name says; "
            "convert it to one of them"
        ) from error
    except damaged as error:
        raise InputError(f"cannot read {path} as a picture: {error}") from error


def _check_size(size: tuple[int, int], path: str | Path, subject: str) -> None:
    """Raise InputError for a picture of more pixels than any model takes."""
    width, height = size
    if max(size) > _LONGEST_SIDE or width * height > _MOST_PIXELS:
        raise InputError(
            f"cannot read {path} as a picture: {subject}would have {width:,} x {height:,} pixels, "
            f"and at most {_LONGEST_SIDE:,} a side and {_MOST_PIXELS:,} in all are read"
        )


def _resized(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """Return (width, height) with `shorter` as the shorter side; rounds down like torchvision."""
    width, height = size
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def _middle(size: tuple[int, int], crop: int, path: str | Path) -> tuple[int, int, int, int]:
    width, height = size
    if min(size) < crop:
        size_words = f"{width} x {height} pixels"
        raise InputError(f"{path} is {size_words}, smaller than the crop of {crop}: set `resize`")
    left, top = round((width - crop) / 2), round((height - crop) / 2)
    return left, top, left + crop, top + crop


def _filter(name: str) -> Any:
    from PIL import Image

    return Image.Resampling[name.upper()]
