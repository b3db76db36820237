"""Counts become a bound through one table of published rates: the peaks it implies are those that were published."""

from __future__ import annotations

import numpy as np
import pytest
from emu import emulator
from emu.memory_kernel import kernel

# mma.sync by its types: the statement's registers of D, A, B and the multiply-adds of a warp
MMAS = {
    "f16": ("m16n8k16.row.col.f32.f16.f16.f32", "f32", 4, 2, 16 * 8 * 16),
    "f16 sums": ("m16n8k16.row.col.f16.f16.f16.f16", "b32", 4, 2, 16 * 8 * 16),
    "bf16": ("m16n8k16.row.col.f32.bf16.bf16.f32", "f32", 4, 2, 16 * 8 * 16),
    "tf32": ("m16n8k8.row.col.f32.tf32.tf32.f32", "f32", 4, 2, 16 * 8 * 8),
    "s8": ("m16n8k32.row.col.s32.s8.s8.s32", "b32", 4, 2, 16 * 8 * 32),
    "s4": ("m16n8k64.row.col.s32.s4.s4.s32", "b32", 4, 2, 16 * 8 * 64),
    "b1": ("m16n8k256.row.col.s32.b1.b1.s32.and.popc", "b32", 4, 2, 16 * 8 * 256),
    "e4m3": ("m16n8k32.row.col.f32.e4m3.e4m3.f32", "f32", 4, 2, 16 * 8 * 32),
}
SMS = {"80": 108, "86": 82, "89": 128, "90": 132, "120": 170}

# dense peaks in 1e12 operations a second, from the documents named in csrc/emu/rt/rates.cpp; those of 90 are wgmma's,
# of which mma.sync reaches 62.9 %
PEAKS = [
    ("80", "f16", 312), ("80", "bf16", 312), ("80", "tf32", 156), ("80", "s8", 624), ("80", "s4", 1248),
    ("80", "b1", 4992),
    ("86", "f16", 71), ("86", "f16 sums", 142), ("86", "tf32", 35.6), ("86", "s8", 284), ("86", "s4", 568),
    ("89", "f16", 165.2), ("89", "f16 sums", 330.3), ("89", "tf32", 82.6), ("89", "s8", 660.6), ("89", "s4", 1321.2),
    ("89", "e4m3", 330.3),
    ("90", "f16", 989.4 * 0.629), ("90", "tf32", 494.7 * 0.629), ("90", "s8", 1978.9 * 0.629),
    ("120", "f16", 209.5), ("120", "f16 sums", 419), ("120", "tf32", 104.8), ("120", "s8", 838), ("120", "e4m3", 419),
]  # fmt: skip
# emulated by other instructions there, or not published
UNRATED = [("86", "b1"), ("89", "b1"), ("90", "s4"), ("90", "b1"), ("120", "s4"), ("120", "b1")]


def one_mma(arch: str, name: str) -> dict:
    form, accumulator, a, b, _ = MMAS[name]
    sums = 2 if name == "f16 sums" else 4
    bit = ".and.popc" if form.endswith(".and.popc") else ""
    opcode = f"mma.sync.aligned.{form.removesuffix('.and.popc')}{bit}"
    zero = "0f00000000" if accumulator == "f32" else "0"
    lists = [
        "{" + ", ".join(f"%{prefix}{i}" for i in range(count)) + "}"
        for prefix, count in (("d", sums), ("a", a), ("b", b), ("d", sums))
    ]
    sets = [f"mov.b32 %a{i}, 0;" for i in range(a)] + [f"mov.b32 %b{i}, 0;" for i in range(b)]
    sets += [f"mov.{accumulator} %d{i}, {zero};" for i in range(sums)]
    module = emulator.Module(
        f""".version 9.0
.target sm_{arch}
.address_size 64
.visible .entry one()
{{
  .reg .{accumulator} %d<{sums}>;
  .reg .b32 %a<{a}>;
  .reg .b32 %b<{b}>;
  {" ".join(sets)}
  {opcode} {", ".join(lists)};
  ret;
}}
"""
    )
    with emulator.settings(arch=arch), emulator.silent():
        module.launch("one", 1, 32)
        (bound,) = emulator.predict()
    return bound


