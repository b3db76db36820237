"""What kernels that read bit planes take on the emulator: sectors of global memory and wavefronts of shared memory
against the least there can be, of whole launches: joins, records and outputs are counted too. Rows of `counts.csv`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from cuda import counts, kernels
from cuda.gemms import gemm
from cuda.kernels import ARCHS
from cuda.test_input_grad import gradients, input_grad
from emu import emulator
from operands import operand

BINARY_ARCHS = tuple(arch for arch in ARCHS if arch != "120f")  # b1 is no instruction of sm_120


@dataclass(frozen=True)
class Case:
    """What is launched on an architecture, and a part of the name of the one kernel that is counted."""

    run: Callable[[str], object]
    kernel: str
    archs: tuple[str, ...] = ARCHS
    multiprocessors: int = 108  # everywhere: architectures cut the work alike


def listed(run: Callable[[], object], arch: str, multiprocessors: int = 108) -> list[dict[str, Any]]:
    with emulator.settings(arch=arch, multiprocessors=multiprocessors), emulator.listed_instructions():
        emulator.clear()
        run()
        found = emulator.counts()
        emulator.clear()
    return found


def binary(m: int, q: int, p: int, k: int, block: str, zero: str | None, arch: str) -> object:
    rng = np.random.default_rng(0)
    x, w = operand(rng, f"uint{q}", m, k), operand(rng, f"uint{p}:{block}", 128, k, zero=zero)
    return gemm("bitplane_gemm", x, w, 128, k, arch, bias=torch.zeros(128))


def int8(m: int, arch: str) -> object:
    """The planes of x are read once, by a kernel of their own; the GEMM copies bytes."""
    rng = np.random.default_rng(2)
    x, w = operand(rng, "uint8", m, 1024), operand(rng, "int5:row", 128, 1024, layout="mma64")
    return gemm("bitplane_gemm", x, w, 128, 1024, arch)


def gradient(m: int, w_format: str, layout: str, dtype: torch.dtype, arch: str) -> object:
    rng = np.random.default_rng(3)
    w, dy = operand(rng, w_format, 64, 512, layout=layout), gradients(rng, m, 64, dtype)
    with kernels.on(arch):
        return input_grad(dy, w, 512, torch.empty(m, 512, dtype=dtype))


# rows of x, its planes, those of w, K, blocks of w
BINARY = [
    (1, 1, 1, 1024, "row"), (1, 8, 4, 8192, "g128"), (8, 4, 1, 1024, "g128"), (9, 1, 3, 4096, "g512"),
    (64, 1, 2, 1024, "row"), (64, 1, 2, 2048, "g256"), (21, 3, 2, 1024, "g128"),
]  # fmt: skip
GRADIENTS = [
    (64, "int4:row", "canonical", torch.bfloat16), (64, "uint3:g128", "canonical", torch.float32),
    (64, "int8:row", "plain", torch.bfloat16), (64, "bipolar5:row", "canonical", torch.float16),
    (128, "int4:row", "canonical", torch.bfloat16), (128, "uint3:g128", "canonical", torch.bfloat16),
]  # fmt: skip
CASES = {
    f"whole binary {m} x uint{q} by uint{p}:{block}, k {k}{f' less {zero}' if zero else ''}": Case(
        partial(binary, m, q, p, k, block, zero), "binary_gemm", BINARY_ARCHS
    )
    for m, q, p, k, block in BINARY
    for zero in (None, "int", "float")
}
for rows in (8, 64):
    CASES[f"whole planes to bytes, {rows} rows"] = Case(partial(int8, rows), "byte_rows")
    CASES[f"whole uint8 in planes by int5, {rows} rows"] = Case(partial(int8, rows), "gemm")
for rows, w_format, layout, dtype in GRADIENTS:
    name = f"whole input_grad {w_format} {layout}, {str(dtype)[6:]}, {rows} rows"
    run, kernel = partial(gradient, rows, w_format, layout, dtype), f"input_gradILi{rows}E"
    # blocks of 128 rows where there are as many of them as multiprocessors
    CASES[name] = Case(run, kernel, multiprocessors=1 if rows > 64 else 108)
RUNS = [(name, arch) for name, case in CASES.items() for arch in case.archs]


@pytest.mark.parametrize(("name", "arch"), RUNS)
def test_whole_launches(name: str, arch: str) -> None:
    case = CASES[name]
    found = listed(partial(case.run, arch), arch, case.multiprocessors)
    (launch,) = (it for it in found if case.kernel in it["kernel"])
    counts.check((name, arch), counts.Counts.of([launch]))


@pytest.mark.parametrize("k", [992, 1000, 4128])
def test_rows_of_planes_that_are_not_aligned(k: int) -> None:
    """Rows of K / 32 words that begin anywhere: 16 words of a step are two sectors, or lie in three."""
    rng = np.random.default_rng(1)
    x, w = operand(rng, "uint2", 8, k), operand(rng, "uint2", 64, k)
    (launch,) = listed(lambda: gemm("bitplane_gemm", x, w, 64, k, "80"), "80")
    words = -(-k // 32)
    sectors = 0
    for row in range(2 * (64 + 8)):
        for first in range(0, words, 16):
            begin, end = row * words + first, row * words + min(first + 16, words)
            sectors += -(-end // 8) - begin // 8
    # beside them scales, outputs
    copies = sum(i["sectors"] for i in launch["instructions"] if "cp.async" in i["text"])
    assert copies == sectors
    whole = counts.Counts.of([launch])
    assert whole.wavefronts <= counts.MOST * whole.wavefronts_least


@pytest.mark.parametrize("m", [8, 64])
def test_planes_of_x_are_read_once(m: int) -> None:
    rows, _ = listed(partial(int8, m, "80"), "80")
    assert "byte_rows" in rows["kernel"]
    assert sum(i["sectors"] for i in rows["instructions"]) == 2 * m * 1024 // 32  # planes in, bytes out
