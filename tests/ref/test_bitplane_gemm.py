"""bitplane_gemm against the oracle, bit for bit: every pair of widths and kinds, scales, zero points, complex weights
and the raw sum."""

import lowbit  # noqa: F401
import numpy as np
import pytest
import torch
from compare import assert_bits
from operands import Operand, complex_operand, operand
from oracle import gemm

KINDS = ["int", "uint", "bipolar"]


def run(x: Operand, w: Operand, **more: object) -> torch.Tensor:
    k = w.matrix.values.shape[1] // (2 if w.format.startswith("complex2") else 1)
    return torch.ops.lowbit.bitplane_gemm(
        x.codes, x.scale, x.zero, x.format, w.codes, w.scale, w.zero, w.format, k, **more
    )


def check_raw(x: Operand, w: Operand) -> None:
    got = run(x, w, out_dtype=torch.int32)
    assert got.dtype == torch.int32
    assert np.array_equal(got.numpy(), gemm.raw_sum(x.matrix, w.matrix))


@pytest.mark.parametrize("q", range(1, 9))
@pytest.mark.parametrize("p", range(1, 9))
def test_every_pair_of_widths(isa, p, q):
    rng = np.random.default_rng(100 * p + q)
    for i, kind in enumerate(KINDS):
        other = KINDS[(i + p + q) % 3]
        m, n, k = [(1, 7, 31), (5, 3, 64), (4, 18, 201)][i]
        x, w = operand(rng, f"{kind}{q}", m, k, scaled=False), operand(rng, f"{other}{p}", n, k, scaled=False)
        check_raw(x, w)
        x, w = operand(rng, f"{other}{q}:g32", m, k), operand(rng, f"{kind}{p}:g32", n, k)
        assert_bits(run(x, w), gemm.integer_path(x.matrix, w.matrix))


@pytest.mark.parametrize("formats", [("ternary", "ternary"), ("int8", "ternary:g48"), ("ternary:g16", "bipolar1"),
                                     ("int4:tensor", "uint2:b4x32"), ("int8:g64", "uint2:g16"),
                                     ("int8", "int4:g32/float8_e4m3fn")], ids="-".join)  # fmt: skip
@pytest.mark.parametrize("zeros", [(None, None), ("int", None), (None, "int"), ("int", "int"), (None, "float")])
def test_blocks_and_zero_points(isa, formats, zeros):
    rng = np.random.default_rng(1)
    for m, n, k in [(1, 1, 1), (3, 17, 130), (6, 5, 64)]:
        x, w = operand(rng, formats[0], m, k, zero=zeros[0]), operand(rng, formats[1], n, k, zero=zeros[1])
        bias = rng.standard_normal(n).astype(np.float32)
        got = run(x, w, bias=torch.from_numpy(bias))
        assert_bits(got, gemm.integer_path(x.matrix, w.matrix, bias))


def test_raw_sum_with_zero_points(isa):
    rng = np.random.default_rng(2)
    for zeros in [("int", None), (None, "int"), ("int", "int")]:
        x = operand(rng, "uint4:g16", 5, 77, zero=zeros[0], scaled=False)
        w = operand(rng, "uint3:g32", 9, 77, zero=zeros[1], scaled=False)
        check_raw(x, w)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_output_dtypes(isa, dtype):
    rng = np.random.default_rng(3)
    x, w = operand(rng, "int8", 4, 96), operand(rng, "uint2:g16", 6, 96, zero="int")
    bias = torch.from_numpy(rng.standard_normal(6).astype(np.float32)).to(dtype)
    got = run(x, w, bias=bias, out_dtype=dtype)
    assert got.dtype == dtype
    assert_bits(got, gemm.integer_path(x.matrix, w.matrix, bias.float().numpy()))


@pytest.mark.parametrize("layouts", [("plain", "canonical"), ("canonical", "plain"), ("plain", "plain"),
                                     ("canonical", "tile16"), ("canonical", "mma64")], ids="-".join)  # fmt: skip
@pytest.mark.parametrize(
    "formats", [("int8", "int2:g16"), ("uint4:g32", "bipolar3"), ("ternary", "ternary")], ids="-".join
)
def test_every_layout_gives_the_same(isa, formats, layouts):
    def make(side: int, layout: str) -> Operand:
        return operand(np.random.default_rng(4 + side), formats[side], (5, 21)[side], 67, layout=layout)

    want = run(make(0, "canonical"), make(1, "canonical"))
    assert torch.equal(run(make(0, layouts[0]), make(1, layouts[1])), want)


