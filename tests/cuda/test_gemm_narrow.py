"""The narrow loop of the tensor-core GEMM on the emulator, where it streams weights: every cut of K into parts, tails
of K, few rows of x, K shared by blocks. Integers to the bits of the oracle, floats to those of the wide loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from compare import assert_bits
from cuda.gemms import gemm
from operands import Operand, operand
from oracle import gemm as oracle

N = 24  # a tile of 16 rows of w, and one that is not full
ROWS = [1, 7, 16]
# less than a step; tails within a step, a pair of steps, a turn and a window; two windows of the finest parts (464) and
# of the widest ones (2368) under one block; K shared by blocks: from 2048 over the columns of a unit on
COLUMNS = [16, 464, 1056, 2368]
INTEGER_PAIRS = [
    ("int8:row", "int4:row"), ("int8:row", "int3:g128"), ("int8:g64", "int4:g256"), ("int8:row", "int8:g64"),
    ("int8:g32", "int4:g64"), ("int8:row", "float4_e2m1fn:g32"), ("int8:row", "int4:g16"), ("int8:g128", "int4:g1024"),
    ("uint8:row", "uint4:g32"),
]  # fmt: skip
FLOAT_WEIGHTS = ["int4:row", "int4:g128", "uint4:g64", "uint4:g16", "int8:g512", "mxfp4", "nvfp4", "float8_e4m3fn:g32"]


def rows_of(x: Operand, m: int) -> Operand:
    """Its first rows; scales and zero points are of rows."""
    scale, zero = (None if t is None else t[:m] for t in (x.scale, x.zero))
    matrix = replace(
        x.matrix,
        values=x.matrix.values[:m],
        scale=None if x.matrix.scale is None else x.matrix.scale[:m],
        zero=None if x.matrix.zero is None else x.matrix.zero[:m],
    )
    return replace(x, codes=x.codes[:m], scale=scale, zero=zero, matrix=matrix)


def check_integers(x: Operand, w: Operand, k: int) -> None:
    want = oracle.integer_path(x.matrix, w.matrix)
    for m in ROWS:
        assert_bits(gemm("scaled_gemm", rows_of(x, m), w, N, k), want[:m])


@pytest.mark.parametrize("k", COLUMNS)
@pytest.mark.parametrize("formats", INTEGER_PAIRS, ids="-".join)
def test_parts_of_integers_to_the_bit(formats: tuple[str, str], k: int) -> None:
    rng = np.random.default_rng(0)
    check_integers(
        operand(rng, formats[0], ROWS[-1], k, layout="plain"), operand(rng, formats[1], N, k, layout="mma64"), k
    )


@pytest.mark.parametrize("zeros", [("int", "int"), (None, "int"), (None, "float"), ("int", "float")], ids=str)
@pytest.mark.parametrize("group", ["row", "g16", "g32", "g128", "g1024"])
def test_zero_points_of_parts_to_the_bit(group: str, zeros: tuple[str | None, str]) -> None:
    rng = np.random.default_rng(1)
    k = 2128
    x = operand(rng, "uint8:row", ROWS[-1], k, layout="plain", zero=zeros[0])
    check_integers(x, operand(rng, f"uint4:{group}", N, k, layout="mma64", zero=zeros[1]), k)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scales_and_zero_points_of_16_bits(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(2)
    k = 2368
    x = operand(rng, "int8:row", ROWS[-1], k, layout="plain")
    w = operand(rng, "uint4:g128", N, k, layout="mma64", zero="float", scale_dtype=dtype)
    zero = w.zero.to(dtype)
    blocks = zero.float().numpy()[:, np.arange(k) // 128]
    check_integers(x, replace(w, zero=zero, matrix=replace(w.matrix, zero=blocks)), k)


@pytest.mark.parametrize("group", ["row", "g64"])
def test_zero_points_of_any_value(group: str) -> None:
    """Sums are modulo 2^64, as those of the reference: int32 zero points far beyond the codes."""
    rng = np.random.default_rng(3)
    k = 1056
    x = operand(rng, "int8:row", ROWS[-1], k, layout="plain", zero="int")
    w = operand(rng, f"uint4:{group}", N, k, layout="mma64", zero="int")
    values = [2**31 - 1, -(2**31), 2**30 + 7, -5]
    w_zero, x_zero = (rng.choice(values, tuple(t.zero.shape)).astype(np.int32) for t in (w, x))
    wide = w_zero if group == "row" else np.repeat(w_zero, 64, axis=1)[:, :k]
    x = replace(x, zero=torch.from_numpy(x_zero), matrix=replace(x.matrix, zero=np.repeat(x_zero, k, axis=1)))
    w = replace(
        w,
        zero=torch.from_numpy(w_zero),
        matrix=replace(w.matrix, zero=np.broadcast_to(wide, (N, k))),
    )
    check_integers(x, w, k)


@pytest.mark.parametrize("group", ["row", "g1024", "g64"])
def test_sums_of_x_beyond_32_bits(group: str) -> None:
    """As those of 2^24 columns of bytes and more: float zero points of w take the sum of x less its zero point, which
    has 64 bits from part to part and, of a segment of several windows, from window to window."""
    rng = np.random.default_rng(9)
    for k in (2368, 4612):  # streamed by one block, walked by two
        x = operand(rng, "int8:row", ROWS[-1], k, layout="plain", zero="int")
        x_zero = rng.choice([2**31 - 1, -(2**31), 2**30 + 7], tuple(x.zero.shape)).astype(np.int32)
        x = replace(x, zero=torch.from_numpy(x_zero), matrix=replace(x.matrix, zero=np.repeat(x_zero, k, axis=1)))
        check_integers(x, operand(rng, f"uint4:{group}", N, k, layout="mma64", zero="float"), k)


@pytest.mark.parametrize("mma", ["exact", "hardware"])
@pytest.mark.parametrize("k", COLUMNS)
@pytest.mark.parametrize("format", FLOAT_WEIGHTS)
def test_parts_of_floats_to_the_bits_of_the_wide_loop(format: str, k: int, mma: str) -> None:
    rng = np.random.default_rng(4)
    x = torch.from_numpy(rng.standard_normal((20, k)).astype(np.float32)).to(torch.bfloat16)
    w = operand(rng, format, N, k, layout="mma64", zero="int" if format[0] == "u" else None)
    if w.zero is not None:
        w = replace(w, zero=w.zero.to(torch.uint8))
    want = gemm("dequant_gemm", x, w, N, k, mma=mma)
    for m in ROWS:
        got = gemm("dequant_gemm", x[:m], w, N, k, mma=mma)
        assert torch.equal(got.view(torch.int32), want[:m].view(torch.int32))


@pytest.mark.parametrize("layout", ["canonical", "mma64"])
@pytest.mark.parametrize("k", [77, 4612])
def test_rows_that_are_no_vectors_are_walked(k: int, layout: str) -> None:
    """Rows of x that cp.async cannot copy, eight at a time; the longer ones are shared by two blocks."""
    rng = np.random.default_rng(8)
    x = operand(rng, "int8:row", 16, k, layout="plain")
    check_integers(x, operand(rng, "int4:g128", N, k, layout=layout), k)


def test_raw_sums_of_parts() -> None:
    rng = np.random.default_rng(5)
    for k in COLUMNS:
        x, w = operand(rng, "uint8:row", 16, k, layout="plain"), operand(rng, "uint4:row", N, k, layout="mma64")
        for m in ROWS:
            got = gemm("scaled_gemm", rows_of(x, m), w, N, k, dtype=torch.int32)
            assert torch.equal(got.long(), torch.from_numpy(oracle.raw_sum(x.matrix, w.matrix)[:m]))


@pytest.mark.parametrize("k", COLUMNS)
@pytest.mark.parametrize("format", ["nvfp4", "mxfp4", "mxfp8_e4m3"])
def test_parts_of_block_scaled_pairs_to_the_bits_of_the_wide_loop(format: str, k: int) -> None:
    rng = np.random.default_rng(6)
    x, w = operand(rng, format, 20, k), operand(rng, format, N, k, layout="mma64")
    want = gemm("scaled_gemm", x, w, N, k, "120f")
    for m in ROWS:
        got = gemm("scaled_gemm", rows_of(x, m), w, N, k, "120f")
        assert torch.equal(got.view(torch.int32), want[:m].view(torch.int32))


@pytest.mark.parametrize("k", COLUMNS)
@pytest.mark.parametrize("formats", [("int4:row", "int4:g64"), ("uint4:g128", "uint4:row")], ids="-".join)
def test_parts_of_int4_pairs_to_the_bit(formats: tuple[str, str], k: int) -> None:
    rng = np.random.default_rng(7)
    check_integers(operand(rng, formats[0], 16, k), operand(rng, formats[1], N, k, layout="mma64"), k)
