"""Fashion-MNIST as a dataset: all its pictures, from the files as they are published.

Only training and larger samples need it: the recipe itself uses the two .npz files beside this one.
Fashion-MNIST is under the MIT licence, which is in README.md. In a recipe:

    data:
      calibration:
        factory: python:fashion_cnn.data:samples
        args: {folder: data/FashionMNIST/raw, split: train, limit: 1000}
"""

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np

PREFIX = {"train": "train", "test": "t10k"}  # of the four files' names

ADVICE = (
    "name the folder that holds train-images-idx3-ubyte and the other three files, with or without "
    '.gz; `python -c "from torchvision.datasets import FashionMNIST as F; '
    "F('data', download=True)\"` puts them into data/FashionMNIST/raw"
)


class Pictures(Sequence[tuple[np.ndarray, int]]):
    """Pairs of a picture and its class.

    A picture has float32 pixel values [1, 28, 28] of 0 to 255, as the network takes them.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.images[index].astype(np.float32), int(self.labels[index])


def samples(folder: str, split: str = "train", limit: int | None = None) -> Pictures:
    """Return the dataset: the factory that a recipe names.

    Args:
        folder: of the four files; relative to the working directory.
        split: `train` (60,000 pictures) or `test` (10,000).
        limit: number of pictures to take from the start; the files are shuffled.
    """
    images, labels = arrays(folder, split)
    return Pictures(images[:limit], labels[:limit])


def arrays(folder: str | Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 pixel values [N, 1, 28, 28] and uint8 classes [N] of a split, in file order.

    Raises:
        FileNotFoundError: the folder or a file is missing.
        ValueError: there is no such split, or a file is damaged.
    """
    if split not in PREFIX:
        raise ValueError(f"there is no split {split!r}: name one of {', '.join(PREFIX)}")
    images = read_idx(find(Path(folder), f"{PREFIX[split]}-images-idx3-ubyte"))
    labels = read_idx(find(Path(folder), f"{PREFIX[split]}-labels-idx1-ubyte"))
    if len(images) != len(labels):
        raise ValueError(
            f"{folder} has {len(images)} {split} pictures and {len(labels)} labels: download it "
            "again"
        )
    return images[:, None], labels


def find(folder: Path, name: str) -> Path:
    """Return the file of that name, or its gzip. Raises FileNotFoundError with advice."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"Fashion-MNIST is not in {folder.resolve()}: no {name}(.gz); {ADVICE}")


def read_idx(path: Path) -> np.ndarray:
    """Read an array of bytes in the IDX format.

    The format has a magic number 00 00 08 rank, big-endian sizes, then the values.

    Raises:
        ValueError: the file is not in that format, or incomplete.
    """
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an IDX file of bytes")
    start = 4 + 4 * raw[3]
    shape = np.frombuffer(raw[4:start], ">u4").astype(int)
    if len(raw) - start != shape.prod():
        raise ValueError(
            f"{path} has {len(raw) - start} values, but its header says {shape.tolist()}: "
            "download it again"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
