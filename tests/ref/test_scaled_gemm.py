"""scaled_gemm against the oracle: bit for bit on the integer path, within the derived bound on the float path."""

import lowbit  # noqa: F401
import numpy as np
import pytest
import torch
from compare import assert_bits, assert_near
from operands import NAMED, Operand, operand
from oracle import gemm

SHAPES = [(1, 1, 1), (3, 5, 7), (2, 17, 130), (9, 16, 257), (33, 4, 96)]

INTEGER_PAIRS = [
    ("int8", "int8"), ("int8:tensor", "int8:tensor"), ("int8", "int4:g32"), ("int8:g128", "int4:g128"),
    ("int8:g16", "uint4:g48"), ("uint8", "int8"), ("uint8:g64", "uint8:g64"), ("int4:g32", "int4:g32"),
    ("int8", "int2:g16"), ("int8", "uint3:g64/uint4:g4"), ("int5", "int6:g33"), ("int7:g20", "int1"),
    ("bipolar8", "bipolar8"), ("int8", "ternary"), ("int8:g32", "bipolar1:g32"), ("int8", "float4_e2m1fn:g32"),
    ("mxfp4", "mxfp4"), ("nvfp4", "nvfp4"), ("mxint8", "mxint8"), ("nvint4", "nvint4"), ("mxint8", "mxfp4"),
    ("nvfp4", "mxint8"), ("float6_e2m3fn", "mxfp6_e2m3"), ("int8:b4x32", "int8:b16x32"),
]  # fmt: skip

FLOAT_PAIRS = [
    ("float8_e4m3fn", "float8_e4m3fn"), ("float8_e5m2", "float8_e4m3fn:tensor"), ("mxfp8_e4m3", "mxfp8_e4m3"),
    ("float8_e4m3fn:g128", "float8_e4m3fn:b128x128"), ("mxfp8_e5m2", "mxfp4"), ("mxfp6_e3m2", "mxfp6_e2m3"),
    ("mxfp8_e4m3", "int4:g32"), ("int8", "nf4:g64"), ("int8:g32", "float8_e4m3fn"), ("nvfp4", "mxfp8_e4m3"),
    ("float3_e2m0fn", "float5_e2m2fn:g16"), ("float8_e3m4", "nvfp4"),
]  # fmt: skip


def run(x: Operand, w: Operand, **more: object) -> torch.Tensor:
    return torch.ops.lowbit.scaled_gemm(
        x.codes, x.scale, x.format, w.codes, w.scale, w.format, w.matrix.values.shape[1],
        x_zero=x.zero, w_zero=w.zero, x_scale2=x.scale2, w_scale2=w.scale2, **more,
    )  # fmt: skip


@pytest.mark.parametrize("formats", INTEGER_PAIRS, ids="-".join)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_integer_path_to_the_bit(isa, formats, shape):
    m, n, k = shape
    rng = np.random.default_rng(1)
    x, w = operand(rng, formats[0], m, k), operand(rng, formats[1], n, k)
    assert_bits(run(x, w), gemm.integer_path(x.matrix, w.matrix))


@pytest.mark.parametrize("zeros", [("int", None), (None, "int"), ("int", "int"), (None, "float"), ("int", "float")])
@pytest.mark.parametrize("formats", [("int8", "uint4:g32"), ("uint8:g16", "uint2:g64"), ("uint8", "int8"),
                                     ("uint4:tensor", "float4_e2m1fn:g16")], ids="-".join)  # fmt: skip
def test_zero_points_on_either_side(isa, formats, zeros):
    rng = np.random.default_rng(2)
    x, w = operand(rng, formats[0], 7, 200, zero=zeros[0]), operand(rng, formats[1], 19, 200, zero=zeros[1])
    bias = rng.standard_normal(19).astype(np.float32)
    got = run(x, w, bias=torch.from_numpy(bias))
    assert_bits(got, gemm.integer_path(x.matrix, w.matrix, bias))
    assert_near(got, x.matrix, w.matrix, bias)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int8, torch.uint8])
def test_zero_points_of_every_integer_dtype(isa, dtype):
    rng = np.random.default_rng(3)
    x, w = operand(rng, "int8", 3, 70), operand(rng, "uint4:g32", 5, 70, zero="int")
    want = run(x, w)
    got = torch.ops.lowbit.scaled_gemm(
        x.codes, x.scale, x.format, w.codes, w.scale, w.format, 70, w_zero=w.zero.to(dtype)
    )
    assert torch.equal(got, want)


@pytest.mark.parametrize("formats", FLOAT_PAIRS, ids="-".join)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float_path_within_its_bound(isa, formats, shape):
    m, n, k = shape
    rng = np.random.default_rng(4)
    x, w = operand(rng, formats[0], m, k), operand(rng, formats[1], n, k)
    assert_near(run(x, w), x.matrix, w.matrix)


def test_float_zero_point_of_x_takes_the_float_path(isa):
    rng = np.random.default_rng(5)
    x, w = operand(rng, "uint8:g32", 4, 100, zero="float"), operand(rng, "int4:g32", 6, 100, zero="int")
    assert_near(run(x, w), x.matrix, w.matrix)


