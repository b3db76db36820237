"""The tensor-core GEMM on the emulator: the bits of the oracle on integer paths, whatever the engine; on float paths,
block-scaled ones included, a sum within the bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from compare import assert_bits, assert_near
from cuda.gemms import gemm
from operands import Operand, expand, operand, parse
from oracle import gemm as oracle

# rows of x: the narrow loop up to 16, the wide one from there on
SHAPES = [(1, 1, 1), (3, 40, 77), (17, 130, 300), (64, 33, 512)]
FEW_SHAPES = [(2, 40, 77), (17, 33, 300)]  # of float paths, which take longest
INTEGER_PAIRS = [
    ("int8:row", "int4:row"), ("int8:row", "int4:g128"), ("int8:g64", "int4:g32"), ("int8:row", "int3:g24"),
    ("int8:row", "ternary:row"), ("int8:row", "bipolar3:g64"), ("int8:row", "int8:g64"), ("uint8:row", "uint8:row"),
    ("int8:row", "float4_e2m1fn:g32"), ("mxint8", "mxfp4"), ("nvint4", "nvint4"), ("int4:row", "int4:row"),
    ("int4:g64", "uint4:g128"), ("uint4:row", "int4:g64"), ("uint4:g128", "uint4:row"),
]  # fmt: skip
BLOCK_SCALED = ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "nvfp4"]


@pytest.mark.parametrize("layout", ["canonical", "mma64"])
@pytest.mark.parametrize("formats", INTEGER_PAIRS, ids="-".join)
def test_integer_pairs_to_the_bit(formats: tuple[str, str], layout: str) -> None:
    rng = np.random.default_rng(0)
    for m, n, k in SHAPES:
        x = operand(rng, formats[0], m, k, layout="plain" if ":" in formats[0] else "canonical")
        w = operand(rng, formats[1], n, k, layout=layout)
        bias = rng.standard_normal(n).astype(np.float32)
        got = gemm("scaled_gemm", x, w, n, k, bias=torch.from_numpy(bias))
        assert_bits(got, oracle.integer_path(x.matrix, w.matrix, bias))


@pytest.mark.parametrize("zeros", [(None, "int"), ("int", "int"), (None, "float"), ("int", "float")], ids=str)
@pytest.mark.parametrize("formats", [("int8:row", "uint4:g128"), ("uint8:row", "uint4:g32")], ids="-".join)
def test_zero_points_to_the_bit(formats: tuple[str, str], zeros: tuple[str | None, str]) -> None:
    rng = np.random.default_rng(1)
    for m, n, k in SHAPES:
        x = operand(rng, formats[0], m, k, layout="plain", zero=zeros[0])
        w = operand(rng, formats[1], n, k, layout="mma64", zero=zeros[1])
        assert_bits(gemm("scaled_gemm", x, w, n, k), oracle.integer_path(x.matrix, w.matrix))


FAR = np.array([0, 15, -1, 255, 70_000, 2**31 - 1, -(2**31), -(2**31) + 77], np.int64)


def with_zeros(rng: np.random.Generator, o: Operand, choices: np.ndarray, dtype: torch.dtype = torch.int32) -> Operand:
    rows, k = o.matrix.values.shape
    values = rng.choice(choices, tuple(o.zero.shape))
    zero = torch.from_numpy(values).to(dtype)
    return replace(o, zero=zero, matrix=replace(o.matrix, zero=expand(values, parse(o.format).block, rows, k)))


@pytest.mark.parametrize("layout", ["canonical", "mma64"])
@pytest.mark.parametrize(
    "formats",
    [("int8:row", "uint4:row"), ("uint8:g64", "bipolar8:g32"), ("int8:row", "float4_e2m1fn:g24")],
    ids="-".join,
)
def test_zero_points_anywhere(formats: tuple[str, str], layout: str) -> None:
    """int32 zero points outside the range of the codes: the sum modulo 2^64, on both loops."""
    rng = np.random.default_rng(8)
    for m, n, k in [(3, 40, 200), (20, 40, 200)]:
        x = operand(rng, formats[0], m, k, layout="plain", zero="int")
        w = operand(rng, formats[1], n, k, layout=layout, zero="int")
        for far_x, far_w in [(False, True), (True, False), (True, True)]:
            at_x = with_zeros(rng, x, FAR) if far_x else x
            at_w = with_zeros(rng, w, FAR) if far_w else w
            assert_bits(gemm("scaled_gemm", at_x, at_w, n, k), oracle.integer_path(at_x.matrix, at_w.matrix))
        far_x, float_w = with_zeros(rng, x, FAR), operand(rng, formats[1], n, k, layout=layout, zero="float")
        assert_bits(gemm("scaled_gemm", far_x, float_w, n, k), oracle.integer_path(far_x.matrix, float_w.matrix))


@pytest.mark.parametrize("more", [0, 1])
def test_the_longest_segment_of_the_wide_loop(more: int) -> None:
    """Codes 0 under zero points 255 times -128: 65,793 products are 2^31 - 128, the largest sum; one more goes to the
    narrow loop. Rows of x whose zero point is -128 besides have a sum of 0."""
    n, k = 3, 65_793 + more
    ones = np.ones((1, k))
    for m in (17,):
        x_values = np.full((m, k), -128.0)
        x_values[1:] = 0
        x_values[:, 0] = -128
        x = Operand(
            "int8:row@plain", torch.from_numpy(x_values.astype(np.int8).view(np.uint8)), torch.ones(m, 1), None, None,
            None, oracle.Matrix(x_values, 0, np.ones((m, k), np.float32)),
        )  # fmt: skip
        codes = torch.zeros(n, k, dtype=torch.uint8)
        packed = torch.ops.lowbit.prepack(torch.ops.lowbit.pack(codes, "uint4"), "uint4", k, layout="mma64")
        w = Operand(
            "uint4:row@mma64", packed, torch.ones(n, 1), torch.full((n, 1), 255, dtype=torch.uint8), None, None,
            oracle.Matrix(np.zeros((n, k)), 0, np.ones((n, k), np.float32), (255 * ones).astype(np.int64).repeat(n, 0)),
        )  # fmt: skip
        assert_bits(gemm("scaled_gemm", x, w, n, k), oracle.integer_path(x.matrix, w.matrix))


@pytest.mark.parametrize("k", [255, 256, 512])
@pytest.mark.parametrize("format", ["int4", "int8"])
def test_the_widest_codes(format: str, k: int) -> None:
    """The largest sums there can be: from 256 columns on they are no longer converted by a subtraction."""
    rng = np.random.default_rng(6)
    least = {"int4": -8, "int8": -128}
    for m in (3, 20):
        x, w = operand(rng, "int8:row", m, k, layout="plain"), operand(rng, f"{format}:row", 40, k)
        codes = torch.full((40, k), least[format] % (2 * -least[format]), dtype=torch.uint8)
        packed = torch.ops.lowbit.prepack(torch.ops.lowbit.pack(codes, format), format, k, layout="mma64")
        w = replace(
            w,
            format=f"{format}:row@mma64",
            codes=packed,
            matrix=replace(w.matrix, values=np.full((40, k), least[format] + 0.0)),
        )
        x.codes.fill_(128)
        x = replace(x, matrix=replace(x.matrix, values=np.full((m, k), -128.0)))
        assert_bits(gemm("scaled_gemm", x, w, 40, k), oracle.integer_path(x.matrix, w.matrix))


@pytest.mark.parametrize("layout", ["canonical", "mma64"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "format", ["int4:g128", "uint3:g64", "int8:row", "float8_e4m3fn:g128", "float8_e5m2:row", "mxfp6_e3m2", "nvfp4"]
)
def test_weights_within_the_bound(format: str, dtype: torch.dtype, layout: str) -> None:
    rng = np.random.default_rng(2)
    for m, n, k in FEW_SHAPES:
        x = torch.from_numpy(rng.standard_normal((m, k)).astype(np.float32)).to(dtype)
        w = operand(rng, format, n, k, layout=layout, zero="int" if format[0] == "u" else None)
        got = gemm("dequant_gemm", x, w, n, k)
        assert_near(got, oracle.dense(x.double().numpy()), w.matrix)


def test_not_a_number_in_eight_bit_floats() -> None:
    """NaN and infinity of FP8 weights stay what they are through the decoding in registers."""
    rng = np.random.default_rng(3)
    for format, codes in {"float8_e4m3fn:row": {0x7F: np.nan, 0xFF: np.nan, 0x7E: 448.0},
                          "float8_e5m2:row": {0x7C: np.inf, 0xFC: -np.inf, 0x7E: np.nan}}.items():  # fmt: skip
        for dtype in (torch.bfloat16, torch.float16):
            w = operand(rng, format, 16, 64)
            for code, value in codes.items():
                plain = np.zeros((16, 64), np.uint8)
                plain[5, 7] = code
                w.codes.copy_(torch.from_numpy(plain))
                packed = torch.ops.lowbit.prepack(w.codes, format.partition(":")[0], 64, layout="mma64")
                tiled = type(w)(f"{format}@mma64", packed, torch.ones_like(w.scale), None, None, None, w.matrix)
                out = gemm("dequant_gemm", torch.ones(2, 64, dtype=dtype), tiled, 16, 64)
                assert np.array_equal(out[0, 5].item(), value, equal_nan=True)
                assert out[0, 6].item() == 0


@pytest.mark.parametrize("mma", ["exact", "hardware"])
@pytest.mark.parametrize("layout", ["canonical", "mma64"])
@pytest.mark.parametrize("format", BLOCK_SCALED)
def test_block_scaled_pairs_within_the_bound(format: str, layout: str, mma: str) -> None:
    rng = np.random.default_rng(4)
    for m, n, k in FEW_SHAPES:
        x, w = operand(rng, format, m, k), operand(rng, format, n, k, layout=layout)
        assert_near(gemm("scaled_gemm", x, w, n, k, "120f", mma=mma), x.matrix, w.matrix)


def test_bitplane_gemm_keeps_the_bits_where_blocks_are_scaled_natively() -> None:
    rng = np.random.default_rng(5)
    x, w = operand(rng, "nvfp4", 20, 300), operand(rng, "nvfp4", 40, 300)
    assert_bits(gemm("bitplane_gemm", x, w, 40, 300, "120f"), oracle.integer_path(x.matrix, w.matrix))


@pytest.mark.parametrize("block", ["1x32", "4x32", "32x32"])
def test_a_row_has_the_same_bits_alone(block: str) -> None:
    """A single row has one block of scales along M, whatever the rule, and takes the same engine."""
    rng = np.random.default_rng(7)
    format = f"float4_e2m1fn:b{block}/float8_e8m0fnu"
    x, w = operand(rng, format, 20, 300), operand(rng, "mxfp4", 40, 300, layout="mma64")
    one = replace(x, codes=x.codes[:1], scale=x.scale[:1], matrix=replace(x.matrix, values=x.matrix.values[:1]))
    many = gemm("scaled_gemm", x, w, 40, 300, "120f")
    assert torch.equal(many[:1], gemm("scaled_gemm", one, w, 40, 300, "120f"))
    assert_near(many, x.matrix, w.matrix)
