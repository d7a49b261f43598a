"""What tests of debugging share: a small model with two outputs, exported, and a way to debug a changed copy."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from converters.debug.compare import Comparison, Findings, compare
from converters.debug.judge import Limit
from converters.debug.match.graph import Taps
from converters.debug.taps.onnx import OnnxTaps
from converters.debug.taps.torchscript import TorchScriptTaps
from converters.debug.truth import Eager
from converters.exporters import EXPORTERS
from converters.exporters.job import ExportJob
from converters.exporters.onnx.optimize import optimize_graph
from converters.models.facts import ModelFacts
from converters.sources.load import Source, load_model
from runtimes.spec import Arrays, DimRange, TensorSpec

PLENTY = 10**9  # bytes: everything in one run


class Block(nn.Module):
    """A residual block: its relu runs twice, and in place; its addition belongs to no module of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + x)


class Inverted(nn.Module):
    """A block that ends in an addition, which is its own result."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU6())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x)


class Net(nn.Module):
    """Two blocks and two heads of one shape."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.block = Block(8)
        self.inverted = Inverted(8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.5)
        self.first = nn.Linear(8, 6)
        self.second = nn.Linear(8, 6)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.drop(torch.flatten(self.pool(self.inverted(self.block(self.stem(image)))), 1))
        return self.first(x), self.second(x)


def net() -> Net:
    """The model with seeded weights."""
    torch.manual_seed(0)
    found: Net = _seeded(Net())
    return found


def photo_net() -> Photo:
    """The model with seeded weights."""
    torch.manual_seed(0)
    found: Photo = _seeded(Photo())
    return found


class Photo(nn.Module):
    """What real classifiers have and converters break: preprocessing, a resize, dropout, an activation that is no
    module, a softmax at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.resize = nn.Upsample(size=(14, 14), mode="bilinear", align_corners=False)
        self.register_buffer("mean", torch.tensor([0.5, 0.4, 0.3])[:, None, None])
        self.register_buffer("std", torch.tensor([0.2, 0.3, 0.4])[:, None, None])
        self.conv1, self.bn1, self.act1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6()
        self.conv2, self.bn2 = nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16)
        self.dropout, self.pool = nn.Dropout(0.3), nn.AdaptiveAvgPool2d(1)
        self.head, self.twin = nn.Linear(16, 10), nn.Linear(16, 10)

    def prepared(self, image: torch.Tensor) -> torch.Tensor:
        return (self.resize(image) - self.mean) / self.std

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        image = self.act1(self.bn1(self.conv1(self.prepared(image))))
        image = torch.relu(self.bn2(self.conv2(image)))
        rows = torch.flatten(self.dropout(self.pool(image)), 1)
        return torch.softmax(self.head(rows), 1), self.twin(rows)


def _seeded(model: nn.Module) -> Any:
    """The model with BatchNorm statistics that are not trivial, and activations above six."""
    for norm in (part for part in model.modules() if isinstance(part, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
        nn.init.uniform_(norm.weight, 2.0, 4.0)
    return model.eval()


@dataclass(frozen=True)
class Subject:
    """An eager model, one probe, and what it was exported to."""

    eager: Eager
    inputs: Arrays
    outputs: list[str]
    onnx: Path
    torchscript: Path

    def compare(self, path: Path) -> Comparison:
        """Match an artifact's file with the eager model."""
        taps: Taps = (
            OnnxTaps(path, self.eager.paths, self.inputs)
            if path.suffix == ".onnx"
            else TorchScriptTaps(path, self.inputs, by_keyword=False)
        )
        return compare(self.eager, taps, self.inputs, self.outputs)

    def debug(self, path: Path, budget: int = PLENTY, precision: str = "fp32") -> Findings:
        """What is wrong with an artifact's file."""
        return self.compare(path).search(Limit.of(precision), budget, top=3)


def export(
    model: nn.Module, format: str, folder: Path, outputs: list[str], size: int, rows: int = 0, **options: Any
) -> Path:
    """Write `model`, which takes images of 3 x size x size, as an artifact's file; `rows`: for this batch only."""
    facts = ModelFacts(
        {"image": TensorSpec(shape=("batch", 3, size, size))},
        {name: TensorSpec(shape=("batch", 1)) for name in outputs},
        {"batch": DimRange(min=rows or 1, max=rows or 4)},
        False,
        0,
    )
    exporter = EXPORTERS.get(format)()
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = exporter.export(ExportJob(model, facts, folder), exporter.Options(format=format, **options))
    return folder / made.entry