@pytest.mark.parametrize("layouts", [("plain", "canonical"), ("canonical", "plain"), ("plain", "tile16"),
                                     ("canonical", "mma64")])  # fmt: skip
@pytest.mark.parametrize(
    "formats", [("int8", "int3:g32"), ("nvfp4", "float4_e2m1fn:g16"), ("int5", "uint8")], ids="-".join
)
def test_every_layout_gives_the_same(isa, formats, layouts):
    made = [operand(np.random.default_rng(6), formats[0], 5, 67, layout=it) for it in ("canonical", layouts[0])]
    x, x_other = made
    made = [operand(np.random.default_rng(7), formats[1], 21, 67, layout=it) for it in ("canonical", layouts[1])]
    w, w_other = made
    assert torch.equal(run(x_other, w_other), run(x, w))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias_dtype", [None, torch.float32, torch.bfloat16, torch.float16])
def test_output_and_bias_dtypes(isa, dtype, bias_dtype):
    rng = np.random.default_rng(8)
    x, w = operand(rng, "int8", 3, 64), operand(rng, "int4:g32", 6, 64)
    bias = None if bias_dtype is None else torch.from_numpy(rng.standard_normal(6).astype(np.float32)).to(bias_dtype)
    got = run(x, w, bias=bias, out_dtype=dtype)
    assert got.dtype == dtype
    assert_bits(got, gemm.integer_path(x.matrix, w.matrix, None if bias is None else bias.float().numpy()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scales_in_16_bits(isa, dtype):
    rng = np.random.default_rng(9)
    x, w = operand(rng, "int8:g32", 3, 100, scale_dtype=dtype), operand(rng, "int4:g16", 6, 100, scale_dtype=dtype)
    assert_bits(run(x, w), gemm.integer_path(x.matrix, w.matrix))


def test_long_sums_of_full_range_codes_are_exact(isa):
    """K beyond floor((2^31 - 1) / 255^2) = 33025 products of the largest codes: no 32-bit sum may overflow."""
    k = 40_001
    x = torch.full((2, k), 255, dtype=torch.uint8)
    for name, code, value in [("bipolar8", 255, 255), ("bipolar8", 0, -255), ("uint8", 255, 255), ("int8", 128, -128)]:
        w = torch.full((3, k), code, dtype=torch.uint8)
        got = torch.ops.lowbit.scaled_gemm(x, None, "uint8", w, None, name, k)
        assert torch.equal(got, torch.full((2, 3), float(np.float32(255 * value * k)))), name


def test_raw_sum(isa):
    rng = np.random.default_rng(11)
    for zeros in [(None, None), ("int", "int")]:
        x = operand(rng, "uint8:g64", 5, 130, scaled=False, zero=zeros[0])
        w = operand(rng, "int3:g16", 18, 130, scaled=False, zero=zeros[1])
        got = run(x, w, out_dtype=torch.int32)
        assert np.array_equal(got.numpy(), gemm.raw_sum(x.matrix, w.matrix))


def test_batch_position_and_size_do_not_change_a_row(isa):
    rng = np.random.default_rng(10)
    for formats in [("int8:g32", "int4:g32"), ("mxfp8_e4m3", "mxfp4")]:
        x, w = operand(rng, formats[0], 70, 160), operand(rng, formats[1], 33, 160)
        whole = run(x, w)
        for row in (0, 1, 37, 69):
            part = slice(row, row + 1)
            planes = x.codes.dtype == torch.int32
            got = torch.ops.lowbit.scaled_gemm(
                x.codes[:, part] if planes else x.codes[part], x.scale[part], x.format, w.codes, w.scale, w.format, 160
            )
            assert torch.equal(got[0], whole[row])


def test_names_of_the_block_formats_are_all_covered():
    covered = {f for pair in INTEGER_PAIRS + FLOAT_PAIRS for f in pair}
    assert set(NAMED) <= covered


@pytest.mark.parametrize("x_format", ["float4_e2m1fn", "float6_e2m3fn", "int4"])
@pytest.mark.parametrize("w_format", ["float4_e2m1fn", "int3"])
def test_formats_exact_in_int8_need_no_scale(isa, x_format, w_format):
    """Their power of two is part of the value, whether or not a scale carries it. Few small products: exact."""
    ops = torch.ops.lowbit
    gen = torch.Generator().manual_seed(5)

    def codes(rows: int, name: str) -> torch.Tensor:
        bits = int(name[5] if name.startswith("float") else name[3])
        return ops.pack(torch.randint(0, 1 << bits, (rows, 37), generator=gen, dtype=torch.uint8), name)

    x, w = codes(3, x_format), codes(5, w_format)
    want = ops.dequantize(x, None, None, x_format, 37) @ ops.dequantize(w, None, None, w_format, 37).T
    assert torch.equal(ops.scaled_gemm(x, None, x_format, w, None, w_format, 37), want)
