"""OpenVINO on Intel's GPUs and NPUs: properties of each plugin, and messages without a device.

Where there is no NPU, OpenVINO's CPU plugin stands in: it takes the same properties and fixed
shapes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes.artifact.artifact import MANIFEST, Artifact, publish
from runtimes.engines.openvino import openvino as engine
from runtimes.engines.openvino.openvino import OpenVinoRuntime, properties
from runtimes.errors import InputError, Unavailable, UsageError
from runtimes.files.layout import REFERENCE_FILE
from runtimes.machine import intel
from runtimes.machine.devices import absent
from runtimes.machine.intel import INSTALL
from runtimes.results import Build, Status
from runtimes.session import SessionOptions, load
from runtimes.validator.host import SessionHost
from runtimes.validator.reference import Reference
from runtimes.validator.validate import Target, validate

pytestmark = pytest.mark.skipif(
    not find_spec("openvino"), reason=f"openvino is not installed: {INSTALL}"
)
INTEL = ("intel-gpu", "intel-npu")

_ON_INTEL = """
devices: [{device}]
artifacts:
  openvino-fp16: {{format: openvino, precision: fp16}}
  openvino-fp32: {{format: openvino}}
"""


def noise(batch: int) -> dict[str, np.ndarray[Any, Any]]:
    return {
        "image": np.random.default_rng(batch).standard_normal((batch, 3, 32, 32)).astype(np.float32)
    }


@pytest.mark.parametrize(
    ("device", "wanted"),
    [
        (
            "cpu",
            {
                "INFERENCE_PRECISION_HINT": "f16",
                "ENABLE_CPU_PINNING": False,
                "INFERENCE_NUM_THREADS": 3,
            },
        ),
        ("intel-gpu", {"INFERENCE_PRECISION_HINT": "f16", "ALLOW_AUTO_BATCHING": False}),
        ("intel-npu", {}),
    ],
)
@pytest.mark.parametrize("hint", ["latency", "throughput"])
def test_each_plugin_is_given_its_own_properties(
    device: str, wanted: dict[str, Any], hint: str
) -> None:
    build = {"inference_precision": "fp16", "hint": hint}
    assert properties(build, 3, device) == {"PERFORMANCE_HINT": hint.upper(), **wanted}


@pytest.mark.parametrize("device", INTEL)
def test_properties_are_such_that_openvino_itself_takes(device: str) -> None:
    """The plugin's own list; the core keeps for itself how it batches."""
    import openvino

    try:
        supported = openvino.Core().get_property(intel.PLUGINS[device], "SUPPORTED_PROPERTIES")
    except RuntimeError as error:
        pytest.skip(f"the plugin does not load here: {str(error).splitlines()[-1]}")
    assert set(properties({}, 3, device)) - {"ALLOW_AUTO_BATCHING"} <= set(supported)


def test_every_device_must_have_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    capabilities = {"CPU": ("FP32",), "GPU": ("FP32", "FP16", "INT8"), "NPU": ("FP16", "INT8")}
    monkeypatch.setattr(engine, "_capabilities", lambda plugin: capabilities[plugin])

    def missing(device: str, precision: str) -> str | None:
        return OpenVinoRuntime().missing(device, {"inference_precision": precision})

    assert missing("intel-gpu", "fp32") is None and missing("intel-npu", "fp16") is None
    assert missing("intel-npu", "fp32") == "this NPU does not compute in fp32 (it does in fp16)"
    assert (
        missing("intel-gpu", "bf16") == "this GPU does not compute in bf16 (it does in fp32, fp16)"
    )
    assert OpenVinoRuntime().missing("intel-npu", {}) is None, "some artifact runs there"


@pytest.mark.parametrize("device", INTEL)
def test_without_the_device_the_row_is_built_and_says_what_it_takes(
    ir_build: Path, device: str
) -> None:
    if absent(device) is None:
        pytest.skip(f"this machine has one: {intel.intel_devices()[device]}")
    artifact = Artifact.open(ir_build / "openvino")
    rows = validate(
        [Target(artifact, "cpu"), Target(artifact, device)],
        Reference.load(ir_build / REFERENCE_FILE),
        lambda device: None,
        budget=0,
    )
    assert [(row.device, row.status) for row in rows] == [
        ("cpu", Status.PASSED),
        (device, Status.BUILT),
    ]
    name, driver = {
        "intel-gpu": ("GPU", "intel-opencl-icd"),
        "intel-npu": ("NPU", "intel/linux-npu-driver"),
    }[device]
    assert f"no Intel {name} that OpenVINO can use on this machine" in str(rows[1].reason)
    assert str(rows[1].reason).endswith(driver)
    with pytest.raises(Unavailable, match=f"openvino cannot run on {device} here: no Intel {name}"):
        load(artifact.path, device)


