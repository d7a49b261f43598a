"""The table of instruction sets against every word that Linux, GCC, Clang and PyTorch know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from runtimes.machine import machine
from runtimes.machine.bound import lacking, recorded, vectors
from runtimes.machine.instruction_sets import (
    check_name,
    hidden,
    names,
    of_kernel,
    of_manifest,
    of_option,
    of_torch,
)
from runtimes.machine.instruction_table import TABLE, Architecture
from tests.cpus.recorded import flags, spellings

pytestmark = pytest.mark.cpu_flags
# Words of /proc/cpuinfo that name nothing a compiler could be told to use, by reason.
_NOT_X86 = {
    "part of every x86-64 CPU": (
        "fpu tsc cx8 cmov clflush syscall lm nopl cpuid sep pse pse36 pae pge pat mtrr mca mce msr apic vme "
        "de nx mp"
    ),
    "of the system, not of a process": (
        "up tm pbe acpi dts ds_cpl vmx smx est tm2 cid sdbg xtpr pdcm pcid dca x2apic tsc_deadline_timer "
        "hypervisor svm extapic cr8_legacy osvw ibs skinit wdt tce nodeid_msr topoext perfctr_core perfctr_nb "
        "bpext ptsc perfctr_llc ring3mwait cpuid_fault cpb epb cat_l3 cat_l2 cdp_l3 cdp_l2 tdx_host_platform "
        "tdx_guest hw_pstate proc_feedback pti intel_ppin amd_ppin ssbd mba perfmon_v2 ibrs ibpb stibp "
        "ibrs_enhanced virt_ssbd tpr_shadow flexpriority ept ept_ad vpid vmmcall tsc_adjust smep smap erms "
        "cqm rdt_a intel_pt cqm_llc cqm_occup_llc cqm_mbm_total cqm_mbm_local split_lock_detect fred lam "
        "irperf xsaveerptr cppc brs dtherm ida arat pln pts hwp hwp_notify hwp_act_window hwp_epp hwp_pkg_req "
        "hfi npt lbrv svm_lock nrip_save tsc_scale vmcb_clean flushbyasid decodeassists pausefilter "
        "pfthreshold avic v_vmsave_vmload vgif x2avic v_spec_ctrl vnmi umip ospke tme la57 bus_lock_detect "
        "sgx_lc overflow_recov succor smca md_clear arch_lbr ibt flush_l1d arch_capabilities sme sev sev_es "
        "sev_snp debug_swap svsm amd_lbr_pmc_freeze amd_lbr_v2 acc_power rapl"
    ),
    "how it counts, is wired or was found": (
        "pn ss ht ia64 constant_tsc art arch_perfmon pebs bts rep_good xtopology tsc_reliable nonstop_tsc "
        "nonstop_tsc_s3 tsc_known_freq extd_apicid amd_dcm aperfmperf dtes64 cmp_legacy"
    ),
    "faster or safer, not more": "misalignsse fsrm fxsr_opt pdpe1gb xgetbv1",
    "of makers and years before x86-64, or without an option": (
        "recovery longrun lrti cxmmx k6_mtrr cyrix_arr centaur_mcr rng rng_en ace ace_en ace2 ace2_en phe "
        "phe_en pmm pmm_en mmxext rdtscp mpx monitor hle user_shstk"
    ),
}
_NOT_ARM = {
    "of the system, not of a process": "evtstrm cpuid dgh ecv dcpop dcpodp rprfm mte3 poe",
    "modes and formats of instructions that other words name": "afp rpres ebf16 sveebf16 fpmr f8e4m3 f8e5m2",
    "parts of SME itself": "smei8i32 smef16f32 smeb16f32 smef32f32 smei16i32 smebi32i32",
    "no compiler of the lists below has an option for them": "f8mm8 f8mm4 sveeltperm",
}
# LLVM's features that are no instruction sets of their own, by reason; the beginnings of the names
# of families.
_NOT_LLVM = {
    "what the code is for, not what it may use": (
        "16bit-mode 32bit-mode 64bit 64bit-mode soft-float x32 x87 cx8 cmov nopl ermsb fsrm vzeroupper "
        "harden-sls lvi retpoline seses tagged-globals branch-hint shstk hle"
    ),
    "scheduling": (
        "allow-light fast false-deps faster idiv inline-asm lea- macrofusion branchfusion no-bypass pad- "
        "prefer- sbb- slow- sse-unaligned tuning- use-"
    ),
    "parts of APX, of which GCC's and Clang's -mapxf is the whole": "ccmp cf egpr ndd nf ppx push2pop2 zu",
    "width of AVX-512, which avx512f names": "evex512",
}


@pytest.mark.parametrize(
    ("architecture", "kernel", "exceptions"),
    [("x86", "kernel_x86", _NOT_X86), ("arm", "kernel_arm64", _NOT_ARM)],
)
def test_every_word_of_the_kernel_is_in_the_table_or_left_out_for_a_reason(
    architecture: Architecture, kernel: str, exceptions: dict[str, str]
) -> None:
    left_out = [word for group in exceptions.values() for word in group.split()]
    shown = set(spellings(kernel))
    assert not [word for word, count in Counter(left_out).items() if count > 1]
    assert set(left_out) <= shown
    in_table = {row.kernel for row in TABLE[architecture] if row.kernel}
    assert in_table <= shown, "a word that Linux does not show would never be found"
    assert shown - in_table == set(left_out)


def test_what_linux_knows_and_hides_is_not_looked_for_in_proc() -> None:
    """AMX for float16: on Granite Rapids Linux shows only amx_tile, amx_int8 and amx_bf16."""
    assert {"amx_fp16", "avx_ifma", "cmpccxadd"} <= hidden("x86") & set(
        spellings("kernel_x86_hidden")
    )
    shown_later = {row.kernel for row in TABLE["x86"] if row.kernel} & set(
        spellings("kernel_x86_hidden")
    )
    assert not shown_later


@pytest.mark.parametrize("words", ["gcc16_x86", "llvm22_x86"])
def test_every_instruction_set_of_a_compiler_for_x86_is_in_the_table(words: str) -> None:
    left_out = tuple(word for group in _NOT_LLVM.values() for word in group.split())
    unknown = {word for word in map(_bare, spellings(words)) if not of_option("x86", word)}
    assert not {word for word in unknown if not word.startswith(left_out)}


def _bare(option: str) -> str:
    return option.removeprefix("-m")


def test_every_capability_of_torch_is_in_the_table() -> None:
    torch = pytest.importorskip("torch")
    facts = {"architecture", "cpu_name", "clflush", "sve_max_length", "sme_max_length"}
    in_table: set[str | None] = set()
    for rows in TABLE.values():
        in_table.update(row.torch for row in rows)
    for key in torch.cpu.get_capabilities():
        if key not in facts and not key.endswith("_cache_size") and "num_" not in key:
            assert key in in_table


def test_torch_and_the_kernel_find_the_same_instruction_sets_here(
    on_cpu: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong spelling of either would show: both look at this very CPU."""
    torch = pytest.importorskip("torch")
    monkeypatch.delenv("BURNISH_CPUINFO", raising=False)
    if not Path("/proc/cpuinfo").exists():
        pytest.skip("there is no /proc/cpuinfo")
    cpu = machine.own_cpu()
    shared = {row.name for row in TABLE[cpu] if row.kernel and row.torch}
    assert (
        machine.instruction_sets() & shared == of_torch(cpu, torch.cpu.get_capabilities()) & shared
    )


