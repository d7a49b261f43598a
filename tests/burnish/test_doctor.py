"""`burnish doctor` reports what this machine can build and run, and what is missing."""

from __future__ import annotations

import pytest

from burnish import doctor
from burnish.doctor import FormatSupport, examine
from burnish.report.doctor import as_data, show_doctor
from converters.exporters import EXPORTERS
from runtimes.machine.devices import absent
from runtimes.registry import Registry


def test_there_is_a_finding_for_every_format() -> None:
    machine, findings = examine()
    assert {support.format for support in findings} >= set(EXPORTERS.shipped)
    assert machine["versions"]["torch"]


def test_the_formats_that_the_tests_need_are_supported() -> None:
    findings = {support.format: support for support in examine()[1]}
    for name in ("torchscript", "torch-export", "onnx"):
        assert findings[name].build is None
        assert findings[name].run["cpu"] is None


@pytest.mark.skipif(absent("cuda") is None, reason="this machine has an NVIDIA GPU")
def test_without_a_gpu_the_reasons_say_so() -> None:
    findings = {support.format: support for support in examine()[1]}
    for name in ("torchscript", "torch-export", "onnx", "tensorrt", "torch-tensorrt"):
        assert "no NVIDIA GPU" in str(findings[name].run["cuda"])
    assert "needs an NVIDIA driver" in str(findings["torch-tensorrt"].build)


def test_openvino_says_of_each_intel_device_what_it_takes() -> None:
    machine, findings = examine()
    run = next(support.run for support in findings if support.format == "openvino")
    assert list(run) == ["cpu", "intel-gpu", "intel-npu"]
    for device in ("intel-gpu", "intel-npu"):
        assert (run[device] is None) == (device in machine["intel"])
        assert run[device] == absent(device)


def test_a_broken_openvino_is_reported_by_its_format_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, str]:
        raise ImportError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr(doctor, "intel_devices", broken)
    machine, findings = examine()
    assert machine["intel"] == {}
    assert {support.format for support in findings} >= set(EXPORTERS.shipped)


def test_intel_devices_are_shown_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    machine, _ = examine()
    show_doctor({**machine, "intel": {"intel-gpu": "Arc"}}, [])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["intel-gpu", "Arc"] in lines


def test_a_broken_plugin_is_a_finding_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = {
        "broken": "no_such_module:Exporter",
        "onnx": "converters.exporters.onnx.onnx:OnnxExporter",
    }
    monkeypatch.setattr(doctor, "EXPORTERS", Registry("format", "no.such.group", shipped))
    broken, onnx = examine()[1]
    assert broken == FormatSupport("broken", "No module named 'no_such_module'", {})
    assert onnx.build is None


def test_the_table_names_what_is_missing_and_how_to_get_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine, _ = examine()
    findings = [
        FormatSupport("good", None, {"cpu": None}),
        FormatSupport("bad", "pip install it", {"cuda": "no GPU"}),
    ]
    show_doctor(machine, findings)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["good", "yes", "cpu"] in lines
    bad = next(line for line in lines if line[:1] == ["bad"])
    assert " ".join(bad) == "bad no nothing here to build: pip install it; on cuda: no GPU"
    assert as_data(machine, findings)["formats"]["bad"] == {
        "build": "pip install it",
        "run": {"cuda": "no GPU"},
    }
