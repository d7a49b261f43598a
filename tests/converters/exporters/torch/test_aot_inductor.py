"""AOTInductor: compiled in a scratch folder, for instruction sets that the manifest names."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from converters.build.build import build
from converters.errors import ExportError
from converters.exporters.job import ExportJob
from converters.exporters.torch import aot_inductor
from converters.exporters.torch.aot_inductor import (
    AotInductorExporter,
    AotInductorOptions,
    compiler,
    instruction_sets,
    missing_compiler,
)
from converters.plan.load import load_recipe
from runtimes.artifact.artifact import Artifact
from runtimes.machine import machine
from runtimes.results import Status

COMMAND = "// Compile cmd\n// g++ /scratch/model.cpp -O3 -fopenmp {flags} -c -o /scratch/model.o\n"
X86 = "-mavx512f -mavx512vl -mfma -mavx512vnni -mavx512vl"


class Two(nn.Module):
    """Two inputs by keyword, a dict of two outputs, one convolution and one matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = (
            nn.Conv1d(3, 4, 3, bias=False),
            nn.BatchNorm1d(4),
            nn.Linear(4, 2),
        )

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.norm(self.conv(left - right)).relu().mean(-1)
        return {"head": self.head(features), "features": features}


def options(**values: Any) -> AotInductorOptions:
    return AotInductorOptions(format="aot-inductor", **values)


@pytest.mark.skipif(bool(missing_compiler()), reason=str(missing_compiler()))
@pytest.mark.skipif(not machine.supports("avx2"), reason="this CPU has no AVX2")
def test_a_model_compiled_for_avx2_runs_at_a_batch_it_never_saw(
    make_job: Callable[..., ExportJob],
) -> None:
    from torch.export.pt2_archive._package import AOTICompiledModel

    model = Two()
    model.norm.running_mean = torch.randn(4)
    job = make_job(model, {"right": ["batch", 3, 8], "left": ["batch", 3, 8]}, {"batch": (1, 8)})
    exported = AotInductorExporter().export(job, options(isa="avx2", autotune=False))
    assert exported.build["isa"] == ["avx2", "f16c", "fma"]
    assert exported.build["platform"] == machine.system()
    assert exported.build["compute_layers"] == {"fp32": 2}
    assert [path.name for path in job.folder.iterdir()] == [exported.entry], (
        "the scratch folder is gone"
    )
    file = job.folder / exported.entry
    compiled: Any = AOTICompiledModel(
        torch._C._aoti.AOTIModelPackageLoader(str(file), "model", False, 1, -1)
    )
    left, right = torch.randn(7, 3, 8), torch.randn(7, 3, 8)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(right=right, left=left), model(left, right))
    with zipfile.ZipFile(file) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    for folder in (Path(torch.__file__).parents[1], job.folder):
        assert str(folder).encode() not in content, "nothing tells the builder's folders"


@pytest.mark.parametrize(
    ("cpu", "flags", "expected"),
    [
        ("x86", X86, ["avx512_vnni", "avx512f", "avx512vl", "fma"]),
        (
            "arm",
            "-march=armv8-a+sve+bf16 -msve-vector-bits=256",
            ["asimd", "bf16", "fp", "sve", "sve256"],
        ),
        ("x86", "", []),
    ],
)
def test_the_compilers_flags_name_the_instruction_sets(
    monkeypatch: pytest.MonkeyPatch, cpu: str, flags: str, expected: list[str]
) -> None:
    monkeypatch.setattr(machine, "own_cpu", lambda: cpu)
    assert instruction_sets(["int main();\n" + COMMAND.format(flags=flags)]) == expected


def test_sources_that_do_not_tell_are_refused() -> None:
    with pytest.raises(ExportError, match="does not say which instruction sets"):
        instruction_sets(["int main();"])


