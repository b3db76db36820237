"""The emulator on code that nobody here wrote: CUTLASS device GEMMs and CUB, against float64 and int64 NumPy, with
every checker on and no finding."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from emu import emulator
from emu.toolchain import compile_cuda, cutlass_include

FOLDER = Path(__file__).resolve().parent / "third_party"

# Unwritten memory is carried and reported where it is used: CUB and CUTLASS load more than they look at.
CARRIED = {"uninitialized": "use"}


@dataclass(frozen=True)
class Gemm:
    """One of cutlass_gemm.cu. Values of A and B, from `least` to `most`, are whole numbers so small that every sum is
    exact in the accumulator, as tensor cores keep it too."""

    name: str
    bits: int
    tile_k: int
    mma_k: int
    sums: Any = field(default=np.float32, compare=False)
    arch: str = "80"
    least: int = -3
    most: int = 3
    dtype: Any = field(default=None, compare=False)


GEMMS = (
    Gemm("s8", 8, 64, 32, np.int32, least=-128, most=127, dtype=np.int8),
    Gemm("s4", 4, 128, 64, np.int32, least=-8, most=7),
    Gemm("b1", 1, 512, 256, np.int32, least=0, most=1),
    Gemm("f16", 16, 32, 16, dtype=np.float16),
    Gemm("bf16", 16, 32, 16, dtype=ml_dtypes.bfloat16),
    Gemm("tf32", 32, 16, 8, dtype=np.float32),
    Gemm("e4m3", 8, 64, 32, arch="89", dtype=ml_dtypes.float8_e4m3fn),
)


def library() -> ctypes.CDLL:
    flags, include = ("--expt-relaxed-constexpr", "-w"), (cutlass_include(),)
    return emulator.load(compile_cuda(FOLDER / "cutlass_gemm.cu", archs=("80", "89"), flags=flags, include=include))


def packed(values: np.ndarray, gemm: Gemm) -> np.ndarray:
    """Codes of less than a byte lie with the first element in the low bits."""
    if gemm.dtype is not None:
        return values.astype(gemm.dtype).view(np.uint8)
    per_byte = 8 // gemm.bits
    codes = (values.astype(np.int64) & ((1 << gemm.bits) - 1)).reshape(values.shape[0], -1, per_byte)
    return (codes << (gemm.bits * np.arange(per_byte))).sum(axis=-1).astype(np.uint8)


def shapes(gemm: Gemm) -> list[tuple[int, int, int]]:
    """One tile, several of them, and what is no multiple of the tile in any direction; rows keep their 16 bytes."""
    access = 128 // gemm.bits
    return [(64, 64, gemm.tile_k), (128, 64, 4 * gemm.tile_k), (72, 100, 2 * gemm.tile_k + access)]


@pytest.mark.parametrize("mma", ["exact", "hardware"])
@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("gemm", GEMMS, ids=lambda gemm: gemm.name)
def test_cutlass_gemm(gemm: Gemm, case: int, mma: str) -> None:
    m, n, k = shapes(gemm)[case]
    rng = np.random.default_rng(case)
    a, b = (rng.integers(gemm.least, gemm.most + 1, (rows, k)) for rows in (m, n))
    expected = a @ b.T
    assert np.abs(expected).max() < 2**24
    on_device = [*(emulator.array(packed(x, gemm)) for x in (a, b)), emulator.empty((m, n), gemm.sums)]
    run = getattr(library(), f"gemm_{gemm.name}")
    with emulator.settings(arch=gemm.arch, seed=case, mma=mma, **CARRIED), emulator.silent():
        assert run(m, n, k, *(ctypes.c_void_p(x.pointer) for x in on_device)) == 0
        launches = emulator.counts()
    got = on_device[-1].get()
    assert np.array_equal(got.astype(np.float64), expected.astype(np.float64))
    # every product went through the tensor cores, padding included
    tiles = -(-m // 64) * -(-n // 64) * (-(-k // gemm.tile_k) * gemm.tile_k)
    assert sum(sum(launch["tensor"].values()) for launch in launches) == tiles * 64 * 64 // (16 * 8 * gemm.mma_k)


SIZES = (1, 2048, 10007)


@pytest.mark.parametrize("n", SIZES)
def test_cub_block(n: int) -> None:
    program = emulator.load(compile_cuda(FOLDER / "cub_block.cu"))
    tile = program.block_tile()
    blocks = -(-n // tile)
    values = np.random.default_rng(n).integers(-1000, 1000, n, dtype=np.int32)
    whole = np.pad(values, (0, blocks * tile - n)).reshape(blocks, tile)
    data = emulator.array(values)
    sums, scanned, ordered = (emulator.empty(size, np.int32) for size in (blocks, n, blocks * tile))
    with emulator.settings(order="ascending", **CARRIED), emulator.silent():
        pointers = [ctypes.c_void_p(x.pointer) for x in (data, sums, scanned, ordered)]
        assert program.block_collectives(n, *pointers) == 0
    assert np.array_equal(sums.get(), whole.sum(axis=1))
    assert np.array_equal(scanned.get(), whole.cumsum(axis=1).reshape(-1)[:n])
    assert np.array_equal(ordered.get().reshape(blocks, tile), np.sort(whole, axis=1))


@pytest.mark.parametrize("n", SIZES)
def test_cub_device_reduce(n: int) -> None:
    program = emulator.load(compile_cuda(FOLDER / "cub_reduce.cu"))
    values = np.random.default_rng(n).integers(-(2**31), 2**31, n, dtype=np.int32)
    data, total = emulator.array(values), emulator.empty(1, np.int64)
    with emulator.settings(order="ascending", **CARRIED), emulator.silent():
        assert program.reduce(n, ctypes.c_void_p(data.pointer), ctypes.c_void_p(total.pointer)) == 0
    assert total.get()[0] == values.sum(dtype=np.int64)


@pytest.mark.parametrize("n", SIZES)
def test_cub_device_radix_sort(n: int) -> None:
    program = emulator.load(compile_cuda(FOLDER / "cub_sort.cu"))
    keys = np.random.default_rng(n).integers(0, 2**32, n, dtype=np.uint32)
    keys[:: max(1, n // 7)] = keys[0]  # equal keys keep their order
    values = np.arange(n, dtype=np.int32)
    data = [emulator.array(keys), emulator.empty(n, np.uint32), emulator.array(values), emulator.empty(n, np.int32)]
    with emulator.settings(order="ascending", **CARRIED), emulator.silent():
        assert program.sort_pairs(n, *(ctypes.c_void_p(x.pointer) for x in data)) == 0
    order = np.argsort(keys, kind="stable")
    assert np.array_equal(data[1].get(), keys[order])
    assert np.array_equal(data[3].get(), values[order])
