"""AOTInductor: the exported program compiled to a library for one kind of CPU, by inductor and a C++ compiler."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from converters.errors import ExportError
from converters.exporters.base import Exporter, check_precision
from converters.exporters.job import Exported, ExportJob
from converters.exporters.torch import pt2e
from converters.exporters.torch.compiler_options import UnknownOption, required
from converters.exporters.torch.program import ProgramOptions, count_nodes, export_program, float_products
from runtimes.machine import machine

MODEL_FILE = "model.pt2"
# Inductor notes the command above each of its sources; these are the flags that choose instructions.
_COMMAND = re.compile(r"^// \S.* -o \S+", re.MULTILINE)
_OPTION = re.compile(r"(?<= )-m\S+")
_SETTINGS = {
    # Weights become constants: BatchNorm folds into convolutions, oneDNN packs the weights once, here.
    "freezing": True,
    # Else the builder's number of threads would be compiled in, and SessionOptions.threads ignored.
    "cpp.dynamic_threads": True,
    # No -march=native: what the library needs is then what the vector flags say, and the runtime can compare.
    "cpp.march": "",
    # Take the CPU at its word: the trials would cost seconds, and where one fails, end in slow scalar code unsaid.
    "cpp.vec_isa_ok": True,
    # They pay off only in a cache that lives on, and they live outside of TORCHINDUCTOR_CACHE_DIR.
    "aot_inductor.precompile_headers": False,
    "cpp_cache_precompile_headers": False,
    # Debug lines name the builder's folders.
    "aot_inductor.enable_line_tables": False,
    # Their messages name Python functions by their addresses in the builder's memory.
    "size_asserts": False,
    # Else files are called by a hash of the compiler's command, with the builder's folders in it.
    "aot_inductor.model_name_for_generated_files": "model",
    # One C++ file is one compiler process; a pool of Python workers would only wait, and outlive the step.
    "compile_threads": 1,
}
_INTEGER_KERNEL = re.compile(r"_(?:qconv|qlinear)\w*\(|int8_gemm")
_SIMD_BITS = {"native": None, "avx2": 256}


class AotInductorOptions(ProgramOptions):
    """Options of `format: aot-inductor`."""

    isa: Literal["native", "avx2"] = Field(
        "native", description="native: the best vectors of the machine that builds; avx2: of any x86-64-v3 CPU."
    )
    autotune: bool = Field(
        True,
        description="Time inductor's own matrix products against oneDNN's here, and compile in the faster ones.",
    )

    @model_validator(mode="after")
    def _as_torchao_can(self) -> Self:
        if (asked := self.quantize) is None:
            return self
        if asked.method != "auto" or asked.calibrate != "auto":
            raise ValueError(
                "inductor takes one way to quantize, by torchao and NNCF: leave `method` and `calibrate` out"
            )
        if asked.max_drop is not None:
            raise ValueError("max_drop is for onnx, openvino and tensorrt: name layers to `exclude` instead")
        if self.method == "non-strict":
            raise ValueError("to quantize needs `method: strict`, which notes where each operator comes from")
        return self


class AotInductorExporter(Exporter):
    """Writes `model.pt2`, with a shared library in it. For the CPU only: a library is compiled for one device."""

    format = "aot-inductor"
    runtime = "aot-inductor"
    devices = ("cpu",)
    quantization = ("static",)
    Options = AotInductorOptions

    def missing(self, options: AotInductorOptions) -> str | None:
        """torch, a C++ compiler, and the vectors that are asked for."""
        if options.isa == "avx2" and not machine.supports("avx2"):
            return "isa: avx2 is for x86-64 CPUs that have it, and is built on one"
        return super().missing(options) or missing_compiler() or (pt2e.missing() if options.quantize else None)

    def quantizer(self, options: AotInductorOptions) -> str:
        """torchao: inductor has integer kernels for its patterns alone."""
        return pt2e.METHOD

    def unrepeatable(self, options: AotInductorOptions) -> str | None:
        """Autotuning decides by the clock; without it the same compiler makes the same library."""
        return "autotune chooses matrix products by timing them" if options.autotune else None

    def export(self, job: ExportJob, options: AotInductorOptions) -> Exported:
        """Export, freeze, compile, package; the manifest says which instructions the compiler was allowed."""
        import torch
        from torch._inductor.package.package import package_aoti

        start = _start(job, options)
        program, build = start.program, start.build
        args, kwargs = job.example_call()
        with _scratch(job.folder) as scratch, torch.no_grad():
            settings = {
                **_SETTINGS,
                "cpp.simdlen": _SIMD_BITS[options.isa],
                # Small products: oneDNN's are fast, but each call costs tens of microseconds before it computes.
                "max_autotune_gemm": options.autotune,
                "cpp.cxx": (None, _without_folders(scratch)),
                "aot_inductor.package": True,
            }
            # What aoti_compile_and_package does, but for the C++ sources: they tell the builder's folders.
            module: Any = program.module(check_guards=False)
            files: Any = torch._inductor.aot_compile(module, args, kwargs, options=settings)
            sources = [Path(file) for file in files if file.endswith(".cpp")]
            texts = [source.read_text(encoding="utf-8") for source in sources]
            isa = sorted({*instruction_sets(texts), *start.needs})
            if options.quantize:
                _check_kernels(texts)
            package_aoti(str(job.folder / MODEL_FILE), [file for file in files if not file.endswith(".cpp")])
        return Exported(
            MODEL_FILE,
            options.asked_precision,
            {"platform": machine.system(), "isa": isa, **build},
            start.notes,
            start.passes,
        )


@dataclass(frozen=True)
class _Start:
    """What is compiled: a program, and what was noted on the way to it."""

    program: Any
    build: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    passes: list[dict[str, Any]] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    """Instruction sets without which the library would compute something else."""


def _start(job: ExportJob, options: AotInductorOptions) -> _Start:
    """The exported program, quantized where that is asked for. Raises ExportError."""
    if options.quantize is None:
        return _Start(*export_program(job, options))
    program, build = export_program(job, options.model_copy(update={"method": "strict"}))
    wide = pt2e.widening() if options.isa == "native" else None
    done = pt2e.quantize_program(job, program, options.quantize, wide is not None)
    counts = count_nodes(done.program)
    left = float_products(done.program)
    if not (layers := counts["compute_layers"].get("int8")):
        raise ExportError("the model has no Conv2d or Linear module, which are what inductor computes in integers")
    check_precision(counts["compute_layers"], options.asked_precision, options.least_share, left=len(left))
    report = {**done.report, "quantized_layers": layers, "left_float": left}
    kept = [*done.report["excluded"], *left]
    needs = [wide] if wide else []
    return _Start(done.program, {**build, **counts, "kept_layers": kept}, done.notes, [{"quantize": report}], needs)


def _check_kernels(sources: Sequence[str]) -> None:
    """Raise ExportError where the compiled code calls no integer kernel: it would round, and compute in float."""
    if not any(_INTEGER_KERNEL.search(source) for source in sources):
        raise ExportError("inductor found no integer kernel for any quantized layer of this model")


def compiler() -> str:
    """The command of the C++ compiler: that of CXX, or the system's usual one."""
    return os.environ.get("CXX", "").strip() or ("clang++" if sys.platform == "darwin" else "g++")