def test_without_a_compiler_the_artifact_is_skipped_with_words(
    small_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aot_inductor, "compiler", lambda: "no-such-compiler -O2")
    recipe = small_recipe.with_name("uncompiled.yaml")
    recipe.write_text(
        "extends: small\nartifacts: {torchscript: null, onnx: null, tensorrt: null, aot-inductor: "
        "{}}\n",
        encoding="utf-8",
    )
    row = build(load_recipe(recipe), tmp_path / "out", budget=0).artifacts[0]
    assert row.status is Status.SKIPPED
    assert (
        row.reason
        == "no C++ compiler (no-such-compiler): apt-get install g++, or set CXX to another"
    )


def test_the_compiler_is_that_of_cxx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "ccache no-such-compiler")
    assert compiler() == "ccache no-such-compiler"


def test_an_empty_cxx_means_the_usual_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = "clang++" if sys.platform == "darwin" else "g++"
    monkeypatch.setenv("CXX", "")
    monkeypatch.setenv("PATH", "")
    assert f"no C++ compiler ({usual})" in str(missing_compiler())


def test_avx2_is_built_only_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "instruction_sets", lambda: frozenset({"asimd"}))
    assert "isa: avx2 is for x86-64 CPUs that have it" in str(
        AotInductorExporter().missing(options(isa="avx2"))
    )


@pytest.mark.parametrize("wrong", [{"isa": "avx512"}, {"method": "trace"}])
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(**wrong)


INT8 = """
extends: small
data: {calibration: {arrays: some.npy, samples: 24}}
artifacts:
  torchscript: null
  onnx: null
  tensorrt: null
  whole: {format: aot-inductor, autotune: false, passes: [{quantize: int8}]}
  part: {format: aot-inductor, isa: avx2, autotune: false, passes: [{quantize: {to: int8, exclude: ["8"]}}]}
  wrong: {format: aot-inductor, passes: [{quantize: {to: int8, exclude: ["9"]}}]}
"""


@pytest.mark.skipif(bool(missing_compiler()), reason=str(missing_compiler()))
@pytest.mark.skipif(not machine.supports("avx2"), reason="this CPU has no AVX2")
def test_int8_is_integer_kernels_and_near_the_model(small_recipe: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchao", reason="it quantizes for inductor")
    recipe = small_recipe.with_name("int8_compiled.yaml")
    np.save(
        recipe.with_name("some.npy"),
        np.random.default_rng(3).normal(0, 1, (24, 3, 32, 32)).astype(np.float32),
    )
    recipe.write_text(INT8, encoding="utf-8")
    rows = {
        row.name: row for row in build(load_recipe(recipe), tmp_path / "out", budget=0).artifacts
    }
    assert [rows[name].status for name in ("whole", "part")] == [Status.PASSED] * 2, rows
    assert rows["wrong"].status is Status.ERROR
    assert "no layer is named '9'" in str(rows["wrong"].reason)
    whole, part = (Artifact.open(tmp_path / "out" / name) for name in ("whole", "part"))
    assert whole.manifest.precision == "int8"
    assert whole.manifest.build["compute_layers"] == {"int8": 3}
    assert part.manifest.build["compute_layers"] == {"int8": 2, "fp32": 1}
    reports = {
        name: artifact.manifest.build["passes"][0]["quantize"]
        for name, artifact in (("whole", whole), ("part", part))
    }
    assert reports["whole"]["calibration"] == {"samples": 24}
    assert reports["part"]["excluded"] == ["8"]
    assert reports["part"]["activation_bits"] == 7, "AVX2 adds products of bytes in 16 bits"
    wide = machine.supports("avx512_vnni", "avx_vnni")
    assert reports["whole"]["activation_bits"] == (8 if wide else 7)
    program, library = whole.entry.stat().st_size, whole.entry.read_bytes()
    assert program and str(tmp_path).encode() not in library


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"max_drop": 1}, "max_drop is for onnx, openvino and tensorrt"),
        ({"method": "nncf"}, "inductor has only one quantizer"),
        ({"calibrate": "mse"}, "inductor has only one quantizer"),
    ],
)
def test_what_torchao_cannot_is_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        options(passes=[{"quantize": {"to": "int8", **wrong}}])


