"""Each instruction form against what PTX says it computes. Those that work on one lane: every value of 16 bits, edges
and random values of wider operands; warps that run whole and warps with lanes switched off."""

from __future__ import annotations

import ctypes
import itertools
import random

import numpy as np
import pytest
from emu import emulator
from emu.instructions import kernel
from emu.instructions.coverage import covered_forms, statements_without_a_form, untested
from emu.instructions.memory import ACCESSES, ATOMICS
from emu.instructions.row import BITS, Row, samples, value_of
from emu.instructions.rows import ROWS
from emu.instructions.whole import CASES

DTYPES = {1: np.uint8, 8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}


def check(row: Row) -> None:
    dice = random.Random(row.form)
    operands = samples(row, dice)
    n = -(-len(operands) // kernel.THREADS) * kernel.THREADS
    operands = list(itertools.islice(itertools.cycle(operands), n))
    # the first warp of a block runs whole, the others with lanes off
    on = np.array([i % kernel.THREADS < 32 or dice.random() < 0.75 for i in range(n)], dtype=np.uint8)
    kinds = row.source_kinds
    sources = [
        emulator.array(np.array([o[k] for o in operands], dtype=DTYPES[BITS[kind]])) for k, kind in enumerate(kinds)
    ]
    results = [emulator.empty(n, DTYPES[BITS[kind]]) for kind in row.result_kinds]
    module = emulator.Module(kernel.kernel(row))
    with emulator.silent():
        module.launch("test", n // kernel.THREADS, kernel.THREADS, emulator.array(on), *sources, *results)
    got = [r.get() for r in results]

    wrong = []
    for i, operand in enumerate(operands):
        codes = tuple(int(g[i]) for g in got)
        before = tuple((1 << BITS[k]) - 1 for k in row.result_kinds)
        if not on[i]:
            if codes != before:
                wrong.append(f"lane {i} is off and gets {codes}")
            continue
        values = tuple(value_of(kind, code) for kind, code in zip(kinds, operand, strict=True))
        if row.accept is not None:
            good = row.accept(codes[0], *values)
            expected: object = "a value inside the error"
        else:
            expected = row.expected(values)
            good = codes == expected or (row.result_kinds == ["f64"] and is_nan(codes[0]) and is_nan(expected[0]))
        if not good:
            shown = ", ".join(f"{code:#x}" for code in operand)
            wrong.append(f"({shown}) = {values} gives {[hex(c) for c in codes]}, expected {expected}")
    assert not wrong, f"{row.form}: {len(wrong)} of {n} wrong\n" + "\n".join(wrong[:8])


def is_nan(code: int) -> bool:
    """Of f64, where payloads differ."""
    return code & 0x7FFFFFFFFFFFFFFF > 0x7FF0000000000000


@pytest.mark.parametrize("form", ROWS)
def test_form(form: str) -> None:
    for row in ROWS[form]:
        check(row)


def test_the_rounding_of_the_host_is_not_that_of_kernels() -> None:
    upward = 0x800
    libm = ctypes.CDLL("libm.so.6")
    before = libm.fegetround()
    assert libm.fesetround(upward) == 0
    try:
        for form in ("add.f32", "fma.rn.f64", "div.rn.f32", "cvt.rn.f32.s32", "fma.rn.bf16"):
            for row in ROWS[form]:
                check(row)
    finally:
        libm.fesetround(before)


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    case = CASES[name]
    blocks, threads, _ = case.given.shape
    expected = case.compute(case.given)
    given, out = emulator.array(case.given), emulator.empty(expected.shape, np.uint32)
    module = emulator.Module(case.ptx())
    with emulator.settings(arch=case.arch), emulator.silent():
        module.launch(case.kernel, blocks, threads, given, out)
    np.testing.assert_array_equal(out.get(), expected, err_msg=name)


@pytest.mark.parametrize("form", ACCESSES)
def test_access(form: str) -> None:
    access = ACCESSES[form]
    given = access.given()
    expected = access.expected(given)
    # what a narrow store leaves of the room of its thread is zero before
    out = emulator.array(np.zeros_like(expected))
    with emulator.silent():
        emulator.Module(access.ptx()).launch("test", 1, 128, emulator.array(given), out)
    np.testing.assert_array_equal(out.get(), expected, err_msg=form)


@pytest.mark.parametrize("form", ATOMICS)
def test_atomic(form: str) -> None:
    atomic = ATOMICS[form]
    dtype = DTYPES[atomic.bits]
    values, held = atomic.words(128, 1), atomic.words(32, 2)
    out = emulator.array(np.array([0] * 128 + held, dtype=dtype))
    # a value of a pair reaches its address in one piece: the threads race, which for atomics is no finding
    with emulator.silent():
        emulator.Module(atomic.ptx()).launch("test", 1, 128, emulator.array(np.array(values, dtype=dtype)), out)
    words = [int(w) for w in out.get()]
    for k in range(32):
        outcome = (tuple(words[4 * k : 4 * k + 4]), words[128 + k])
        assert outcome in atomic.possible(held[k], values[4 * k : 4 * k + 4]), f"{form}: address {k}: {outcome}"


def test_every_case_holds_its_form() -> None:
    assert not statements_without_a_form()


def test_untested_names_what_no_row_has() -> None:
    assert untested([*covered_forms(), "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", "ld.param.v4.u32"]) == []
    mma = "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32"
    assert untested(["add.u32", "add.sat.u32", mma, "wgmma.fence.sync.aligned"]) == [
        "add.sat.u32",
        mma,
        "wgmma.fence.sync.aligned",
    ]
