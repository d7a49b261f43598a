"""AOTInductor: the exported program compiled to a library for a kind of CPU."""

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
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from converters.errors import ExportError
from converters.exporters.base import Exporter, check_work, work_notes
from converters.exporters.job import Exported, ExportJob
from converters.exporters.torch import pt2e
from converters.exporters.torch.compiler_options import UnknownOption, required
from converters.exporters.torch.program import (
    ProgramOptions,
    computing_layers,
    count_nodes,
    export_program,
)
from runtimes.machine import machine
from runtimes.precision.judge import Work

MODEL_FILE = "model.pt2"
# Inductor writes the command above each of its sources; these are the flags that choose
# instructions.
_COMMAND = re.compile(r"^// \S.* -o \S+", re.MULTILINE)
_OPTION = re.compile(r"(?<= )-m\S+")
_SETTINGS = {
    # Weights become constants: BatchNorm folds into convolutions, oneDNN packs the weights once,
    # here.
    "freezing": True,
    # Otherwise the builder's number of threads would be compiled in, and SessionOptions.threads
    # ignored.
    "cpp.dynamic_threads": True,
    # No -march=native: the library then needs what the vector flags say, and the runtime can
    # compare.
    "cpp.march": "",
    # Believe the CPU's flags: trials would take seconds, and one that fails would silently give
    # slow scalar code.
    "cpp.vec_isa_ok": True,
    # They pay off only in a persistent cache, and they lie outside of TORCHINDUCTOR_CACHE_DIR.
    "aot_inductor.precompile_headers": False,
    "cpp_cache_precompile_headers": False,
    # Debug lines name the builder's folders.
    "aot_inductor.enable_line_tables": False,
    # Their messages name Python functions by their addresses in the builder's memory.
    "size_asserts": False,
    # Otherwise files are named by a hash of the compiler's command, with the builder's folders in
    # it.
    "aot_inductor.model_name_for_generated_files": "model",
    # One C++ file is one compiler process; a pool of Python workers would only wait, and outlive
    # the step.
    "compile_threads": 1,
}
# A call of oneDNN's kernels, or one of inductor's own, which autotuning may choose instead: it is
# generated, and known by its arguments alone.
_INTEGER_KERNEL = re.compile(
    r"_(?:qconv|qlinear)\w*\("
    r"|const u?int8_t\* ?\w* A,\s+const int8_t\* ?\w* B,\s+int32_t\* ?\w* C,"
)
_SIMD_BITS = {"native": None, "avx2": 256}


class AotInductorOptions(ProgramOptions):
    """Options of `format: aot-inductor`."""

    isa: Literal["native", "avx2"] = Field(
        "native",
        description="Instruction set. native: that of the building machine; avx2: of any "
        "x86-64-v3 CPU.",
    )
    autotune: bool = Field(
        True,
        description="Time inductor's matrix products against oneDNN's on this machine, and use "
        "the faster ones.",
    )

    @model_validator(mode="after")
    def _as_torchao_can(self) -> Self:
        options = self.quantize
        if options is None:
            return self
        if options.method != "auto" or options.calibrate != "auto":
            raise ValueError(
                "inductor has only one quantizer, torchao with NNCF: leave `method` and "
                "`calibrate` out"
            )
        if options.max_drop is not None:
            raise ValueError(
                "max_drop is for onnx, openvino and tensorrt: name layers to `exclude` instead"
            )
        if self.method == "non-strict":
            raise ValueError(
                "quantization needs `method: strict`, which records the module of each operator"
            )
        return self


class AotInductorExporter(Exporter):
    """Writes `model.pt2`, with a shared library in it.

    For the CPU only: a library is compiled for one device.
    """

    format = "aot-inductor"
    runtime = "aot-inductor"
    devices = ("cpu",)
    quantization = ("static",)
    Options = AotInductorOptions

    def missing(self, options: AotInductorOptions) -> str | None:
        """Return what is missing: torch, a C++ compiler, or the requested instruction set."""
        if options.isa == "avx2" and not machine.supports("avx2"):
            return "isa: avx2 is for x86-64 CPUs that have it, and is built on one"
        quantizer = pt2e.missing() if options.quantize else None
        return super().missing(options) or missing_compiler() or quantizer

    def quantizer(self, options: AotInductorOptions) -> str:
        """Return torchao: inductor has integer kernels for its patterns alone."""
        return pt2e.METHOD

    def unrepeatable(self, options: AotInductorOptions) -> str | None:
        """Return why autotuning varies: it decides by timings.

        Without it the library is the same.
        """
        return "autotune chooses matrix products by timing them" if options.autotune else None

    def export(self, job: ExportJob, options: AotInductorOptions) -> Exported:
        """Export, freeze, compile, package; the manifest lists the compiler's instruction sets."""
        import torch
        from torch._inductor.package.package import package_aoti

        start = _start(job, options)
        program, build = start.program, start.build
        args, kwargs = job.example_call()
        with _scratch(job.folder) as scratch, torch.no_grad():
            settings = {
                **_SETTINGS,
                "cpp.simdlen": _SIMD_BITS[options.isa],
                # Small products: oneDNN's are fast, but each call costs tens of microseconds of
                # overhead.
                "max_autotune_gemm": options.autotune,
                "cpp.cxx": (None, _without_folders(scratch)),
                "aot_inductor.package": True,
            }
            # As aoti_compile_and_package does, but without the C++ sources: they name the builder's
            # folders.
            module: Any = program.module(check_guards=False)
            files: Any = torch._inductor.aot_compile(module, args, kwargs, options=settings)
            sources, packaged = [], []
            for file in files:
                if file.endswith(".cpp"):
                    sources.append(Path(file).read_text(encoding="utf-8"))
                else:
                    packaged.append(file)
            isa = sorted({*instruction_sets(sources), *start.needs})
            if options.quantize:
                _check_kernels(sources)
            package_aoti(str(job.folder / MODEL_FILE), packaged)
        return Exported(
            MODEL_FILE,
            options.asked_precision,
            {"platform": machine.system(), "isa": isa, **build},
            start.notes,
            start.passes,
        )