@pytest.mark.skipif(not machine.supports("avx2"), reason="this CPU has no AVX2")
def test_a_model_with_nothing_to_quantize_is_told_so(make_job: Callable[..., ExportJob]) -> None:
    pytest.importorskip("torchao", reason="it quantizes for inductor")
    job = make_job(nn.Conv1d(3, 4, 3), {"x": ["batch", 3, 8]}, {"batch": (1, 8)})
    samples = [{"x": np.zeros((1, 3, 8), np.float32)}]
    taken = replace(job, calibration=lambda count: SomeSamples(samples))  # type: ignore[arg-type,return-value]
    with pytest.raises(ExportError, match="no Conv2d or Linear module"):
        AotInductorExporter().export(taken, options(isa="avx2", passes=[{"quantize": "int8"}]))


@pytest.mark.cpu_flags
@pytest.mark.parametrize(
    ("cpu", "isa", "bits", "needs"),
    [
        ("xeon_amx", "native", 8, ["avx512_vnni"]),
        ("xeon_avx512", "native", 8, ["avx512_vnni"]),
        ("xeon_amx", "avx2", 7, []),
        ("epyc_avx2", "native", 7, []),
    ],
)
@pytest.mark.skipif(machine.own_cpu() != "x86", reason="int8 for inductor is for x86-64 CPUs")
def test_a_cpu_that_adds_products_of_bytes_in_32_bits_gets_8_bits_and_the_artifact_needs_it(
    make_job: Callable[..., ExportJob],
    on_cpu: Callable[[str], None],
    cpu: str,
    isa: str,
    bits: int,
    needs: list[str],
) -> None:
    pytest.importorskip("torchao", reason="it quantizes for inductor")
    on_cpu(cpu)
    samples = [{"x": np.random.default_rng(3).normal(0, 1, (1, 16)).astype(np.float32)}]
    job = make_job(
        nn.Sequential(nn.Linear(16, 32), nn.ReLU()), {"x": ["batch", 16]}, {"batch": (1, 8)}
    )
    taken = replace(job, calibration=lambda count: SomeSamples(samples))  # type: ignore[arg-type,return-value]
    start = aot_inductor._start(taken, options(isa=isa, passes=[{"quantize": "int8"}]))
    assert start.passes[0]["quantize"]["activation_bits"] == bits
    assert start.needs == needs, "on lesser CPUs the sums would overflow"


class SomeSamples(list[Any]):
    """Samples that were read already."""

    digests = (b"one",)
    notes = ()

    def read(self) -> None:
        """Nothing is left to read."""


def test_quantized_code_without_integer_kernels_is_refused() -> None:
    with pytest.raises(ExportError, match="no integer kernel"):
        aot_inductor._check_kernels(["aoti_torch_cpu_convolution(x);"])


@pytest.mark.parametrize(
    ("first", "result", "integers"),
    [
        (torch.uint8, torch.int32, True),
        (torch.int8, torch.int32, True),
        (torch.bfloat16, torch.float32, False),
    ],
)
def test_kernels_that_inductor_generates_itself_are_known_by_their_types(
    first: torch.dtype, result: torch.dtype, integers: bool
) -> None:
    """Autotuning may choose them for all layers of a model, as it does with AMX."""
    import torch._inductor.lowering  # cpp_micro_gemm cannot be imported before it
    from torch._inductor.codegen.cpp_micro_gemm import CppMicroGemmAMX
    from torch._inductor.codegen.cpp_utils import GemmBlocking

    blocking = GemmBlocking(32, 16, 64)
    kernel = CppMicroGemmAMX("kernel", first, torch.int8, result, result, blocking)
    source = kernel.get_kernel_declaration()
    assert bool(aot_inductor._INTEGER_KERNEL.search(source)) is integers


def test_without_torchao_the_artifact_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "converters.exporters.base.find_spec", lambda name: None if name == "torchao" else object()
    )
    settings = options(passes=[{"quantize": "int8"}])
    assert (
        AotInductorExporter().missing(settings)
        == "torchao is not installed: pip install 'burnish[quantize]'"
    )
