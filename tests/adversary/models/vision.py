"""Correct models of pictures, of the kinds that people convert."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from runtimes.spec import DimRange, TensorSpec
from tests.adversary.harness import Subject

FREE = DimRange(min=16, opt=32, max=72)
EIGHTS = DimRange(min=16, opt=32, max=64, multiple_of=8)
BATCH = DimRange(max=4)
IMAGE = {"image": TensorSpec(shape=("batch", 3, "height", "width"))}


def trained(module: nn.Module) -> nn.Module:
    """Give batch normalizations the statistics of training."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.3)
    return module


def conv(channels: int, out: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalization, ReLU6."""
    layer = nn.Conv2d(channels, out, 3, stride, 1, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(out), nn.ReLU6())


class MobileNet(nn.Module):
    """Depthwise convolutions, a mean, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(conv(3, 8, 2), conv(8, 8, groups=8), nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16)),
            *(nn.ReLU6(), conv(16, 16, 2, groups=16)),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(image))


class ResNet(nn.Module):
    """A maximum pool and two residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 8, 2), nn.MaxPool2d(3, 2, 1))
        self.first = nn.Sequential(conv(8, 8), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.second = nn.Sequential(conv(8, 16, 2), nn.Conv2d(16, 16, 3, padding=1))
        self.short, self.head = nn.Conv2d(8, 16, 1, 2), nn.Linear(16, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image)
        x = F.relu(x + self.first(x))
        x = F.relu(self.short(x) + self.second(x))
        return self.head(x.mean((2, 3)))


class UNet(nn.Module):
    """Three levels with skip connections, up by transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 12), conv(12, 16)
        self.up_b, self.up_a = nn.ConvTranspose2d(16, 12, 2, 2), nn.ConvTranspose2d(12, 8, 2, 2)
        self.join_b, self.join_a, self.out = conv(24, 12), conv(16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        a = self.a(image)
        b = self.b(F.max_pool2d(a, 2))
        c = self.c(F.avg_pool2d(b, 2))
        b = self.join_b(torch.cat([b, self.up_b(c)], 1))
        return self.out(self.join_a(torch.cat([a, self.up_a(b)], 1)))


class Segmenter(nn.Module):
    """Classes of pixels at any size: up by bilinear interpolation to the input's."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(conv(3, 8, 2), conv(8, 16, 2)), nn.Conv2d(16, 5, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        scores = self.head(self.body(image))
        size = image.shape[2:]
        scores = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
        classes = scores.argmax(1)
        return scores, classes, classes != 0


class SuperResolution(nn.Module):
    """Twice the size by a pixel shuffle, beside a bicubic enlargement."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PReLU(), nn.Conv2d(12, 12, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        enlarged = F.interpolate(image, scale_factor=2.0, mode="nearest")
        return (enlarged + F.pixel_shuffle(self.body(image), 2)).clamp(0, 1)


class ViT(nn.Module):
    """Patches, a class token, places, one layer of attention, GELU."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, 17, width))
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 48), nn.GELU(), nn.Linear(48, width))
        self.head = nn.Linear(width, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.mlp(self.norm2(x))
        return self.head(x[:, 0])


class ConvNext(nn.Module):
    """Wide depthwise kernels, LayerNorm over channels, GELU by tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 16, 4, 4), nn.Conv2d(16, 16, 7, padding=3, groups=16)
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 32), nn.Linear(32, 16)
        self.scale = nn.Parameter(torch.full((16,), 0.5))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image)
        y = self.norm(self.wide(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(F.gelu(self.up(y), approximate="tanh"))
        return (x + y.permute(0, 3, 1, 2)).mean((2, 3))


class Style(nn.Module):
    """Reflected edges and instance normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3)
        self.norm = nn.InstanceNorm2d(8, affine=True)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(self.norm(self.first(F.pad(image, (1, 1, 1, 1), mode="reflect"))), 0.2)
        return torch.tanh(self.second(F.pad(x, (1, 1, 1, 1), mode="reflect")))


class Squeeze(nn.Module):
    """Group normalization, SiLU, and a squeeze-and-excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, 2, 1), nn.GroupNorm(4, 16)
        self.squeeze, self.excite = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.head = nn.Linear(16, 6)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = F.silu(self.norm(self.stem(image)))
        weights = self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(x, 1))))
        return self.head((x * torch.sigmoid(weights)).mean((2, 3))).softmax(-1)


class Bytes(MobileNet):
    """Takes bytes, and normalizes them itself."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scaled = image.to(self.head[2].weight.dtype) / 255
        return super().forward((scaled.permute(0, 3, 1, 2) - 0.45) / 0.22)


class Temperature(nn.Module):
    """A field of 294 K that varies by half a kelvin."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ELU(), nn.Conv2d(8, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 294 + 0.5 * self.body(image)


def _subject(name: str, build: type[nn.Module], inputs: object = None, **fields: object) -> Subject:
    side = fields.pop("side", FREE)
    dims = {"batch": BATCH, "height": side, "width": side}
    given = IMAGE if inputs is None else inputs
    return Subject(name, lambda: trained(build()), given, dims, **fields)  # type: ignore[arg-type]


def _fixed(name: str, build: type[nn.Module], spec: TensorSpec, **fields: object) -> Subject:
    dims = {"batch": BATCH}
    return Subject(name, lambda: trained(build()), {"image": spec}, dims, **fields)  # type: ignore[arg-type]


SQUARE = TensorSpec(shape=("batch", 3, 32, 32))
PIXELS = {"image": TensorSpec(shape=("batch", 3, "height", "width"), range=(0, 1))}
MODELS = (
    _subject("mobilenet", MobileNet, PIXELS, task="classification"),
    _fixed("resnet", ResNet, SQUARE, task="classification"),
    _subject("unet", UNet, side=EIGHTS, outputs=("mask",)),
    _subject("segmenter", Segmenter, outputs=("scores", "classes", "foreground")),
    _subject("super-resolution", SuperResolution, PIXELS),
    _fixed("vit", ViT, SQUARE, task="classification"),
    _subject("convnext", ConvNext),
    _subject("style", Style),
    _subject("squeeze", Squeeze),
    _fixed("bytes", Bytes, TensorSpec(shape=("batch", 32, 32, 3), dtype="uint8", range=(0, 255))),
    _subject("temperature", Temperature),
)