@pytest.mark.parametrize(("arch", "name", "peak"), PEAKS)
def test_rates_give_the_published_peaks(arch: str, name: str, peak: float) -> None:
    bound = one_mma(arch, name)
    operations = 2 * MMAS[name][-1] * SMS[arch]
    assert bound["unrated"] == []
    assert operations / bound["parts"]["tensor"] / 1e12 == pytest.approx(peak, rel=0.006)


@pytest.mark.parametrize(("arch", "name"), UNRATED)
def test_what_has_no_rate_is_named(arch: str, name: str) -> None:
    bound = one_mma(arch, name)
    assert len(bound["unrated"]) == 1
    assert "tensor" not in bound["parts"]


def test_the_fullest_sm_decides() -> None:
    """109 blocks on 108 SMs take as long as 216."""
    module = emulator.Module(
        """.version 9.0
.target sm_80
.address_size 64
.visible .entry many()
{
  .reg .f32 %f<2>;
  mov.f32 %f1, 0f3F800000;
  fma.rn.f32 %f1, %f1, %f1, %f1;
  fma.rn.f32 %f1, %f1, %f1, %f1;
  ret;
}
"""
    )
    seconds = []
    for blocks in (108, 109, 216):
        with emulator.silent():
            module.launch("many", blocks, 64)
            seconds.append(emulator.predict()[0]["parts"]["float32"])
    # two instructions of two warps at 64 lanes a clock of 1410 MHz
    assert seconds[0] == pytest.approx(2 * 2 * 32 / 64 / 1.41e9)
    assert seconds[1] == pytest.approx(2 * seconds[0])
    assert seconds[2] == pytest.approx(2 * seconds[0])


@pytest.mark.parametrize(("stride", "wavefronts"), [(128, 32), (4, 1)])
def test_conflicts_in_shared_memory_bind(stride: int, wavefronts: int) -> None:
    """Two loads whose lanes share a bank take 32 wavefronts each, a clock for each one, and nothing else takes as long;
    the same loads without conflict are less than what finds their addresses."""
    loads = 2 * "  ld.shared.u32 %r8, [%r9];\n"
    module = emulator.Module(kernel(f"  mad.lo.u32 %r9, %r4, {stride}, %r5;\n{loads}"))
    emulator.clear()
    with emulator.settings(uninitialized="ignore"):
        module.launch("k", 1, 32, np.uint64(0), np.uint64(0))
        (predicted,) = emulator.predict()
    emulator.clear()
    assert predicted["parts"]["shared"] == pytest.approx(2 * wavefronts / 1.41e9)
    assert predicted["seconds"] == max(predicted["parts"].values()) == predicted["parts"][predicted["bound"]]
    assert (predicted["bound"] == "shared") == (wavefronts > 1)


@pytest.mark.parametrize(
    ("arch", "conversion", "part", "lanes"),
    [
        ("80", "cvt.rn.f32.s32 %f1, %r1;", "convert", 16),
        ("89", "cvt.rn.f32.s32 %f1, %r1;", "integer", 64),  # I2FP
        ("89", "cvt.rni.s32.f32 %r1, %f1;", "convert", 16),
        ("89", "cvt.rn.bf16x2.f32 %r1, %f1, %f1;", "integer", 64),  # F2FP
        ("89", "cvt.f32.f16 %f1, %h1;", "float16", 64),  # HADD2.F32
        ("80", "cvt.rni.f32.f32 %f1, %f1;", "convert", 16),  # FRND
        ("90", "cvt.u32.u16 %r1, %h1;", "integer", 64),
    ],
)
def test_conversions_are_rated_by_their_machine_instruction(arch: str, conversion: str, part: str, lanes: int) -> None:
    module = emulator.Module(
        f""".version 9.0
.target sm_{arch}
.address_size 64
.visible .entry one()
{{
  .reg .b16 %h<2>;
  .reg .b32 %r<2>;
  .reg .f32 %f<2>;
  mov.b16 %h1, 0;
  mov.b32 %r1, 0;
  mov.f32 %f1, 0f00000000;
  {conversion}
  ret;
}}
"""
    )
    with emulator.settings(arch=arch), emulator.silent():
        module.launch("one", 1, 32)
        (bound,) = emulator.predict()
    mhz = {"80": 1410, "89": 2520, "90": 1830}[arch]
    assert bound["parts"][part] == pytest.approx(32 / lanes / (mhz * 1e6))
