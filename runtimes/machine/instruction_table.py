"""The table of instruction sets: the spelling of each by the kernel, compilers and PyTorch.

Dependencies between sets are not listed: the kernel shows no AVX-512 without AVX2, and no AMX
without its tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Architecture = Literal["x86", "arm"]


@dataclass(frozen=True)
class InstructionSet:
    """One capability of a CPU.

    Attributes:
        name: as Burnish writes it, in manifests too; the kernel's word unless that is obscure.
        kernel: in the `flags` (x86) or `Features` (Arm) of /proc/cpuinfo; None if Linux shows none.
        options: of GCC and Clang, without `-m` (x86) or as `-march=...+option` (Arm).
        torch: the key in `torch.cpu.get_capabilities()`.
    """

    name: str
    kernel: str | None
    options: tuple[str, ...]
    torch: str | None


# name, kernel, options, torch; a dot: the same as the name; a dash: none.
_X86 = """
mmx                 .               .                   -
sse                 .               .                   .
sse2                .               .                   .
sse3                pni             .                   .
ssse3               .               .                   .
sse4_1              .               sse4.1,sse4         .
sse4_2              .               sse4.2,sse4,crc32   .
sse4a               .               .                   .
3dnow               .               .                   -
3dnowa              3dnowext        .                   -
avx                 .               avx,sse2avx,sse5    .
avx2                .               .                   .
fma                 .               .                   fma3
fma4                .               .                   .
f16c                .               .                   .
xop                 .               .                   -
popcnt              .               popcnt,abm          .
lzcnt               abm             lzcnt,abm           .
bmi1                .               bmi                 bmi
bmi2                .               .                   .
tbm                 .               .                   -
lwp                 .               .                   -
adx                 .               .                   -
movbe               .               .                   -
cx16                .               .                   -
sahf                lahf_lm         .                   -
aes                 .               .                   .
pclmulqdq           .               pclmul              -
vaes                .               .                   -
vpclmulqdq          .               .                   -
gfni                .               .                   -
sha_ni              .               sha                 sha
sha512              -               .                   -
sm3                 -               .                   -
sm4                 -               .                   -
rdrand              .               rdrnd               -
rdseed              .               .                   -
rdpid               .               .                   -
rdpru               .               .                   -
fsgsbase            .               .                   -
fxsr                .               .                   -
xsave               .               .                   -
xsaveopt            .               .                   -
xsavec              .               .                   -
xsaves              .               .                   -
prfchw              3dnowprefetch   .                   -
prefetchwt1         -               .                   -
prefetchi           -               .                   -
clflushopt          .               .                   .
clwb                .               .                   .
cldemote            .               .                   -
clzero              .               .                   -
movdiri             .               .                   -
movdir64b           .               .                   -
serialize           .               .                   -
waitpkg             .               .                   -
wbnoinvd            .               .                   -
mwaitx              .               .                   -
ptwrite             -               .                   -
pku                 .               .                   -
rtm                 .               .                   -
tsxldtrk            .               .                   -
enqcmd              .               .                   -
uintr               -               .                   -
hreset              -               .                   -
kl                  -               .                   -
widekl              -               .                   -
pconfig             .               .                   -
invpcid             .               .                   -
sgx                 .               .                   -
raoint              -               .                   -
cmpccxadd           -               .                   -
usermsr             -               .                   -
movrs               -               .                   -
apxf                -               .                   -
avx512f             .               .                   avx512_f
avx512cd            .               .                   avx512_cd
avx512bw            .               .                   avx512_bw
avx512dq            .               .                   avx512_dq
avx512vl            .               .                   avx512_vl
avx512er            .               .                   -
avx512pf            .               .                   -
avx512_4vnniw       .               avx5124vnniw        .
avx512_4fmaps       .               avx5124fmaps        .
avx512ifma          .               .                   avx512_ifma
avx512vbmi          .               .                   avx512_vbmi
avx512_vbmi2        .               avx512vbmi2         .
avx512_vnni         .               avx512vnni          .
avx512_bitalg       .               avx512bitalg        .
avx512_vpopcntdq    .               avx512vpopcntdq     .
avx512_vp2intersect .               avx512vp2intersect  .
avx512_bf16         .               avx512bf16          .
avx512_fp16         .               avx512fp16          .
avx512_bmm          -               avx512bmm           -
avx_vnni            .               avxvnni             .
avx_vnni_int8       -               avxvnniint8         .
avx_vnni_int16      -               avxvnniint16        .
avx_ne_convert      -               avxneconvert        .
avx_ifma            -               avxifma             -
avx10_1             -               avx10.1,avx10.1-256,avx10.1-512 .
avx10_2             -               avx10.2,avx10.2-256,avx10.2-512 .
amx_tile            .               amx-tile            .
amx_int8            .               amx-int8            .
amx_bf16            .               amx-bf16            .
amx_fp16            -               amx-fp16            .
amx_complex         -               amx-complex         -
amx_tf32            -               amx-tf32            -
amx_fp8             -               amx-fp8             -
amx_avx512          -               amx-avx512          -
amx_movrs           -               amx-movrs           -
amx_transpose       -               amx-transpose       -
"""

_ARM = """
fp                  .               .                   -
asimd               .               simd                neon
fphp                .               fp16,fp16fml        -
asimdhp             .               fp16,fp16fml        fp16_arith
asimdfhm            .               fp16fml             fhm
asimdrdm            .               rdm,rdma            rdm
asimddp             .               dotprod             dot
fcma                .               .                   -
jscvt               .               .                   -
frint               .               frintts             -
bf16                .               .                   .
i8mm                .               .                   .
atomics             .               lse                 .
lse128              .               .                   -
lrcpc               .               rcpc                -
ilrcpc              .               rcpc2               -
lrcpc3              .               rcpc3               -
uscat               .               -                   -
flagm               .               .                   -
flagm2              .               .                   -
crc32               .               crc                 .
aes                 .               aes,crypto          .
pmull               .               aes,crypto          .
sha1                .               sha2,crypto         .
sha2                .               sha2,crypto         .
sha3                .               .                   -
sha512              .               sha3                -
sm3                 .               sm4                 -
sm4                 .               .                   -
mops                .               .                   -
hbc                 .               .                   -
cssc                .               .                   -
wfxt                .               .                   -
dit                 .               .                   -
sb                  .               .                   -
ssbs                .               .                   -
paca                .               pauth               -
pacg                .               pauth               -
bti                 .               .                   -
mte                 .               memtag              -
gcs                 .               .                   -
rng                 .               .                   -
lut                 .               .                   -
faminmax            .               .                   -
fprcvt              .               .                   -
cmpbr               .               .                   -
f8cvt               .               fp8                 -
f8fma               .               fp8fma              -
f8dp2               .               fp8dot2             -
f8dp4               .               fp8dot4             -
sve                 .               .                   .
sve2                .               sve2,sve2-aes,sve2-bitperm,sve2-sha3,sve2-sm4 .
sve2p1              .               .                   -
sve2p2              .               .                   -
svebf16             .               -                   sve_bf16
svei8mm             .               -                   -
svef32mm            .               f32mm               -
svef64mm            .               f64mm               -
sveb16b16           .               sve-b16b16          -
svebfscale          .               sve-bfscale         -
sveaes              .               sve-aes,sve2-aes    -
svepmull            .               sve-aes,sve2-aes    -
sveaes2             .               sve-aes2            -
svebitperm          .               sve-bitperm,sve2-bitperm -
svesha3             .               sve-sha3,sve2-sha3  -
svesm4              .               sve-sm4,sve2-sm4    -
sve128              -               sve-vector-bits=128 -
sve256              -               sve-vector-bits=256 -
sve512              -               sve-vector-bits=512 -
sve1024             -               sve-vector-bits=1024 -
sve2048             -               sve-vector-bits=2048 -
sme                 .               .                   .
sme2                .               .                   .
sme2p1              .               .                   -
sme2p2              .               .                   -
smei16i64           .               sme-i16i64          -
smef64f64           .               sme-f64f64          -
smef16f16           .               sme-f16f16          -
smeb16b16           .               sme-b16b16          -
smef8f16            .               sme-f8f16           -
smef8f32            .               sme-f8f32           -
smefa64             .               sme-fa64            -
smelutv2            .               sme-lutv2           -
smesf8fma           .               ssve-fp8fma         -
smesf8dp2           .               ssve-fp8dot2        -
smesf8dp4           .               ssve-fp8dot4        -
smeaes              .               ssve-aes            -
smesbitperm         .               ssve-bitperm        -
smesfexpa           .               ssve-fexpa          -
smesmop4            .               sme-mop4            -
smestmop            .               sme-tmop            -
svef16mm            .               sve-f16f32mm        -
sve2p3              -               .                   -
sme2p3              -               .                   -
f8f16mm             -               .                   -
f8f32mm             -               .                   -
f16mm               -               .                   -
f16f32mm            -               .                   -
f16f32dot           -               .                   -
sveb16mm            -               sve-b16mm           -
lsfe                -               .                   -
cpa                 -               .                   -
pauth-lr            -               .                   -
ls64                -               .                   -
tme                 -               .                   -
"""


def _parsed(text: str) -> tuple[InstructionSet, ...]:
    rows = []
    for line in text.split("\n"):
        if not line:
            continue
        name, *spellings = line.split()
        kernel, options, torch = (name if spelling == "." else spelling for spelling in spellings)
        rows.append(
            InstructionSet(
                name,
                None if kernel == "-" else kernel,
                () if options == "-" else tuple(options.split(",")),
                None if torch == "-" else torch,
            )
        )
    return tuple(rows)


TABLE: dict[Architecture, tuple[InstructionSet, ...]] = {"x86": _parsed(_X86), "arm": _parsed(_ARM)}
