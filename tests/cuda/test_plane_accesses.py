"""What kernels that read bit planes take on the emulator: sectors of global memory and wavefronts of shared memory
against the least there can be, of whole launches: joins, records and outputs are counted too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from cuda.gemms import gemm
from cuda.kernels import ARCHS
from cuda.test_input_grad import gradients, input_grad
from emu import emulator
from operands import Operand, operand

MOST = 1.02
KINDS = ("sectors", "sectors_least", "wavefronts", "wavefronts_least")
BINARY_ARCHS = [arch for arch in ARCHS if arch != "120f"]  # b1 is no instruction of sm_120
Launches = list[dict[str, Any]]


def counted(run: Callable[[], object], arch: str) -> Launches:
    with emulator.settings(arch=arch), emulator.listed_instructions():
        emulator.clear()
        run()
        found = emulator.counts()
    for launch in found:
        launch |= {kind: sum(i[kind] for i in launch["instructions"]) for kind in KINDS}
        launch["multiplies"] = sum(launch["tensor"].values())
    return found


def product(x: Operand, w: Operand, n: int, k: int, arch: str, bias: bool = False) -> Launches:
    more = {"bias": torch.zeros(n)} if bias else {}
    return counted(lambda: gemm("bitplane_gemm", x, w, n, k, arch, **more), arch)


def check(launch: dict[str, Any]) -> None:
    assert 0 < launch["sectors"] <= MOST * launch["sectors_least"]
    assert launch["wavefronts"] <= MOST * launch["wavefronts_least"]


# rows of x, its planes, those of w, K, blocks of w
BINARY = [
    (1, 1, 1, 1024, "row"), (1, 8, 4, 8192, "g128"), (8, 4, 1, 1024, "g128"), (9, 1, 3, 4096, "g512"),
    (64, 1, 2, 1024, "row"), (64, 1, 2, 2048, "g256"), (21, 3, 2, 1024, "g128"),
]  # fmt: skip


@pytest.mark.parametrize("arch", BINARY_ARCHS)
@pytest.mark.parametrize("zero", [None, "int", "float"])
@pytest.mark.parametrize("case", BINARY, ids=str)
def test_binary_engine(case: tuple[int, int, int, int, str], zero: str | None, arch: str) -> None:
    m, q, p, k, block = case
    rng = np.random.default_rng(0)
    x, w = operand(rng, f"uint{q}", m, k), operand(rng, f"uint{p}:{block}", 128, k, zero=zero)
    (launch,) = product(x, w, 128, k, arch, bias=True)
    assert "binary_gemm" in launch["kernel"]
    check(launch)


@pytest.mark.parametrize("k", [992, 1000, 4128])
def test_rows_of_planes_that_are_not_aligned(k: int) -> None:
    """Rows of K / 32 words that begin anywhere: 16 words of a step are two sectors, or lie in three."""
    rng = np.random.default_rng(1)
    x, w = operand(rng, "uint2", 8, k), operand(rng, "uint2", 64, k)
    (launch,) = product(x, w, 64, k, "80")
    words = -(-k // 32)
    sectors = 0
    for row in range(2 * (64 + 8)):
        for first in range(0, words, 16):
            begin, end = row * words + first, row * words + min(first + 16, words)
            sectors += -(-end // 8) - begin // 8
    # beside them scales, outputs
    copies = sum(i["sectors"] for i in launch["instructions"] if "cp.async" in i["text"])
    assert copies == sectors
    assert launch["wavefronts"] <= MOST * launch["wavefronts_least"]


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("m", [8, 64])
def test_planes_of_x_become_bytes(m: int, arch: str) -> None:
    """The planes of x are read once, by a kernel of their own; the GEMM copies bytes."""
    rng = np.random.default_rng(2)
    x, w = operand(rng, "uint8", m, 1024), operand(rng, "int5:row", 128, 1024, layout="mma64")
    rows, multiply = product(x, w, 128, 1024, arch)
    assert "byte_rows" in rows["kernel"]
    check(rows)
    assert rows["sectors"] == 2 * m * 1024 // 32  # planes in, bytes out
    check(multiply)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(
    ("w_format", "layout", "dtype"),
    [("int4:row", "canonical", torch.bfloat16), ("uint3:g128", "canonical", torch.float32),
     ("int8:row", "plain", torch.bfloat16), ("bipolar5:row", "canonical", torch.float16)],
    ids=str,
)  # fmt: skip
def test_input_grad(w_format: str, layout: str, dtype: torch.dtype, arch: str) -> None:
    check_input_grad(64, 64, 512, w_format, layout, dtype, arch)


@pytest.mark.parametrize("w_format", ["int4:row", "uint3:g128"])
def test_input_grad_of_tall_blocks(w_format: str) -> None:
    """128 rows, where there are as many blocks of them as multiprocessors."""
    check_input_grad(128, 16, 256 * 108, w_format, "canonical", torch.bfloat16, "80")


def check_input_grad(m: int, n: int, k: int, w_format: str, layout: str, dtype: torch.dtype, arch: str) -> None:
    rng = np.random.default_rng(3)
    w, dy = operand(rng, w_format, n, k, layout=layout), gradients(rng, m, n, dtype)
    (launch,) = counted(lambda: input_grad(dy, w, k, torch.empty(m, k, dtype=dtype)), arch)
    assert f"input_gradILi{m}E" in launch["kernel"]
    check(launch)
