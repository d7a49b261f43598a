"""Instruction sets that a compiler may use, by the options of GCC and Clang in its command."""

from __future__ import annotations

from collections.abc import Iterable

from runtimes.machine.instruction_sets import Architecture, of_option

# Options that begin with -m and choose no instructions: they do not decide which CPUs run the code.
_NEUTRAL: dict[str, str] = {
    "scheduling": (
        "tune tune-ctrl branch-cost dispatch-scheduler dump-tune-features no-default "
        "stringop-strategy memcpy-strategy memset-strategy inline-all-stringops "
        "inline-stringops-dynamically align-stringops move-max store-max prefer-avx128 "
        "prefer-vector-width avx256-split-unaligned-load avx256-split-unaligned-store "
        "accumulate-outgoing-args push-args force-drap skip-rax-setup stv vzeroupper 8bit-idiv "
        "relax-cmpxchg-loop fused-madd recip low-precision-div low-precision-sqrt "
        "low-precision-recip-sqrt evex512"
    ),
    "calls, stack and layout of data": (
        "abi cmodel address-mode large-data-threshold red-zone stackrealign stack-alignment "
        "stack-arg-probe preferred-stack-boundary incoming-stack-boundary omit-leaf-frame-pointer "
        "regparm rtd sseregparm call-ms2sysv-xlogues vect8-ret-in-mem ms-bitfields align-double "
        "align-data align-functions align-jumps align-loops 128bit-long-double 96bit-long-double "
        "long-double-64 long-double-80 long-double-128 tls-dialect tls-direct-seg-refs tls-size "
        "direct-extern-access needed cld 64 little-endian strict-align unaligned-access "
        "pc-relative-literal-loads global-merge"
    ),
    "x87": (
        "80387 hard-float soft-float fancy-math-387 fp-ret-in-387 ieee-fp fpmath pc32 pc64 pc80 "
        "general-regs-only"
    ),
    "protection and profiling": (
        "cet-switch manual-endbr function-return indirect-branch indirect-branch-register "
        "indirect-branch-cs-prefix force-indirect-call harden-sls mitigate-rop retpoline "
        "retpoline-external-thunk lvi-cfi lvi-hardening seses speculative-load-hardening "
        "branch-protection sign-return-address track-speculation stack-protector-guard "
        "stack-protector-guard-offset stack-protector-guard-reg stack-protector-guard-symbol "
        "fentry fentry-name fentry-section instrument-return nop-mcount record-mcount "
        "record-return fix-cortex-a53-835769 fix-cortex-a53-843419"
    ),
    "written output and libraries": (
        "asm intel-syntax veclibabi glibc uclibc musl bionic android relax-all macosx-version-min "
        "macos-version-min"
    ),
    "chosen when it runs": "outline-atomics",
    "for the system, or ignored by other CPUs: GCC takes them if Linux shows none": "mwait shstk hle",
    "without effect today": "mpx pcommit",
}
_NEUTRAL_OPTIONS = frozenset(option for group in _NEUTRAL.values() for option in group.split())
# Extensions in Arm's -march= that are for kernels and debuggers: no compiler writes their
# instructions.
_KERNELS_EXTENSIONS = (
    "ras rasv2 profile pmuv3 brbe predres predres2 the d128 ite tlbid tlbiw tev mpamv2 mtetc poe2 "
    "pops gcie occmo pcdphint lscp lsui cmh btie xs mops-go"
)
_NEUTRAL_EXTENSIONS = frozenset(_KERNELS_EXTENSIONS.split())

# Sets that compilers use by default for `-march=LEVEL`. Barriers, hints and system registers, which
# code must request, are left out: kernels hide them (ssbs on most Neoverse cores, paca in many
# virtual machines).
_LEVELS: dict[Architecture, dict[str, tuple[str, str]]] = {
    "x86": {
        "x86-64": ("", "mmx sse sse2 fxsr"),
        "x86-64-v2": ("x86-64", "cx16 sahf popcnt sse3 ssse3 sse4_1 sse4_2"),
        "x86-64-v3": ("x86-64-v2", "avx avx2 bmi1 bmi2 f16c fma lzcnt movbe xsave"),
        "x86-64-v4": ("x86-64-v3", "avx512f avx512bw avx512cd avx512dq avx512vl"),
    },
    "arm": {
        "armv8-a": ("", "fp asimd"),
        "armv8.1-a": ("armv8-a", "crc32 atomics asimdrdm"),
        "armv8.2-a": ("armv8.1-a", ""),
        "armv8.3-a": ("armv8.2-a", "fcma jscvt lrcpc"),
        "armv8.4-a": ("armv8.3-a", "asimddp asimdfhm flagm ilrcpc uscat"),
        "armv8.5-a": ("armv8.4-a", "flagm2 frint"),
        "armv8.6-a": ("armv8.5-a", "bf16 i8mm"),
        "armv8.7-a": ("armv8.6-a", ""),
        "armv8.8-a": ("armv8.7-a", "mops"),
        "armv8.9-a": ("armv8.8-a", "cssc"),
        "armv9-a": ("armv8.5-a", "fphp asimdhp sve sve2"),
        "armv9.1-a": ("armv9-a", "bf16 i8mm"),
        "armv9.2-a": ("armv9.1-a", ""),
        "armv9.3-a": ("armv9.2-a", "mops"),
        "armv9.4-a": ("armv9.3-a", "cssc sve2p1"),
    },
}


class UnknownOption(ValueError):
    """An option whose required CPU is unknown."""


def required(options: Iterable[str], architecture: Architecture) -> frozenset[str]:
    """Return the instruction sets that options such as `-mavx2` let a compiler use.

    `-mno-...` only removes sets: it is ignored, so the code is limited to CPUs that have more than
    it needs.

    Args:
        options: words of a command line; those that do not begin with `-m` are ignored.
        architecture: of the CPU that is compiled for.

    Raises:
        UnknownOption: for an option that may choose instructions and is in no list, such as a CPU
            model.
    """
    needed: set[str] = set()
    for option in options:
        if option.startswith("-m") and not option.startswith("-mno-"):
            needed |= _of_option(option, architecture)
    return frozenset(needed)


def _of_option(option: str, architecture: Architecture) -> frozenset[str]:
    word, _, value = option.removeprefix("-m").partition("=")
    if word == "arch":
        return _of_march(option, value, architecture)
    if option == "-msve-vector-bits=scalable" or word in _NEUTRAL_OPTIONS:
        return frozenset()
    if sets := of_option(architecture, f"{word}={value}" if value else word):
        return sets
    raise UnknownOption(option)


def _of_march(option: str, value: str, architecture: Architecture) -> frozenset[str]:
    """Return the sets of a level and of its extensions, as in `armv8-a+sve+bf16`."""
    level, *extensions = value.split("+")
    needed = _of_level(level, architecture)
    if needed is None:
        raise UnknownOption(option)
    for extension in extensions:
        if extension.startswith("no") or extension in _NEUTRAL_EXTENSIONS:
            continue
        if not (sets := of_option(architecture, extension)):
            raise UnknownOption(option)
        needed |= sets
    return needed


def _of_level(level: str, architecture: Architecture) -> frozenset[str] | None:
    if level not in _LEVELS[architecture]:
        return None
    base, added = _LEVELS[architecture][level]
    below = _of_level(base, architecture) if base else None
    return frozenset(added.split()) | (below or frozenset())