@pytest.mark.parametrize("x_format", ["int8", "int8:g16", "uint4:tensor", "ternary", "bipolar1"])
@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("block", ["tensor", "row", "g16"])
def test_complex_weights(isa, block, pair, x_format):
    """The real matrix [[Re, -Im], [Im, Re]]; and, through complex numbers, the product itself."""
    rng = np.random.default_rng(5)
    for m, n, k in [(1, 1, 1), (3, 5, 40), (2, 17, 64)]:
        zero = "int" if x_format.startswith("uint") else None
        x, w = operand(rng, x_format, m, 2 * k, zero=zero), complex_operand(rng, block, n, k, pair=pair)
        bias = rng.standard_normal(2 * n).astype(np.float32)
        got = run(x, w, bias=torch.from_numpy(bias))
        assert_bits(got, gemm.integer_path(x.matrix, w.matrix, bias))
        real_x, real_w = gemm.real(x.matrix), gemm.real(w.matrix)
        z = (real_x[:, :k] + 1j * real_x[:, k:]) @ (real_w[:n, :k] + 1j * real_w[n:, :k]).T
        want = np.concatenate([z.real, z.imag], 1) + bias
        assert np.allclose(got.numpy(), want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


def test_raw_sum_of_complex_weights(isa):
    rng = np.random.default_rng(6)
    x, w = operand(rng, "int8", 3, 80, scaled=False), complex_operand(rng, "row", 6, 40, pair=False)
    got = torch.ops.lowbit.bitplane_gemm(
        x.codes, None, None, "int8", w.codes, None, None, "complex2", 40, out_dtype=torch.int32
    )
    assert np.array_equal(got.numpy(), gemm.raw_sum(x.matrix, w.matrix))


@pytest.mark.parametrize("formats", [("uint8", "uint8", 33025), ("int8", "uint8", 65793), ("int8", "int8", 131071),
                                     ("bipolar8", "bipolar8", 33025), ("int8", "complex2", 16777215)])  # fmt: skip
def test_raw_sum_refuses_a_k_that_could_overflow(formats):
    """The largest K is floor((2^31 - 1) / max |w x|)."""
    x_format, w_format, most = formats
    k = most + 1
    columns = 2 * k if w_format == "complex2" else k
    x = torch.empty(0, columns, dtype=torch.uint8)
    w = torch.empty(0, k, dtype=torch.uint8)
    args = (x, None, None, x_format, w, None, None, w_format, k)
    with pytest.raises(ValueError, match=rf"bitplane_gemm: k must be at most {most} .* got {k}; "):
        torch.ops.lowbit.bitplane_gemm(*args, out_dtype=torch.int32)
    torch.ops.lowbit.bitplane_gemm(*args)


def test_the_largest_raw_sum_is_exact(isa):
    k = 33025
    x, w = torch.full((1, k), 255, dtype=torch.uint8), torch.full((2, k), 255, dtype=torch.uint8)
    got = torch.ops.lowbit.bitplane_gemm(x, None, None, "uint8", w, None, None, "uint8", k, out_dtype=torch.int32)
    assert got.tolist() == [[255 * 255 * k] * 2]
    w.zero_()
    got = torch.ops.lowbit.bitplane_gemm(x, None, None, "uint8", w, None, None, "bipolar8", k, out_dtype=torch.int32)
    assert got.tolist() == [[-255 * 255 * k] * 2]


def test_planes_and_int8_dot_agree(isa):
    """The two integer families are one arithmetic."""
    rng = np.random.default_rng(7)
    for formats in [("int8", "int4:g32"), ("uint8:g64", "uint2:g16"), ("int5", "ternary")]:
        x, w = operand(rng, formats[0], 6, 160, zero="int"), operand(rng, formats[1], 18, 160, zero="float")
        want = torch.ops.lowbit.scaled_gemm(
            x.codes, x.scale, x.format, w.codes, w.scale, w.format, 160, x_zero=x.zero, w_zero=w.zero
        )
        assert torch.equal(run(x, w), want)
