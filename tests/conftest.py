"""Shared by all tests: one small model, really exported, and the rule for tests that need a device."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import settings

from runtimes.artifact.artifact import Artifact
from runtimes.files.layout import REFERENCE_FILE
from runtimes.machine import machine
from runtimes.machine.devices import absent
from runtimes.validator.reference import Reference
from tests.cpus.recorded import cpuinfo

# A shell has the jobs that it starts in the background ignore Ctrl-C, and what tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--data`, a folder of trained networks and pictures that optional tests look into."""
    parser.addoption("--data", default=None, help="folder with data for optional tests")


def _take_own_cores() -> None:
    """Share the cores out to the processes of a test run: their engines' threads do not compete."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    cores = sorted(os.sched_getaffinity(0))
    if worker and 1 < processes <= len(cores):
        os.sched_setaffinity(0, cores[int(worker.removeprefix("gw")) :: processes])


_take_own_cores()

# The same examples in every run: a CI job that fails shall fail again on the author's machine.
settings.register_profile("burnish", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("burnish")

_FACTORY = """
from torch import nn


def build(width=8):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU6(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, 10),
    )
"""

_RECIPE = """
model: python:small_cnn:build
args: {width: 8}
weights: random:0
inputs:
  image: {shape: [batch, 3, 32, 32], dtype: float32}
dims:
  batch: {min: 1, opt: 1, max: 8}
task: classification
artifacts:
  torchscript: {}
  onnx: {}
  tensorrt: {flavor: rtx}
"""

_COMPILED = """
extends: small
artifacts: {torchscript: null, onnx: null, tensorrt: null, torch-export: {}, aot-inductor: {}}
"""

_QUANTIZED = """
extends: small
data:
  calibration: {arrays: samples.npy, samples: 32}
  evaluation: {arrays: samples.npy, samples: 16}
artifacts:
  torchscript: null
  onnx: {}
  tensorrt: null
  onnx-int8: {format: onnx, cpu: x86, passes: [{quantize: int8}]}
  onnx-arm: {format: onnx, cpu: arm, passes: [{quantize: int8}]}
  onnx-ort: {format: onnx, passes: [{quantize: {to: int8, method: onnxruntime}}]}
  onnx-head: {format: onnx, passes: [{quantize: {to: int8, exclude: ["8"], calibrate: mse}}]}
  onnx-fast: {format: onnx, optimize: all, passes: [{quantize: int8}]}
  onnx-fused-head:
    {format: onnx, optimize: extended, passes: [{quantize: {to: int8, exclude: ["8"], calibrate: mse}}]}
  onnx-budget: {format: onnx, passes: [{quantize: {to: int8, max_drop: 4, metric: sqnr}}]}
  openvino-int8: {format: openvino, passes: [{quantize: int8}]}
  openvino-budget: {format: openvino, passes: [{quantize: {to: int8, max_drop: 0.001%, metric: sqnr}}]}
  tensorrt-int8: {format: tensorrt, flavor: rtx, passes: [{quantize: int8}]}
"""

_OPENVINO = """
extends: small
artifacts:
  torchscript: null
  onnx: null
  tensorrt: null
  openvino: {}
  openvino-bf16: {format: openvino, precision: bf16}
"""

_ON_A_GPU = """
devices: [cpu, cuda]
artifacts:
  torchscript: {}
  torch-export: {}
  onnx: {}
  tensorrt: {}
  torch-tensorrt: {}
"""


_MARKS = {"gpu": "cuda", "intel_gpu": "intel-gpu", "intel_npu": "intel-npu"}


# Files that take long. Two processes share the files out: one that starts last would keep one waiting.
_FIRST = (
    "test_shipped_recipes.py",
    "test_killed.py",
    "test_deterministic.py",
    "test_injected.py",
    "test_build.py",
    "test_cached_builds.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with long files. Skip what needs a device that this machine has not; the reason shows with `-ra`."""
    order = {name: place for place, name in enumerate(_FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
    for mark, device in _MARKS.items():
        marked = [item for item in items if item.get_closest_marker(mark)]
        if marked and (reason := absent(device)):
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=f"marked {mark}: {reason}"))


def pytest_runtest_setup() -> None:
    """Share the ONNX exporter's table of operators between all exports of this process.

    The exporter builds the table again for each export, at a second of processor time, and then only reads it.
    """
    registration = sys.modules.get(
        "torch.onnx._internal.exporter._registration"
    )  # once something was exported
    if registration is not None and not hasattr(
        registration.ONNXRegistry.from_torchlib, "cache_info"
    ):
        registry = registration.ONNXRegistry
        registry.from_torchlib = staticmethod(functools.cache(registry.from_torchlib))


