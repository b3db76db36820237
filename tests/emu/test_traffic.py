"""Sectors and wavefronts of accesses, against what their bytes need at least."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from emu import emulator
from emu.memory_kernel import kernel, words

# ---- counts


def traffic(body: str, opcode: str, arguments: tuple[Any, ...] = (), threads: int = 32) -> tuple[int, int, int, int]:
    emulator.clear()
    source = kernel(body, 32768)
    values = [*arguments, *[np.uint64(0)] * (2 - len(arguments))]
    with emulator.settings(uninitialized="ignore"), emulator.listed_instructions():
        emulator.Module(source).launch("k", 1, threads, *values)
    assert not emulator.reports()
    (launch,) = emulator.counts()
    (i,) = [i for i in launch["instructions"] if i["text"].startswith(opcode)]
    emulator.clear()
    return i["sectors"], i["sectors_least"], i["wavefronts"], i["wavefronts_least"]


@pytest.mark.parametrize(
    ("address", "access", "sectors", "least"),
    [
        ("mul.lo.u32 %r7, %r4, 4;", "ld.global.u32 %r8, [%rd6];", 4, 4),
        ("mul.lo.u32 %r7, %r4, 8;", "ld.global.u32 %r8, [%rd6];", 8, 4),
        ("mul.lo.u32 %r7, %r4, 128;", "ld.global.u32 %r8, [%rd6];", 32, 4),
        ("mov.u32 %r7, 0;", "ld.global.u32 %r8, [%rd6];", 1, 1),
        ("mul.lo.u32 %r7, %r4, 16;", "ld.global.v4.u32 {%r11, %r12, %r13, %r14}, [%rd6];", 16, 16),
        ("mad.lo.u32 %r7, %r4, 4, 4;", "ld.global.u32 %r8, [%rd6];", 5, 4),
        ("mul.lo.u32 %r7, %r4, 2;", "ld.global.u16 %h1, [%rd6];", 2, 2),
        ("sub.u32 %r7, 31, %r4; mul.lo.u32 %r7, %r7, 4;", "ld.global.u32 %r8, [%rd6];", 4, 4),
        # four lanes to a row of 64 bytes, rows 512 bytes apart
        ("shr.u32 %r7, %r4, 2; mul.lo.u32 %r7, %r7, 512; and.b32 %r8, %r4, 3; mad.lo.u32 %r7, %r8, 16, %r7;",
         "ld.global.v4.u32 {%r11, %r12, %r13, %r14}, [%rd6];", 16, 16),
    ],
)  # fmt: skip
def test_sectors(address: str, access: str, sectors: int, least: int) -> None:
    data = emulator.array(words(2048))
    body = f"  {address}\n  cvt.u64.u32 %rd6, %r7;\n  add.u64 %rd6, %rd6, %rd1;\n  {access}"
    assert traffic(body, "ld.global", (data,)) == (sectors, least, 0, 0)


@pytest.mark.parametrize(
    ("address", "access", "wavefronts", "least"),
    [
        ("mul.lo.u32 %r7, %r4, 4;", "ld.shared.u32 %r8, [%r9];", 1, 1),
        ("mul.lo.u32 %r7, %r4, 8;", "ld.shared.u32 %r8, [%r9];", 2, 1),
        ("mul.lo.u32 %r7, %r4, 128;", "ld.shared.u32 %r8, [%r9];", 32, 1),
        ("mul.lo.u32 %r7, %r4, 132;", "ld.shared.u32 %r8, [%r9];", 1, 1),
        ("mov.u32 %r7, 0;", "ld.shared.u32 %r8, [%r9];", 1, 1),
        ("mov.u32 %r7, 0;", "ld.shared.v4.u32 {%r11, %r12, %r13, %r14}, [%r9];", 1, 1),
        ("mul.lo.u32 %r7, %r4, 8;", "ld.shared.u64 %rd6, [%r9];", 2, 2),
        ("mul.lo.u32 %r7, %r4, 16;", "ld.shared.v4.u32 {%r11, %r12, %r13, %r14}, [%r9];", 4, 4),
        ("mul.lo.u32 %r7, %r4, 128;", "ld.shared.v4.u32 {%r11, %r12, %r13, %r14}, [%r9];", 32, 4),
        ("mul.lo.u32 %r7, %r4, 144;", "ld.shared.v4.u32 {%r11, %r12, %r13, %r14}, [%r9];", 4, 4),
        # rows of 128 bytes, chunk of 16 bytes = lane / 8 XOR row % 8
        ("and.b32 %r8, %r4, 7; shr.u32 %r11, %r4, 3; xor.b32 %r11, %r11, %r8; shl.b32 %r11, %r11, 4;"
         " mad.lo.u32 %r7, %r8, 128, %r11;", "ld.shared.v4.u32 {%r11, %r12, %r13, %r14}, [%r9];", 4, 4),
        # two words of one bank
        ("and.b32 %r7, %r4, 1; mul.lo.u32 %r7, %r7, 128;", "ld.shared.u32 %r8, [%r9];", 2, 1),
        # bytes of the same words
        ("mov.u32 %r7, %r4;", "ld.shared.u8 %h1, [%r9];", 1, 1),
    ],
)  # fmt: skip
def test_wavefronts(address: str, access: str, wavefronts: int, least: int) -> None:
    body = f"  {address}\n  add.u32 %r9, %r5, %r7;\n  {access}"
    assert traffic(body, "ld.shared") == (0, 0, wavefronts, least)


@pytest.mark.parametrize(("stride", "wavefronts"), [(16, 4), (64, 16), (128, 32), (144, 4)])
def test_wavefronts_of_ldmatrix(stride: int, wavefronts: int) -> None:
    body = (f"  mad.lo.u32 %r9, %r4, {stride}, %r5;\n"
            "  ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r20, %r21, %r22, %r23}, [%r9];")  # fmt: skip
    assert traffic(body, "ldmatrix") == (0, 0, wavefronts, 4)
