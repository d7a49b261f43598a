"""Correct detectors and other models with orders, grids and indices."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from runtimes.spec import DimRange, TensorSpec
from tests.adversary.harness import Subject
from tests.adversary.models.vision import BATCH, EIGHTS, IMAGE, conv, trained


class Grid(nn.Module):
    """Boxes from a grid of cells at any size, and their scores."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 8, 2), conv(8, 16, 2), conv(16, 16, 2))
        self.boxes, self.scores = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 3, 1)
        nn.init.normal_(self.scores.weight)

    def cells(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.body(image)
        height, width = x.shape[2:]
        rows = torch.arange(height).to(x.dtype)[:, None].expand(height, width)
        columns = torch.arange(width).to(x.dtype)[None].expand(height, width)
        centres = torch.stack([columns, rows]) * 8 + 4
        near, far = (8 * self.boxes(x).sigmoid()).chunk(2, 1)
        boxes = torch.cat([centres - near, centres + far], 1)
        return boxes.flatten(2).transpose(1, 2), self.scores(x).sigmoid().flatten(2)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.cells(image)


class Best(Grid):
    """The four best cells, the best first: no suppression is needed."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        boxes, scores = self.cells(image)
        peaks, classes = scores.max(1)
        top, places = peaks.topk(4)
        picked = boxes.gather(1, places[..., None].expand(-1, -1, 4))
        return top, classes.gather(1, places), picked


class Keypoints(nn.Module):
    """Places of keypoints: the mean of a softmax over a heat map."""

    def __init__(self) -> None:
        super().__init__()
        self.heat = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 4, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        heat = self.heat(image)
        share = (4 * heat).flatten(2).softmax(-1).reshape(heat.shape)
        rows = torch.linspace(0, 1, 32).to(heat.dtype)
        y, x = (share.sum(3) * rows).sum(2), (share.sum(2) * rows).sum(2)
        return torch.stack([x, y], -1)


class Warp(nn.Module):
    """A picture moved by an affine transformation that it predicts."""

    def __init__(self) -> None:
        super().__init__()
        self.move = nn.Linear(3, 6)
        with torch.no_grad():
            self.move.bias.copy_(torch.tensor([1.0, 0.1, 0.0, -0.1, 0.9, 0.1]))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        matrix = self.move(image.mean((2, 3))).reshape(-1, 2, 3)
        steps = torch.linspace(-1, 1, 16).to(image.dtype)
        rows, columns = steps[:, None].expand(16, 16), steps[None].expand(16, 16)
        places = torch.stack([columns, rows, torch.ones_like(rows)], -1).reshape(1, 256, 3)
        grid = (places @ matrix.transpose(1, 2)).reshape(-1, 16, 16, 2)
        return F.grid_sample(image, grid, align_corners=False)


class Recommender(nn.Module):
    """Ids of a user and items, dense features, the best items and whether they are good."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(40, 8), nn.Embedding(60, 8)
        self.dense = nn.Linear(5, 8)

    def forward(
        self, user: torch.Tensor, items: torch.Tensor, features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        query = self.users(user) + self.dense(features)
        scores = torch.einsum("bd,bnd->bn", query, self.items(items))
        best, places = scores.topk(3)
        return best, items.gather(1, places), scores > 1


class Table(nn.Module):
    """Numbers, a flag and a category."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds, self.body = nn.Embedding(7, 4), nn.Linear(6 + 4, 16)
        self.head = nn.Linear(16, 2)

    def forward(
        self, numbers: torch.Tensor, flag: torch.Tensor, kind: torch.Tensor
    ) -> torch.Tensor:
        numbers = torch.where(flag[:, None], numbers, -numbers)
        x = torch.cat([numbers, self.kinds(kind)], 1)
        return self.head(F.softplus(self.body(x)))


def _of_image(name: str, build: type[nn.Module], side: object, outputs: object = None) -> Subject:
    dims = {"batch": BATCH, "height": side, "width": side}
    return Subject(name, lambda: trained(build()), IMAGE, dims, outputs)  # type: ignore[arg-type]


_SQUARE = {"image": TensorSpec(shape=("batch", 3, 32, 32))}
_BATCH = {"batch": DimRange(max=6)}
MODELS = (
    _of_image("grid detector", Grid, EIGHTS, ("boxes", "scores")),
    _of_image("best cells", Best, EIGHTS, ("scores", "classes", "boxes")),
    Subject("keypoints", Keypoints, _SQUARE, {"batch": BATCH}),
    Subject("warp", Warp, _SQUARE, {"batch": BATCH}),
    Subject(
        "recommender",
        Recommender,
        {
            "user": TensorSpec(shape=("batch",), dtype="int64", range=(0, 39)),
            "items": TensorSpec(shape=("batch", 12), dtype="int64", range=(0, 59)),
            "features": TensorSpec(shape=("batch", 5)),
        },
        _BATCH,
        ("scores", "items_out", "good"),
    ),
    Subject(
        "table",
        Table,
        {
            "numbers": TensorSpec(shape=("batch", 6)),
            "flag": TensorSpec(shape=("batch",), dtype="bool"),
            "kind": TensorSpec(shape=("batch",), dtype="int64", range=(0, 6)),
        },
        _BATCH,
    ),
)
