"""Each instruction form on one lane, against what PTX says it computes: every value of 16 bits, edges and random values
of wider operands; warps that run whole and warps with lanes switched off."""

from __future__ import annotations

import random

import numpy as np
import pytest

from emu import emulator
from emu.instructions import kernel
from emu.instructions.row import BITS, Row, samples, value_of
from emu.instructions.rows import ROWS

DTYPES = {1: np.uint8, 8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}


def check(row: Row) -> None:
    dice = random.Random(row.form)
    operands = samples(row, dice)
    operands += operands[: -len(operands) % kernel.THREADS]
    n = len(operands)
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
            good = codes == expected or row.result_kinds == ["f64"] and is_nan(codes[0]) and is_nan(expected[0])
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