@pytest.mark.parametrize("architecture", ["x86", "arm"])
def test_each_capability_is_in_the_table_once(architecture: Architecture) -> None:
    rows = TABLE[architecture]
    for column in (
        [row.name for row in rows],
        [row.kernel for row in rows if row.kernel],
        [row.torch for row in rows if row.torch],
    ):
        assert [text for text, count in Counter(column).items() if count > 1] == []


@pytest.mark.parametrize("name", ["avx512vnni", "amx-bf16", "vnni", ""])
def test_a_name_that_would_never_match_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="is no name in the table"):
        check_name(name)
    with pytest.raises(ValueError, match="is no name in the table"):
        machine.supports("avx2", name)


@pytest.mark.parametrize(
    ("cpu", "architecture", "has", "lacks"),
    [
        (
            "xeon_amx",
            "x86",
            "amx_tile amx_int8 amx_bf16 avx512_vnni avx_vnni avx512_fp16 avx512vbmi",
            "amx_fp16",
        ),
        (
            "xeon_avx512",
            "x86",
            "avx512f avx512_vnni fma avx2 sse3 lzcnt",
            "amx_tile avx512_bf16 avx_vnni",
        ),
        ("epyc_avx2", "x86", "avx2 fma f16c sse3 lzcnt", "avx512f avx_vnni"),
        ("neoverse_v1", "arm", "asimd asimddp bf16 i8mm sve fphp", "sve2 sme"),
        ("neoverse_v2", "arm", "asimd asimddp bf16 i8mm sve sve2", "sme ssbs"),
    ],
)
def test_recorded_cpus_are_understood(
    cpu: str, architecture: Architecture, has: str, lacks: str
) -> None:
    sets = of_kernel(architecture, flags(cpu))
    assert set(has.split()) <= sets
    assert set(lacks.split()) <= names(architecture)
    assert not set(lacks.split()) & sets


