"""Two operands of codes whose scales change every few columns: to the last bit those of the oracle, on every ISA and at
every number of rows, with segments that fill a tile of the matrix unit and that do not."""

import lowbit  # noqa: F401
import pytest
import torch
from compare import assert_bits, assert_near
from numpy.random import default_rng
from operands import Operand, operand
from oracle import gemm

OPS = torch.ops.lowbit
# x and w
PAIRS = [
    ("mxfp4", "mxfp4"),
    ("nvfp4", "nvfp4"),
    ("nvint4", "nvint4"),
    ("mxint8", "mxint8"),
    ("mxint8", "nvfp4"),  # 2 segments of x's in one of w's
    ("mxfp6_e2m3", "mxfp4"),
    ("uint8:row", "uint8:g16"),  # scales of w alone along K; up to 255 * 255
    ("bipolar8:g12", "int3:g28"),  # segments of 12, 12, 4, 8, .. columns, and numbers beyond int8
    ("int8:g6", "int4:g6"),  # that begin inside a quad
]


def multiply(x: Operand, w: Operand, k: int, rows: slice = slice(None)) -> torch.Tensor:
    codes = x.codes[rows] if x.codes.dtype == torch.uint8 else x.codes[:, rows]
    per_row = x.scale is not None and len(x.scale) > 1
    return OPS.scaled_gemm(
        codes, x.scale[rows] if per_row else x.scale, x.format, w.codes, w.scale, w.format, k,
        x_scale2=x.scale2, w_scale2=w.scale2,
    )  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("layout", ["canonical", "tile16"])
def test_bits_are_those_of_the_oracle(isa, pair, layout):
    rng = default_rng(1)
    for m, n, k in [(16, 16, 32), (17, 70, 331), (33, 5, 13), (150, 33, 1041)]:
        x, w = operand(rng, pair[0], m, k, layout="plain"), operand(rng, pair[1], n, k, layout=layout)
        assert_bits(multiply(x, w, k), gemm.integer_path(x.matrix, w.matrix))


@pytest.mark.parametrize("pair", [*PAIRS, ("mxfp8_e4m3", "mxfp8_e4m3")], ids="-".join)
def test_rows_do_not_depend_on_the_batch(isa, pair):
    rng = default_rng(2)
    n, k = 70, 331
    x, w = operand(rng, pair[0], 100, k, layout="plain"), operand(rng, pair[1], n, k, layout="tile16")
    whole = multiply(x, w, k)
    for begin, end in [(0, 1), (3, 5), (7, 23), (20, 51), (60, 100)]:
        assert torch.equal(multiply(x, w, k, slice(begin, end)), whole[begin:end])


@pytest.mark.parametrize("weight", ["nvfp4", "nvint4", "int4:g16", "int3:g12", "int4:g16 zero", "int4:g32", "mxfp4"])
def test_rows_of_floats_do_not_depend_on_the_batch(isa, weight):
    rng = default_rng(3)
    n, k = 70, 331
    format, _, zero = weight.partition(" ")
    w = operand(rng, format, n, k, layout="tile16", zero="int" if zero else None)
    x = torch.from_numpy(rng.standard_normal((100, k))).to(torch.bfloat16)

    def product(rows: slice) -> torch.Tensor:
        return OPS.dequant_gemm(x[rows], w.codes, w.scale, w.zero, w.format, w_scale2=w.scale2, out_dtype=torch.float32)

    whole = product(slice(0, 100))
    assert_near(whole, gemm.dense(x.double().numpy()), w.matrix)
    for begin, end in [(0, 1), (3, 5), (7, 23), (20, 51), (60, 100)]:
        assert torch.equal(product(slice(begin, end)), whole[begin:end])


def test_scales_below_the_normal_numbers(isa):
    """Of integers value * 2^shift: fl(2^-75 * 2^-75) is 0, though the values and scales themselves are not so small."""
    m, n, k = 16, 16, 64
    codes = torch.full((m, k // 2), 0x77, dtype=torch.uint8)  # 6.0
    for exponents in (74, 73, 64, 20):  # of each operand's scale, below 0
        scale = torch.full((m, k // 32), 127 - exponents, dtype=torch.uint8)
        got = OPS.scaled_gemm(codes, scale, "mxfp4", codes, scale, "mxfp4", k)
        s = torch.tensor(2.0 ** -(exponents + 1), dtype=torch.float64)
        want = (32 * 12 * 12 * (s * s).float().double()).float() * 2  # both sums are exact
        assert torch.equal(got, want.expand(m, n)), exponents
