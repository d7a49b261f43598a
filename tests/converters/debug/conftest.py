"""Fixtures of the tests of debugging: models of `models.py`, exported, and ways to change them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from converters.exporters.onnx.optimize import optimize_graph
from converters.sources.load import Source, load_model
from runtimes.spec import Arrays, DimRange, TensorSpec
from tests.converters.debug.models import Subject, export, make_subject, net, photo_net


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """`net()`, exported; its outputs are `a` and `b`."""
    return make_subject(net(), ["a", "b"], 16, tmp_path_factory.mktemp("debug_small"))


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """`photo_net()`, exported; its outputs are `probabilities` and `twin`."""
    return make_subject(
        photo_net(), ["probabilities", "twin"], 20, tmp_path_factory.mktemp("debug_photo"), rows=4
    )


@pytest.fixture
def write_photo(tmp_path: Path) -> Callable[..., Path]:
    """Export a changed `photo_net()`: `write_photo(model, "torchscript")`."""

    def write(model: nn.Module, format: str, **options: Any) -> Path:
        return export(model, format, tmp_path / format, ["probabilities", "twin"], 20, **options)

    return write


@pytest.fixture(scope="session")
def quantize() -> Callable[..., Path]:
    """Quantize by ONNX Runtime, per channel: `quantize(subject, path, target)`."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, inputs: Arrays) -> None:
            self.rows = iter([inputs])

        def get_next(self) -> Any:
            return next(self.rows, None)

    def quantize(subject: Subject, path: Path, target: Path, **options: Any) -> Path:
        chosen = {
            "per_channel": True,
            "activation_type": QuantType.QUInt8,
            "weight_type": QuantType.QInt8,
        }
        quantize_static(
            str(path),
            str(target),
            Reader(subject.inputs),
            quant_format=QuantFormat.QDQ,
            **{**chosen, **options},
        )
        return target

    return quantize


@pytest.fixture
def optimize(tmp_path: Path) -> Callable[..., Path]:
    """Optimize a graph as `optimize: extended` does: `optimize(path, "extended")`."""

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
    folder = tmp_path_factory.mktemp("debug_resnet")
    return make_subject(load_model(source).module, ["logits"], 64, folder)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Export a changed `net()`: `write(model, "torchscript")`."""

    def write(model: nn.Module, format: str, **options: Any) -> Path:
        return export(model, format, tmp_path / format, ["a", "b"], 16, **options)

    return write


@pytest.fixture
def edit(tmp_path: Path) -> Callable[..., Path]:
    """Change a copy of an ONNX file: `edit(path, lambda model: ...)`."""
    import onnx

    def edit(path: Path, change: Callable[[Any], None]) -> Path:
        model = onnx.load(str(path))
        change(model)
        onnx.save(model, str(tmp_path / "changed.onnx"))
        return tmp_path / "changed.onnx"

    return edit


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Silence deprecations of TorchScript; use one thread, which other tests cannot slow down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(threads)
