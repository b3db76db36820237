"""The narrow loop of the tensor-core GEMM on the emulator, where weights become rows (csrc/cuda/tile/narrow_walk.cuh):
every layout and width, parts of whole steps and others, windows of values and of codes that follow each other, rows
whose strides the windows allow and others. Integers to the bits of the oracle, floats to those of the wide loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from compare import assert_bits
from cuda.emulated import run
from cuda.gemms import gemm
from cuda.test_gemm_narrow import rows_of
from operands import mixed, operand
from oracle import gemm as oracle

N = 24  # a tile of 16 rows of w, and one that is not full
# a turn of one warp; planes whose rows are no chunks of 16 bytes, with tails of a step and of a window; several turns,
# and K shared by blocks where units are small
COLUMNS = [192, 1056, 4672]


@pytest.mark.parametrize("k", COLUMNS)
@pytest.mark.parametrize("layout", ["canonical", "tile16"])
@pytest.mark.parametrize(
    ("w", "zero"),
    [("int4:row", None), ("int1:g64", None), ("uint3:g128", "int"), ("uint4:g64", "float"), ("int7:g256", None),
     ("uint2:g32", "int"), ("int4:g16", None), ("int5:g48", None), ("int4:g24", None), ("ternary:g512", None)],
)  # fmt: skip
def test_integers_to_the_bit(w: str, zero: str | None, layout: str, k: int) -> None:
    rng = np.random.default_rng(0)
    x, weight = operand(rng, "int8:row", 16, k, layout="plain"), operand(rng, w, N, k, layout=layout, zero=zero)
    want = oracle.integer_path(x.matrix, weight.matrix)
    for m in (3, 16):
        assert_bits(gemm("scaled_gemm", rows_of(x, m), weight, N, k), want[:m])


@pytest.mark.parametrize("past", [1, 2])
def test_planes_that_begin_at_no_chunk(past: int) -> None:
    """Rows of whole chunks of 16 bytes, in planes that lie `past` words beside them."""
    rng = np.random.default_rng(6)
    k = 1024
    x, w = operand(rng, "int8:row", 3, k, layout="plain"), operand(rng, "int3:g128", N, k)
    words = N * k // 32
    apart = torch.zeros(3 * (words + past), dtype=torch.int32).as_strided(w.codes.shape, (words + past, k // 32, 1))
    weight = replace(w, codes=apart.copy_(w.codes))
    assert_bits(gemm("scaled_gemm", x, weight, N, k), oracle.integer_path(x.matrix, w.matrix))


@pytest.mark.parametrize("x_format", ["uint8:g64", "uint8:g32"])
@pytest.mark.parametrize("layout", ["canonical", "mma64"])
@pytest.mark.parametrize("w", ["int4:g128", "uint4:g96", "int4:g64"])
def test_both_operands_change_along_k(w: str, layout: str, x_format: str) -> None:
    """g96: parts that are no powers of two, of mma64 weights too."""
    rng = np.random.default_rng(1)
    k = 3072
    x = operand(rng, x_format, 9, k, layout="plain", zero="int", scale_dtype=torch.bfloat16)
    weight = operand(rng, w, N, k, layout=layout, zero="int", scale_dtype=torch.float16)
    assert_bits(gemm("scaled_gemm", x, weight, N, k), oracle.integer_path(x.matrix, weight.matrix))


@pytest.mark.parametrize("layout", ["canonical", "mma64", "tile16"])
@pytest.mark.parametrize("k", [1056, 2176])
@pytest.mark.parametrize("w", ["nf4:g64", "uint4:g64", "uint3:g32", "float8_e4m3fn:g128", "int4:g96", "uint8:g16"])
def test_floats_to_the_bits_of_the_wide_loop(w: str, k: int, layout: str) -> None:
    """What the wide loop takes from mma64 words in their order (uint8:g16 apart, rows of x being floats) too: the order
    of a sum in the tensor core is that of the columns of the operands."""
    rng = np.random.default_rng(2)
    weight = operand(rng, w, N, k, layout=layout, zero="int" if w[0] == "u" else None)
    if weight.zero is not None:
        weight = replace(weight, zero=weight.zero.to(torch.uint8))
    values = torch.from_numpy(rng.standard_normal((20, k)).astype(np.float32))
    for x in (values.bfloat16(), values):
        want = gemm("dequant_gemm", x, weight, N, k, mma="hardware")
        for m in (3, 16):
            got = gemm("dequant_gemm", x[:m], weight, N, k, mma="hardware")
            assert torch.equal(got.view(torch.int32), want[:m].view(torch.int32))


@pytest.mark.parametrize("layout", ["canonical", "mma64"])
@pytest.mark.parametrize("high", [[1, 4, 5, 20, 33], list(range(3, 36)), [35], []], ids=str)
def test_groups_of_two_widths(high: list[int], layout: str) -> None:
    rng = np.random.default_rng(3)
    w, more = mixed(rng, "uint2", N, 2304, 64, high, layout)
    x = torch.from_numpy(rng.standard_normal((20, 2304)).astype(np.float32)).bfloat16()
    want = run(lambda ops: ops.dequant_gemm(x, w.codes, w.scale, w.zero, w.format, w_scale2=w.scale2, **more))
    for m in (1, 16):
        rows = x[:m].clone()
        got = run(
            lambda ops, x=rows: ops.dequant_gemm(x, w.codes, w.scale, w.zero, w.format, w_scale2=w.scale2, **more)
        )
        assert torch.equal(got.view(torch.int16), want[:m].view(torch.int16))


@pytest.mark.parametrize("layout", ["canonical", "tile16"])
@pytest.mark.parametrize("k", [448, 2176])
@pytest.mark.parametrize("formats", [("int4:row", "int4:g128"), ("uint4:g64", "uint4:row")], ids="-".join)
def test_int4_pairs_to_the_bit(formats: tuple[str, str], k: int, layout: str) -> None:
    rng = np.random.default_rng(4)
    x, w = operand(rng, formats[0], 11, k), operand(rng, formats[1], N, k, layout=layout)
    assert_bits(gemm("scaled_gemm", x, w, N, k), oracle.integer_path(x.matrix, w.matrix))


@pytest.mark.parametrize("k", [448, 2176])
@pytest.mark.parametrize("format", ["nvfp4", "mxfp4", "mxfp8_e4m3"])
def test_block_scaled_pairs_to_the_bits_of_the_wide_loop(format: str, k: int) -> None:
    rng = np.random.default_rng(5)
    x, w = operand(rng, format, 20, k), operand(rng, format, N, k)
    want = gemm("scaled_gemm", x, w, N, k, "120f")
    for m in (3, 16):
        got = gemm("scaled_gemm", rows_of(x, m), w, N, k, "120f")
        assert torch.equal(got.view(torch.int32), want[:m].view(torch.int32))
