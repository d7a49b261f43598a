"""Models of pictures, for faults of sizes and values."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from runtimes.spec import DimRange, TensorSpec
from tests.adversary.harness import Subject

SIZE = DimRange(min=16, opt=32, max=160)
UNIT = DimRange(min=16, opt=32, max=128, multiple_of=8)
PICTURE = ("batch", 3, "height", "width")


class Classes(nn.Module):
    """Two convolutions and a head on their mean."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 3, stride=2, padding=1)
        self.second = nn.Conv2d(6, 12, 3, stride=2, padding=1)
        self.head = nn.Linear(12, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = F.relu(self.second(F.relu(self.first(image))))
        return self.head(features.mean((2, 3)))


class Scaled(Classes):
    """Takes pixels of 0 to 255, of any dtype that holds them."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        dtype = self.head.weight.dtype
        return super().forward((image.to(dtype) - 120) / 60)


class Dense(nn.Module):
    """As large an output as the input, through a stride of 8 and back."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 8, stride=8)
        self.up = nn.ConvTranspose2d(8, 2, 8, stride=8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.up(torch.tanh(self.down(image)))


class Cleaned(Classes):
    """Takes NaN for zero."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.nan_to_num(image))


class Clamped(Classes):
    """Takes any number for one of -4 to 4."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image.clamp(-4, 4))


def _spec(**fields: object) -> dict[str, TensorSpec]:
    return {"image": TensorSpec.model_validate({"shape": PICTURE, **fields})}


_DIMS = {"batch": DimRange(max=32), "height": SIZE, "width": SIZE}
PICTURES = Subject("pictures", Classes, _spec(), _DIMS, ("logits",))
BATCHES = Subject(
    "batches",
    Classes,
    {"image": TensorSpec(shape=("batch", 3, 8, 8))},
    {"batch": DimRange(max=200)},
    ("logits",),
)
PIXELS = Subject(
    "pixels",
    Scaled,
    _spec(range=(0, 255)),
    {"batch": DimRange(max=4), "height": SIZE, "width": SIZE},
)
BYTES = Subject(
    "bytes",
    Scaled,
    {"image": TensorSpec(shape=("batch", 3, 24, 24), dtype="uint8", range=(0, 255))},
    {"batch": DimRange(max=4)},
)
SIGNED = Subject(
    "signed",
    Classes,
    {"image": TensorSpec(shape=("batch", 3, 24, 24), range=(-1, 1))},
    {"batch": DimRange(max=4)},
)
DENSE = Subject(
    "dense",
    Dense,
    _spec(),
    {"batch": DimRange(max=4), "height": UNIT, "width": UNIT},
    ("mask",),
)
CLEANED = Subject(
    "cleaned",
    Cleaned,
    {"image": TensorSpec(shape=("batch", 3, 24, 24))},
    {"batch": DimRange(max=4)},
)
CLAMPED = Subject("clamped", Clamped, CLEANED.inputs, CLEANED.dims)