@pytest.fixture(scope="session")
def make_subject() -> Callable[..., Subject]:
    """Exports a model of a test's own: `make_subject(model, outputs, size, folder)`."""
    return _subject


def _subject(model: nn.Module, outputs: list[str], size: int, folder: Path, rows: int = 2) -> Subject:
    inputs = {"image": np.random.default_rng(0).standard_normal((rows, 3, size, size)).astype(np.float32)}
    onnx = export(model, "onnx", folder / "onnx", outputs, size)
    torchscript = export(model, "torchscript", folder / "torchscript", outputs, size)
    return Subject(Eager(model, outputs, exact=True), inputs, outputs, onnx, torchscript)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """`net()`, exported; its outputs are `a` and `b`."""
    return _subject(net(), ["a", "b"], 16, tmp_path_factory.mktemp("debug_small"))


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """`photo_net()`, exported; its outputs are `probabilities` and `twin`."""
    return _subject(photo_net(), ["probabilities", "twin"], 20, tmp_path_factory.mktemp("debug_photo"), rows=4)


@pytest.fixture
def fresh_photo() -> Callable[[], Photo]:
    """Makes `photo_net()` anew, to be changed."""
    return photo_net


@pytest.fixture
def write_photo(tmp_path: Path) -> Callable[..., Path]:
    """Exports a changed `photo_net()`: `write_photo(model, "torchscript")`."""

    def write(model: nn.Module, format: str, **options: Any) -> Path:
        return export(model, format, tmp_path / format, ["probabilities", "twin"], 20, **options)

    return write


@pytest.fixture(scope="session")
def quantize() -> Callable[..., Path]:
    """ONNX Runtime's own quantizer: `quantize(subject, path, target)`; per channel, uint8 activations."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, inputs: Arrays) -> None:
            self.rows = iter([inputs])

        def get_next(self) -> Any:
            return next(self.rows, None)

    def quantize(subject: Subject, path: Path, target: Path, **options: Any) -> Path:
        chosen = {"per_channel": True, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(
            str(path), str(target), Reader(subject.inputs), quant_format=QuantFormat.QDQ, **{**chosen, **options}
        )
        return target

    return quantize


@pytest.fixture
def optimize(tmp_path: Path) -> Callable[..., Path]:
    """The graph as `optimize: extended` and the like write it: `optimize(path, "extended")`."""

    def optimize(path: Path, level: Any) -> Path:
        optimize_graph(path, tmp_path / f"{level}.onnx", level)
        return tmp_path / f"{level}.onnx"

    return optimize


@pytest.fixture(scope="session")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """torchvision's ResNet-18 with seeded random weights at 64 x 64, exported."""
    specs = {"image": TensorSpec(shape=("batch", 3, 64, 64))}
    dims = {"batch": DimRange(min=1, max=4)}
    source = Source("torchvision:resnet18", {}, ("random:0",), Path(), "test", specs, dims)
    return _subject(load_model(source).module, ["logits"], 64, tmp_path_factory.mktemp("debug_resnet"))


@pytest.fixture
def fresh() -> Callable[[], Net]:
    """Makes `net()` anew, to be changed."""
    return net


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Exports a changed `net()`: `write(model, "torchscript")`."""

    def write(model: nn.Module, format: str, **options: Any) -> Path:
        return export(model, format, tmp_path / format, ["a", "b"], 16, **options)

    return write


@pytest.fixture
def edit(tmp_path: Path) -> Callable[..., Path]:
    """Changes a copy of an ONNX file: `edit(path, lambda model: ...)`."""
    import onnx

    def edit(path: Path, change: Callable[[Any], None]) -> Path:
        model = onnx.load(str(path))
        change(model)
        onnx.save(model, str(tmp_path / "changed.onnx"))
        return tmp_path / "changed.onnx"

    return edit


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """torch's deprecations of TorchScript are known; one thread, which other tests' processes cannot slow down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(threads)
