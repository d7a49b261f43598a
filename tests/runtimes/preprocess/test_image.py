"""Pictures become inputs exactly as torchvision's transforms make them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from runtimes.errors import InputError
from runtimes.preprocess.image import Preprocess, read_image
from tests.irregular import make_irregular

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def save_picture(path: Path, width: int, height: int, mode: str = "RGB") -> Path:
    pixels = np.random.default_rng(width * 1000 + height).integers(
        0, 256, (height, width, 3), np.uint8
    )
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(20, 90),
    st.integers(20, 90),
    st.integers(16, 40),
    st.sampled_from(["nearest", "bilinear", "bicubic"]),
)
def test_the_input_is_torchvisions(
    tmp_path: Path, width: int, height: int, resize: int, filter: str
) -> None:
    transforms = pytest.importorskip(
        "torchvision.transforms", reason="torchvision is what this is compared with"
    )
    path = save_picture(tmp_path / "picture.png", width, height)
    how = Preprocess(resize=resize, crop=16, interpolation=filter, mean=MEAN, std=STD)
    theirs = transforms.Compose(
        [
            transforms.Resize(resize, transforms.InterpolationMode(filter)),
            transforms.CenterCrop(16),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )(Image.open(path))
    np.testing.assert_allclose(read_image(path, how), theirs.numpy(), rtol=0, atol=1e-6)


def test_without_options_values_are_0_to_1_and_the_size_stays(tmp_path: Path) -> None:
    values = read_image(save_picture(tmp_path / "picture.png", 20, 10), Preprocess())
    assert (values.shape, values.dtype) == ((3, 10, 20), np.float32)
    assert (values.min(), values.max()) == (0, 1)
    assert values.flags.c_contiguous


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "CMYK"])
def test_any_kind_of_picture_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = save_picture(
        tmp_path / ("picture.tiff" if mode == "CMYK" else "picture.png"), 8, 8, mode
    )
    assert read_image(path, Preprocess()).shape == (3, 8, 8)


def test_grey_has_one_channel(tmp_path: Path) -> None:
    how = Preprocess(color="grey", mean=(0.5,), std=(0.5,))
    assert read_image(save_picture(tmp_path / "picture.png", 8, 9), how).shape == (1, 9, 8)


def test_a_picture_smaller_than_the_crop_is_refused(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "small.png", 20, 10)
    with pytest.raises(
        InputError, match=r"small\.png is 20 x 10 pixels, smaller than the crop of 16: set `resize`"
    ):
        read_image(path, Preprocess(crop=16))


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(20)])
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read .*file\.png as a picture"):
        read_image(path, Preprocess())


def test_a_truncated_picture_is_refused(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "picture.png", 64, 64)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"cannot read .* as a picture"):
        read_image(path, Preprocess())


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


@pytest.mark.parametrize(
    ("pixels", "end", "error"),
    [
        (slice(50), chunk(b"\xc0END", b""), SyntaxError),
        (slice(None), chunk(b"IHDR", b"x"), ValueError),
    ],
    ids=["no chunk where pixels are missing", "a second header"],
)
def test_a_picture_is_refused_whatever_pillow_raises(
    tmp_path: Path, pixels: slice, end: bytes, error: type[Exception]
) -> None:
    path = save_picture(tmp_path / "picture.png", 8, 8)
    content = path.read_bytes()
    header, data = content[:33], content[41:-16]
    path.write_bytes(header + chunk(b"IDAT", data[pixels]) + end)
    with Image.open(path) as picture, pytest.raises(error):
        picture.load()
    with pytest.raises(InputError, match=r"cannot read .* as a picture"):
        read_image(path, Preprocess())


SIX = {"JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"}


@pytest.mark.parametrize("kind", sorted(SIX))
def test_six_formats_are_read_by_content_whatever_the_name(tmp_path: Path, kind: str) -> None:
    picture = Image.fromarray(np.full((8, 9, 3), 128, np.uint8))
    picture.save(tmp_path / "picture.any", format=kind)
    values = read_image(tmp_path / "picture.any", Preprocess())
    assert values.shape == (3, 8, 9)
    np.testing.assert_allclose(values, 128 / 255, atol=0.02)


def test_no_other_decoder_of_pillow_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.init()
    others = set(Image.OPEN) - SIX
    assert {"EPS", "PSD", "ICO", "FLI", "WMF", "FITS", "DDS", "JPEG2000"} <= others
    for kind in others:
        reached = (lambda *_: pytest.fail("decoded"), lambda *_: pytest.fail("looked at"))
        monkeypatch.setitem(Image.OPEN, kind, reached)
    for kind in sorted(others & set(Image.SAVE)):
        path = tmp_path / f"{kind}.jpg"
        try:
            Image.new("RGB", (8, 8)).save(path, format=kind)
        except (OSError, ValueError, AttributeError):  # it cannot write colours, or lacks a library
            path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
        with pytest.raises(InputError, match=r"no JPEG, PNG, WebP, BMP, GIF or TIFF file"):
            read_image(path, Preprocess())


def test_postscript_that_is_named_a_photograph_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    path = tmp_path / "photograph.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(InputError, match="no JPEG, PNG"):
        read_image(path, Preprocess())


def tall_png(path: Path, width: int, height: int) -> Path:
    """A picture that says that it is so large."""
    header = struct.pack(">2I5B", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(2) * 1000)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(1, 10**8), (10**8, 1), (1, 65_536), (2**31 - 1, 2**31 - 1)])
@pytest.mark.timeout(20)
def test_a_picture_of_a_side_without_end_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"cannot read .*tall\.png as a picture: .*pixels"):
        read_image(tall_png(tmp_path / "tall.png", *size), Preprocess(resize=256, crop=224))


def test_a_picture_that_resizing_would_blow_up_is_refused(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "thin.png", 1, 60_000)
    with pytest.raises(InputError, match=r"resized to 256 pixels .* 256 x 15,360,000 pixels"):
        read_image(path, Preprocess(resize=256))
    assert read_image(path, Preprocess()).shape == (3, 60_000, 1)


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a pipe", "folder"])
@pytest.mark.timeout(10)
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = make_irregular(tmp_path / "picture.png", kind)
    with pytest.raises(InputError, match=r"picture\.png as a picture: .*(regular|directory)"):
        read_image(path, Preprocess())


def test_a_missing_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .* as a picture"):
        read_image(tmp_path / "nothing.png", Preprocess())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mean": (0.5, 0.5)}, "mean and std need 1 or 3 numbers"),
        ({"std": (1, 0, 1)}, "std must be above 0"),
        ({"resize": 0}, "greater than 0"),
        ({"interpolation": "lanczos"}, "'nearest', 'bilinear' or 'bicubic'"),
        ({"crops": 16}, "Extra inputs"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Preprocess.model_validate(options)
