"""Instruction sets of compiler options: all options of GCC, of Clang and of inductor."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable

import pytest

from converters.errors import ExportError
from converters.exporters.torch.aot_inductor import instruction_sets
from converters.exporters.torch.compiler_options import (
    _NEUTRAL,
    _NEUTRAL_EXTENSIONS,
    UnknownOption,
    required,
)
from runtimes.machine import machine
from runtimes.machine.bound import lacking
from runtimes.machine.instruction_sets import Architecture, names, of_kernel, of_option
from tests.cpus.recorded import FOLDER, flags, spellings

pytestmark = pytest.mark.cpu_flags
COMMAND = "// Compile cmd\n// g++ /scratch/model.cpp -O3 -fopenmp {flags} -c -o /scratch/model.o\n"
# GCC's options for x86 of which no CPU is known by the word alone: an artifact is not made with
# them.
_REFUSED = {
    "-march": "a level or a model",
    "-mcpu": "a model",
    "-mapx-features": "parts of APX",
    "-m16": "another ABI",
    "-m32": "another ABI",
    "-mx32": "another ABI",
    "-miamcu": "another ABI",
    "-mandroid": "another system",
    "-mms-bitfields": "",
    "-mtls-size": "",
}


def outcome(option: str, architecture: Architecture) -> str:
    """What is made of an option that stands alone: named, neutral or refused."""
    try:
        return "named" if required([option], architecture) else "neutral"
    except UnknownOption:
        return "refused"


def check(options: set[str]) -> None:
    """Each names sets of the table, or is known to name none, or is refused on purpose."""
    outcomes = {
        option: outcome(option, "x86") for option in options if not option.startswith("-mno-")
    }
    assert {option for option, what in outcomes.items() if what == "refused"} <= set(_REFUSED)
    for option, what in outcomes.items():
        assert (what == "named") == bool(of_option("x86", option.removeprefix("-m"))), option


def test_every_option_of_gcc_is_understood_or_refused_on_purpose() -> None:
    check(set(spellings("gcc12_x86")))


def test_every_option_of_the_compiler_here_is_understood_or_refused_on_purpose() -> None:
    gcc = shutil.which("gcc")
    if not gcc or machine.own_cpu() != "x86":
        pytest.skip("there is no GCC for x86")
    text = subprocess.run(
        [gcc, "-Q", "--help=target"], capture_output=True, text=True, check=True
    ).stdout
    options = set(re.findall(r"^  (-m[\w.-]+)", text, re.MULTILINE))
    assert len(options) > 200
    check(options)


def test_what_this_compiler_switches_on_for_this_cpu_is_what_the_cpu_has(
    on_cpu: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GCC asks the CPU itself. By a wrong spelling a library would be refused where it was made."""
    gcc = shutil.which("gcc")
    if not gcc or machine.own_cpu() != "x86":
        pytest.skip("there is no GCC for x86")
    monkeypatch.delenv("BURNISH_CPUINFO", raising=False)
    command = [gcc, "-march=native", "-Q", "--help=target"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    on = re.findall(r"^  (-m[\w.-]+)\s+\[enabled\]", text, re.MULTILINE)
    needed = required(
        [option for option in on if of_option("x86", option.removeprefix("-m"))], "x86"
    )
    absent = lacking({"isa": sorted(needed)}, _capabilities)
    assert {"sse2", "avx"} <= needed
    assert absent == []


def _capabilities() -> dict[str, object]:
    import torch

    return dict(torch.cpu.get_capabilities())


def test_what_gcc_switches_on_for_a_cpu_with_amx_is_what_its_kernel_shows() -> None:
    on = (FOLDER / "xeon_amx.gcc").read_text(encoding="utf-8").partition("\n")[2].split()
    needed = required(on, "x86")
    assert {"amx_tile", "amx_int8", "amx_bf16", "avx512_vnni", "avx_vnni", "avx512_fp16"} <= needed
    assert needed <= of_kernel("x86", flags("xeon_amx"))


def test_neutral_options_name_no_instruction_set() -> None:
    words = [word for group in _NEUTRAL.values() for word in group.split()]
    assert len(words) == len(set(words))
    assert not [word for word in words if of_option("x86", word) or of_option("arm", word)]
    assert not [word for word in _NEUTRAL_EXTENSIONS if of_option("arm", word)]


@pytest.mark.parametrize("words", ["gcc12_arm64", "clang22_arm64"])
def test_every_extension_of_march_on_arm_is_understood(words: str) -> None:
    for extension in spellings(words):
        added = required([f"-march=armv8-a+{extension}"], "arm") - required(
            ["-march=armv8-a"], "arm"
        )
        assert bool(added) == (
            extension not in _NEUTRAL_EXTENSIONS and extension not in ("fp", "simd")
        ), extension
        assert required([f"-march=armv8-a+no{extension}"], "arm") == {"fp", "asimd"}


@pytest.mark.parametrize("level", ["armv8-a", "armv8.2-a", "armv8.4-a+bf16+i8mm"])
def test_a_level_asks_for_nothing_that_kernels_hide_from_a_cpu_of_that_level(level: str) -> None:
    """Graviton3 is an Armv8.4 whose kernel shows neither ssbs nor sb."""
    assert required([f"-march={level}"], "arm") <= of_kernel("arm", flags("neoverse_v1"))
    assert not required(["-march=armv9-a"], "arm") <= of_kernel("arm", flags("neoverse_v1"))
    assert required(["-march=armv9-a+sve2+fp16fml+sha3+bf16+i8mm"], "arm") <= of_kernel(
        "arm", flags("neoverse_v2")
    )


@pytest.mark.parametrize(
    ("option", "sets"),
    [
        (
            "-march=x86-64-v3",
            "avx avx2 bmi1 bmi2 f16c fma lzcnt movbe xsave cx16 sahf popcnt sse4_1",
        ),
        ("-march=x86-64-v4", "avx512f avx512vl avx2"),
        ("-msse2avx", "avx"),
        ("-mavx10.1-256", "avx10_1"),
    ],
)
def test_levels_and_options_that_mean_more_than_they_say(option: str, sets: str) -> None:
    assert set(sets.split()) <= required([option], "x86")


@pytest.mark.parametrize(
    "option", ["-march=native", "-march=haswell", "-mcpu=native", "-mavx99", "-mapx-features=egpr"]
)
def test_an_option_whose_cpu_is_not_known_is_refused(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "own_cpu", lambda: "x86")
    with pytest.raises(
        ExportError,
        match=rf"the compiler option {re.escape(option)} names no .*remove it from CXX",
    ):
        instruction_sets([COMMAND.format(flags=f"-mavx2 {option}")])


def test_what_only_takes_away_leaves_the_library_to_better_cpus() -> None:
    assert required(["-mavx2", "-mno-avx512f", "-mtune=native", "-mred-zone"], "x86") == {"avx2"}
    assert required(["-mfma4"], "x86") == {"fma4"}


def test_what_inductor_asks_of_the_compiler_is_understood() -> None:
    """Of all of its vector classes for x86 and Arm, those of CPUs that are not here too."""
    from torch._inductor import cpu_vec_isa

    x86 = [
        cpu_vec_isa.VecAVX2(),
        cpu_vec_isa.VecAVX512(),
        cpu_vec_isa.VecAVX512VNNI(),
        cpu_vec_isa.VecAMX(),
    ]
    for vectors in x86:
        needed = required(vectors._arch_flags.split(), "x86")
        assert needed and needed <= names("x86")
        own = {word for word in str(vectors).split() if word != "avx512"}
        assert own <= needed, "inductor's own words for them are the table's"
    assert required(x86[-1]._arch_flags.split(), "x86") >= {
        "amx_tile",
        "amx_bf16",
        "amx_int8",
        "avx512_vnni",
    }
    for width in (128, 256):
        sve = cpu_vec_isa.VecSVE(width)
        for options in (sve._arch_flags, sve._armv9a_arch_flags):
            assert {"sve", "bf16", f"sve{width}"} <= required(options.split(), "arm")
    assert required(cpu_vec_isa.VecNEON()._arch_flags.split(), "arm") == set()
    known = {
        cpu_vec_isa.VecZVECTOR,
        cpu_vec_isa.VecVSX,
        *(type(one) for one in (*x86, sve)),
        cpu_vec_isa.VecNEON,
    }
    known |= {cpu_vec_isa.InvalidVecISA, cpu_vec_isa.VecISA}
    kinds = {kind for kind in vars(cpu_vec_isa).values() if isinstance(kind, type)}
    assert {kind for kind in kinds if issubclass(kind, cpu_vec_isa.VecISA)} == known


@pytest.mark.parametrize(
    ("cpu", "absent"),
    [
        ("xeon_amx", ""),
        ("xeon_avx512", "amx_bf16 amx_int8 amx_tile"),
        ("epyc_avx2", "amx_bf16 amx_int8 amx_tile avx512_vnni avx512bw avx512dq avx512f avx512vl"),
    ],
)
def test_a_native_library_of_a_cpu_with_amx_is_accepted_on_that_cpu(
    cpu: str, absent: str, on_cpu: Callable[[str], None]
) -> None:
    """The shipped fault: it was refused on the CPU that had compiled it."""
    from torch._inductor.cpu_vec_isa import VecAMX

    on_cpu("xeon_amx")
    isa = instruction_sets([COMMAND.format(flags=VecAMX()._arch_flags)])
    on_cpu(cpu)
    assert lacking({"isa": isa}, dict) == absent.split()