@dataclass(frozen=True)
class _Start:
    """The program to compile, with its entries in the manifest and notes."""

    program: Any
    build: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    passes: list[dict[str, Any]] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    """Instruction sets without which the library would compute something else."""


def _start(job: ExportJob, options: AotInductorOptions) -> _Start:
    """Return the exported program, quantized if the recipe says so. Raises ExportError."""
    if options.quantize is None:
        return _Start(*export_program(job, options))
    program, build = export_program(job, options.model_copy(update={"method": "strict"}))
    wide = pt2e.widening() if options.isa == "native" else None
    quantized = pt2e.quantize_program(job, program, options.quantize, wide is not None)
    counts = count_nodes(quantized.program)
    computing = computing_layers(quantized.program)
    left = [layer.name for layer in computing if layer.kind == "product"]
    if not (layers := counts["compute_layers"].get("int8")):
        raise ExportError(
            "the model has no Conv2d or Linear module: inductor computes only these in integers"
        )
    check_work(computing, options)
    report = {**quantized.report, "quantized_layers": layers, "left_float": left}
    work = Work.of(computing, options.asked_precision).for_build()
    build |= {**counts, "work": work, "kept_layers": [*quantized.report["excluded"], *left]}
    needs = [wide] if wide else []
    notes = [*quantized.notes, *work_notes(computing, options)]
    return _Start(quantized.program, build, notes, [{"quantize": report}], needs)


def _check_kernels(sources: Sequence[str]) -> None:
    """Raise ExportError if the compiled code calls no integer kernel, but rounds floats."""
    if not any(_INTEGER_KERNEL.search(source) for source in sources):
        raise ExportError("inductor found no integer kernel for any quantized layer of this model")


def compiler() -> str:
    """Return the command of the C++ compiler: that of CXX, or the system's usual one."""
    return os.environ.get("CXX", "").strip() or ("clang++" if sys.platform == "darwin" else "g++")


def missing_compiler() -> str | None:
    """Return that there is no C++ compiler and what to do, or None."""
    name = shlex.split(compiler())[0]
    if shutil.which(name):
        return None
    return f"no C++ compiler ({name}): apt-get install g++, or set CXX to another"


def _without_folders(scratch: str) -> str:
    """Return the compiler's command, with options that hide the builder's folders."""
    import torch

    folders = {Path(torch.__file__).parent: "torch", scratch: "model"}
    options = [
        shlex.quote(f"-ffile-prefix-map={folder}={name}") for folder, name in folders.items()
    ]
    return " ".join([compiler(), *options])


def instruction_sets(sources: Sequence[str]) -> list[str]:
    """Return the instruction sets that the compiler could use, by their names in the table.

    Raises ExportError if the sources do not show them: the library could end in an illegal
    instruction.
    """
    commands = list(chain.from_iterable(map(_COMMAND.findall, sources)))
    if not commands:
        raise ExportError("inductor does not say which instruction sets it compiled for")
    options = set(chain.from_iterable(map(_OPTION.findall, commands)))
    try:
        return sorted(required(options, machine.own_cpu()))
    except UnknownOption as option:
        raise ExportError(
            f"it is unknown which CPUs can run the library: the compiler option {option} names no "
            "instruction set; remove it from CXX"
        ) from option


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[str]:
    """Collect all files of inductor and the compiler in a folder that is removed afterwards.

    It is in the job's folder, or in the system's if that has a space in its name, which inductor
    does not quote.
    """
    from torch._inductor.runtime.cache_dir_utils import temporary_cache_dir

    parent = folder if str(folder) == "".join(str(folder).split()) else None
    with tempfile.TemporaryDirectory(dir=parent) as scratch, temporary_cache_dir(scratch):
        yield scratch