NATIVE = "avx512_vnni avx512bw avx512dq avx512f avx512vl amx_bf16 amx_int8 amx_tile fma"


@pytest.mark.parametrize(
    "isa",
    [
        NATIVE,
        "avx512vnni avx512bw avx512dq avx512f avx512vl amx-bf16 amx-int8 amx-tile fma",
    ],
    ids=["new", "of earlier manifests"],
)
def test_a_library_compiled_on_a_cpu_with_amx_runs_there_and_not_on_one_with_avx2(
    on_cpu: Callable[[str], None], isa: str
) -> None:
    on_cpu("xeon_amx")
    assert lacking({"isa": isa.split()}, no_torch) == []
    on_cpu("xeon_avx512")
    assert lacking({"isa": isa.split()}, no_torch) == ["amx_bf16", "amx_int8", "amx_tile"]
    on_cpu("epyc_avx2")
    assert lacking({"isa": isa.split()}, no_torch) == sorted(set(NATIVE.split()) - {"fma"})


def no_torch() -> dict[str, bool]:
    raise AssertionError("the kernel shows all of these")


def test_what_the_kernel_hides_is_asked_of_torch(on_cpu: Callable[[str], None]) -> None:
    on_cpu("xeon_amx")
    build = {"isa": ["amx_tile", "amx_fp16", "avx10_2", "amx_transpose"]}
    granite = {"amx_tile": True, "amx_fp16": True, "avx10_2": False}
    assert lacking(build, lambda: granite) == ["amx_transpose", "avx10_2"], (
        "what nobody can tell counts as lacking"
    )
    assert lacking(build, dict) == ["amx_fp16", "amx_transpose", "avx10_2"]
    on_cpu("epyc_avx2")
    assert "amx_tile" in lacking(build, lambda: granite), (
        "what the kernel shows is the kernel's to say"
    )


def test_text_that_is_no_name_is_refused_with_its_words(on_cpu: Callable[[str], None]) -> None:
    on_cpu("xeon_amx")
    assert lacking({"isa": ["avx9000", "avx2"]}, no_torch) == ["avx9000"]


@pytest.mark.parametrize(
    ("cpu", "before"),
    [
        (
            "xeon_amx",
            "avx avx2 fma avx512f avx512bw avx512vl avx512vnni avx512bf16 avxvnni amxint8 amxbf16",
        ),
        ("xeon_avx512", "avx avx2 fma avx512f avx512bw avx512vl avx512vnni"),
        ("epyc_avx2", "avx avx2 fma"),
        ("neoverse_v1", "asimd asimddp asimdhp i8mm bf16 sve"),
    ],
)
def test_graphs_that_were_laid_out_before_still_open_on_their_cpu(
    on_cpu: Callable[[str], None], cpu: str, before: str
) -> None:
    on_cpu(cpu)
    assert recorded({"isa": before.split()}) == set(vectors())


def test_the_width_of_sve_registers_is_one_of_the_names(
    on_cpu: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Code for registers of 256 bits computes something else on those of 128."""
    (tmp_path / "width").write_text("32\n")
    monkeypatch.setattr(machine, "_SVE_WIDTH", tmp_path / "width")
    on_cpu("neoverse_v1")
    assert lacking({"isa": ["sve", "sve256"]}, no_torch) == []
    assert lacking({"isa": ["sve", "sve128"]}, lambda: {"sve": True, "sve_max_length": 256}) == [
        "sve128"
    ]
    monkeypatch.setattr(machine, "_SVE_WIDTH", tmp_path / "nowhere")
    machine.instruction_sets.cache_clear()
    assert lacking({"isa": ["sve256"]}, lambda: {"sve": True, "sve_max_length": 256}) == []


def test_names_of_one_meaning_per_architecture() -> None:
    """`aes` is the name of a set on both, `fp16` an option for two sets on Arm alone."""
    assert of_manifest("arm", ["aes", "fp16"]) == {"aes", "fphp", "asimdhp"}
    assert of_manifest("x86", ["aes", "fp16"]) == {"aes", "fp16"}