def test_other_formats_do_not_run_there(small_build: Path) -> None:
    with pytest.raises(UsageError, match=r"onnx \(onnx\) runs on cpu, cuda, not on intel-gpu"):
        load(small_build / "onnx", "intel-gpu")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU plugin in place of the NPU's."""
    monkeypatch.setattr(intel, "intel_devices", lambda: {"intel-npu": "a CPU"})
    monkeypatch.setitem(intel.PLUGINS, "intel-npu", "CPU")


@pytest.mark.usefixtures("stand_in")
def test_an_npu_runs_the_best_sizes_and_says_why_no_others(ir_build: Path) -> None:
    with load(ir_build / "openvino", "intel-npu") as session:
        assert session.run(noise(1))["logits"].shape == (1, 10)
        with pytest.raises(InputError) as caught:
            session.run(noise(3))
        assert str(caught.value) == (
            "'image' has batch=3, outside 1..1; expected float32[batch, 3, 32, 32]. NPUs "
            "take fixed sizes only; this artifact is compiled for batch=1 there (`opt` in `dims:`): "
            "run other sizes on another device, or build an artifact for each"
        )
        with pytest.raises(
            InputError, match=r"has dtype float64; expected float32\[batch, 3, 32, 32\]$"
        ):
            session.run({"image": noise(1)["image"].astype(np.float64)})
        with pytest.raises(
            InputError, match=r"batch=9, outside 1\.\.1; expected float32\[batch, 3, 32, 32\]$"
        ):
            session.run(noise(9))
        assert session._ranges is None
        assert session.compute_layers() is None


@pytest.mark.usefixtures("stand_in")
def test_throughput_on_an_npu_is_asked_at_the_sizes_that_run(ir_build: Path) -> None:
    with (
        load(ir_build / "openvino", "intel-npu") as session,
        load(ir_build / "openvino", "cpu") as whole,
    ):
        assert list(SessionHost(lambda: session).throughput()) == [1]
        assert session.dims["batch"].bounds == (1, 1, 1) and whole.dims["batch"].bounds == (1, 1, 8)


@pytest.mark.usefixtures("stand_in")
def test_each_device_keeps_what_it_compiled_for_itself(ir_build: Path, caches: Path) -> None:
    for device in ("cpu", "intel-npu"):
        with load(ir_build / "openvino", device, SessionOptions(cache=True)) as session:
            session.run(noise(1))
    folders = {path.name.partition("-")[2]: list(path.glob("*.blob")) for path in caches.iterdir()}
    assert {device: len(blobs) for device, blobs in folders.items()} == {"cpu": 1, "intel-npu": 1}


def test_the_cache_is_pruned_when_a_session_opens(
    ir_build: Path, caches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = SessionOptions(cache=True)
    artifact = Artifact.open(shutil.copytree(ir_build / "openvino", tmp_path / "copy"))
    (artifact.path / MANIFEST).unlink()
    (artifact.path / "notes.txt").write_text("other files, so another folder of the cache")
    second = publish(artifact.path, tmp_path / "second", artifact.manifest)
    monkeypatch.setattr(engine, "prune", lambda root: engine_prune(root, 0))
    with load(ir_build / "openvino", options=options) as session:
        (first,) = caches.iterdir()
        with load(second.path, options=options):
            assert first.exists(), "the session uses it"
            assert session.run(noise(3))["logits"].shape == (3, 10)
    with load(second.path, options=options):
        assert not first.exists()


engine_prune = engine.prune


@pytest.fixture(scope="module")
def on_intel(
    small_recipe: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Build]:
    """Build and judge the small CNN at a fixed batch, in float16 and float32, on a device."""
    from converters.build.build import build
    from converters.plan.load import load_recipe

    def make(device: str) -> Build:
        recipe = small_recipe.with_name(f"{device}.yaml")
        shared = (
            small_recipe.read_text(encoding="utf-8").partition("dims:")[0].replace("[batch,", "[2,")
        )
        recipe.write_text(shared + _ON_INTEL.format(device=device), encoding="utf-8")
        return build(load_recipe(recipe), tmp_path_factory.mktemp("intel") / device, budget=1)

    return make


@pytest.mark.parametrize(
    "device",
    [pytest.param(name, marks=getattr(pytest.mark, name.replace("-", "_"))) for name in INTEL],
)
def test_what_the_device_computes_in_passes_every_gate_but_speed(
    on_intel: Callable[[str], Build], device: str
) -> None:
    rows = {row.precision: row for row in on_intel(device).artifacts}
    if device == "intel-npu":
        assert "does not compute in fp32" in str(rows.pop("fp32").reason)
    for row in rows.values():
        assert row.device == device
        assert [gate for gate in row.gates if gate.ok is False and gate.gate != "speed"] == []
        assert any("the speed-up is over the eager model on cpu" in note for note in row.notes)