def _of_the_run(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder that all processes of a test run share: one trusts what another has built."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return factory.mktemp(name)
    folder = factory.getbasetemp().parent / name
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests find nothing that this user's builds left, and leave nothing; torch's downloads stay where they are."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", os.environ.get("TORCH_HOME") or str(usual / "torch"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        patch.setenv("XDG_STATE_HOME", str(_of_the_run(tmp_path_factory, "states")))
        yield


@pytest.fixture(autouse=True)
def usual_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine counts as being at its usual speed: whether it is decides no test, and nobody waits for it."""
    monkeypatch.setattr(
        "runtimes.validator.speed.speed.Pace",
        lambda: SimpleNamespace(wait=lambda seconds: (True, 0.0)),
    )


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Gives this process and those that it starts the instruction sets of a recorded CPU (`tests/cpus`)."""

    def become(name: str) -> None:
        monkeypatch.setenv("BURNISH_CPUINFO", str(cpuinfo(name)))
        monkeypatch.setattr(
            "platform.machine", lambda: "aarch64" if name.startswith("neoverse") else "x86_64"
        )
        machine.instruction_sets.cache_clear()

    machine.instruction_sets.cache_clear()
    yield become
    machine.instruction_sets.cache_clear()


def _shared(factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], None]) -> Path:
    """A folder that is filled once for all processes of a test run; the others wait for it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = factory.mktemp(name)
        fill(folder)
        return folder
    run = factory.getbasetemp().parent
    folder, filled = run / name, run / f"{name}.filled"
    with (run / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not filled.exists():
            with contextlib.suppress(FileNotFoundError):  # of a process that failed to fill it
                shutil.rmtree(folder)
            folder.mkdir()
            fill(folder)
            filled.touch()
    return folder


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of a small CNN (3x32x32, batch 1..8, ten classes), next to its factory `small_cnn.py`.

    `compiled.yaml`, `quantized.yaml`, `openvino.yaml` and `gpu.yaml` beside it build the same model for others.
    """

    def write(folder: Path) -> None:
        (folder / "small_cnn.py").write_text(dedent(_FACTORY), encoding="utf-8")
        (folder / "small.yaml").write_text(dedent(_RECIPE), encoding="utf-8")
        (folder / "compiled.yaml").write_text(_COMPILED, encoding="utf-8")
        (folder / "quantized.yaml").write_text(_QUANTIZED, encoding="utf-8")
        (folder / "openvino.yaml").write_text(_OPENVINO, encoding="utf-8")
        on_a_gpu = dedent(_RECIPE).partition("artifacts:")[0] + dedent(_ON_A_GPU)
        (folder / "gpu.yaml").write_text(on_a_gpu, encoding="utf-8")
        samples = np.random.default_rng(5).normal(0, 1, (48, 3, 32, 32)).astype(np.float32)
        np.save(folder / "samples.npy", samples)

    return _shared(tmp_path_factory, "small_recipe", write) / "small.yaml"


def _built(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of the recipe, not timed."""
    from converters.build.build import build
    from converters.plan.load import load_recipe

    def fill(folder: Path) -> None:
        build(load_recipe(recipe), folder / recipe.stem, budget=0)

    return _shared(tmp_path_factory, f"{recipe.stem}_build", fill) / recipe.stem


@pytest.fixture(scope="session")
def small_build(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real build of `small_recipe`, not timed: torchscript, onnx and, where it is installed, tensorrt (rtx).

    Shared by the whole session: read it, and change only a copy.
    """
    return _built(small_recipe, tmp_path_factory)


@pytest.fixture(scope="session")
def compiled_build(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, not timed, as torch-export and, where there is a C++ compiler, aot-inductor.

    Shared by the whole session: read it, and change only a copy.
    """
    return _built(small_recipe.with_name("compiled.yaml"), tmp_path_factory)


@pytest.fixture(scope="session")
def quantized_build(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model in int8 in all ways, not timed, calibrated and judged on parts of one file of samples.

    Shared by the whole session: read it, and change only a copy.
    """
    return _built(small_recipe.with_name("quantized.yaml"), tmp_path_factory)


@pytest.fixture(scope="session")
def ir_build(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, not timed, as OpenVINO IR in float32 and bfloat16.

    Shared by the whole session: read it, and change only a copy.
    """
    return _built(small_recipe.with_name("openvino.yaml"), tmp_path_factory)


@pytest.fixture(scope="session")
def gpu_build(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model built for this machine's GPU, with every format that runs on one; for tests marked `gpu`."""
    return _built(small_recipe.with_name("gpu.yaml"), tmp_path_factory)


@pytest.fixture(scope="session")
def small_reference(small_build: Path) -> Reference:
    """What the eager model of `small_build` answers to its probes."""
    return Reference.load(small_build / REFERENCE_FILE)


@pytest.fixture
def artifact_copy(small_build: Path, tmp_path: Path) -> Callable[[str], Artifact]:
    """Copies an artifact of `small_build` by name, for a test that changes it."""

    def copy(name: str) -> Artifact:
        return Artifact.open(shutil.copytree(small_build / name, tmp_path / name))

    return copy
