"""Models of pictures: classifiers, a U-Net, a detector, a vision transformer, a resizing front."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from trained import settle


def classifier() -> nn.Module:
    """Convolutions with BatchNorm and ReLU, grouped and strided, as in a ResNet's stem."""
    return settle(_Classifier(), (8, 3, 32, 32), seed=1)


class _Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(width) for width in (16, 16, 24))
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=4, bias=False)
        self.mix = nn.Conv2d(16, 24, 1, bias=False)
        self.head = nn.Linear(24, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.pool(functional.relu(self.norm1(self.stem(image))))
        x = x + functional.relu(self.norm2(self.depthwise(x)))
        x = functional.relu6(self.norm3(self.mix(x)) * 2 + 1)
        return self.head(x.mean((2, 3)))


def smooth() -> nn.Module:
    """Convolutions with LeakyReLU, both forms of GELU, GroupNorm and dilation."""
    return settle(_Smooth(), seed=2)


class _Smooth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 5, padding=2)
        self.conv2 = nn.Conv2d(12, 12, 3, padding=2, dilation=2)
        self.conv3 = nn.Conv2d(12, 16, 3, stride=2)
        self.norm = nn.GroupNorm(4, 12)
        self.head = nn.Linear(16 * 4, 8)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = functional.leaky_relu(self.conv1(image), 0.1)
        x = functional.gelu(self.norm(self.conv2(x)))
        x = functional.gelu(self.conv3(x), approximate="tanh")
        features = functional.avg_pool2d(x, 3, stride=2, padding=1).flatten(1)
        features = features[:, : 16 * 4]
        return torch.softmax(self.head(features), 1), functional.normalize(features, dim=1)


def unet() -> nn.Module:
    """Encoder and decoder with a skip connection, for any height and width."""
    return settle(_UNet(), (4, 3, 32, 32), seed=3)


class _UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(3, 8, 3, padding=1)
        self.down2 = nn.Conv2d(8, 16, 3, padding=1)
        self.bottom = nn.Conv2d(16, 16, 3, padding=1)
        self.norm1, self.norm2 = nn.BatchNorm2d(8), nn.BatchNorm2d(16)
        self.up1 = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.merge = nn.Conv2d(16, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        fine = functional.relu(self.norm1(self.down1(image)))
        coarse = functional.relu(self.norm2(self.down2(functional.max_pool2d(fine, 2))))
        x = functional.silu(self.bottom(functional.avg_pool2d(coarse, 2)))
        x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.up1(x + coarse)
        x = functional.relu(self.merge(torch.cat([x, fine], 1)))
        return torch.sigmoid(self.head(x))


def detector() -> nn.Module:
    """A head with boxes in pixels and scores, at every point of a grid."""
    return settle(_Detector(), (4, 3, 64, 64), seed=4)


class _Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, stride=2, padding=1)
        self.body = nn.Conv2d(12, 24, 3, stride=4, padding=1)
        self.norm = nn.BatchNorm2d(24)
        self.boxes, self.scores = nn.Conv2d(24, 4, 1), nn.Conv2d(24, 5, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = functional.silu(self.norm(self.body(functional.silu(self.stem(image)))))
        rows = torch.arange(x.shape[2], device=x.device, dtype=x.dtype) + 0.5
        columns = torch.arange(x.shape[3], device=x.device, dtype=x.dtype) + 0.5
        grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).flatten(0, 1) * 8
        raw = self.boxes(x).flatten(2).transpose(1, 2)
        corner = grid - 16 * torch.sigmoid(raw[..., :2])
        other = grid + 16 * torch.sigmoid(raw[..., 2:])
        scores = torch.sigmoid(self.scores(x).flatten(2).transpose(1, 2) - 1)
        return torch.cat([corner, other], -1).clamp(min=0), scores


def vit() -> nn.Module:
    """A vision transformer with class token and a table of positions."""
    return settle(_ViT(), seed=5)


class _ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.patches = nn.Conv2d(3, 32, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, 32, generator=generator))
        self.positions = nn.Parameter(torch.randn(1, 17, 32, generator=generator) * 0.5)
        self.blocks = nn.ModuleList(Block(32, 4) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class Block(nn.Module):
    """A block of a transformer, with the attention written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """Return rows [batch, length, width]; `added` goes to the logits of the attention."""
        batch, length, width = x.shape
        parts = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        logits = query @ key.transpose(-1, -2) / (width // self.heads) ** 0.5
        weights = torch.softmax(logits if added is None else logits + added, -1)
        x = x + self.out((weights @ value).transpose(1, 2).reshape(batch, length, width)) * 0.5
        return x + self.narrow(functional.gelu(self.wide(self.norm2(x)))) * 0.5


def thumbnail() -> nn.Module:
    """A classifier that resizes photographs of any size, with antialiasing, and normalizes them."""
    return settle(_Thumbnail(), seed=6)


class _Thumbnail(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None])
        self.conv1 = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.squeeze, self.excite = nn.Linear(16, 8), nn.Linear(8, 16)
        self.head = nn.Linear(16, 12)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.interpolate(
            image, size=(24, 24), mode="bilinear", align_corners=False, antialias=True
        )
        x = functional.hardswish(self.conv1((x / 255 - self.mean) / self.std))
        x = functional.hardswish(self.conv2(x))
        gate = functional.hardsigmoid(self.excite(functional.relu(self.squeeze(x.mean((2, 3))))))
        return self.head((x * gate[:, :, None, None]).amax((2, 3)))