def missing_compiler() -> str | None:
    """Why there is no C++ compiler, or None."""
    name = shlex.split(compiler())[0]
    return None if shutil.which(name) else f"no C++ compiler ({name}): apt-get install g++, or set CXX to another"


def _without_folders(scratch: str) -> str:
    """The compiler's command, told to write short names for the builder's folders into the library."""
    import torch

    folders = {Path(torch.__file__).parent: "torch", scratch: "model"}
    mapped = (shlex.quote(f"-ffile-prefix-map={folder}={name}") for folder, name in folders.items())
    return " ".join([compiler(), *mapped])


def instruction_sets(sources: Sequence[str]) -> list[str]:
    """The instruction sets that the compiler was allowed, by the names of `runtimes/instruction_sets.py`.

    Raises ExportError if the sources do not say: such a library could end in an illegal instruction.
    """
    commands = [command for source in sources for command in _COMMAND.findall(source)]
    if not commands:
        raise ExportError("inductor does not say which instruction sets it compiled for")
    options = {option for command in commands for option in _OPTION.findall(command)}
    try:
        return sorted(required(options, machine.own_cpu()))
    except UnknownOption as option:
        raise ExportError(
            f"which CPUs could run the library is not known: the compiler was given {option}, which names no "
            "instruction set; take it out of CXX"
        ) from option


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[str]:
    """Everything that inductor and the compiler write goes into a folder that is removed afterwards.

    Inductor does not quote the names of folders: where the job's has a space in it, it is the system's instead.
    """
    from torch._inductor.runtime.cache_dir_utils import temporary_cache_dir

    parent = folder if str(folder) == "".join(str(folder).split()) else None
    with tempfile.TemporaryDirectory(dir=parent) as scratch, temporary_cache_dir(scratch):
        yield scratch
