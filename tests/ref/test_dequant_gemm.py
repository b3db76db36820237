"""dequant_gemm and its gradient against the oracle, within the derived bound: every weight format, activations of 32
and 16 bits, groups of two widths, outliers."""

import lowbit  # noqa: F401
import numpy as np
import pytest
import torch
from compare import assert_near
from operands import NAMED, Operand, complex_operand, mixed, operand, with_outliers
from oracle import formats, gemm

OPS = torch.ops.lowbit
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ELEMENTS = [name for name in formats.NAMES if name not in ("complex2", "float8_e8m0fnu")]
BLOCKS = ["tensor", "row", "g16", "g40", "b8x24"]


def activations(rng: np.random.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32)).to(dtype)


def run(x: torch.Tensor, w: Operand, **more: object) -> torch.Tensor:
    return OPS.dequant_gemm(x, w.codes, w.scale, w.zero, w.format, w_scale2=w.scale2, w_table=w.table, **more)


def check(x: torch.Tensor, w: Operand, bias: torch.Tensor | None = None, **more: object) -> torch.Tensor:
    got = run(x, w, bias=bias, **more)
    assert_near(got, gemm.dense(x.double().numpy()), w.matrix, None if bias is None else bias.double().numpy())
    return got


@pytest.mark.parametrize("element", ELEMENTS)
def test_every_element_format(isa, element):
    rng = np.random.default_rng(1)
    for (m, n, k), block in zip([(1, 5, 37), (3, 17, 130), (6, 33, 64)], ["row", "g16", "g40"], strict=True):
        w = operand(rng, f"{element}:{block}", n, k)
        for dtype in DTYPES:
            check(activations(rng, m, k, dtype=dtype), w)


@pytest.mark.parametrize("name", [*NAMED, "uint2:g16/uint4:g16", "int4:g32/float8_e4m3fn:tensor", "int3:g8/uint6",
                                  "uint4:g16/nf4:b2x4"])  # fmt: skip
def test_coded_scales(isa, name):
    rng = np.random.default_rng(2)
    for m, n, k, dtype in [(1, 3, 16, torch.bfloat16), (4, 18, 100, torch.float32), (2, 7, 513, torch.float16)]:
        check(activations(rng, m, k, dtype=dtype), operand(rng, name, n, k))


@pytest.mark.parametrize("zero", [None, "int", "float"])
@pytest.mark.parametrize("block", BLOCKS)
def test_blocks_and_zero_points(isa, block, zero):
    rng = np.random.default_rng(3)
    for m, n, k in [(1, 1, 1), (5, 9, 50), (2, 40, 97)]:
        for element in ("uint4", "int3", "float6_e2m3fn"):
            check(activations(rng, m, k), operand(rng, f"{element}:{block}", n, k, zero=zero))


@pytest.mark.parametrize("zero", [None, "float"])
def test_without_scales(isa, zero):
    rng = np.random.default_rng(4)
    check(activations(rng, 3, 70), operand(rng, "ternary:g32", 6, 70, scaled=False, zero=zero))


@pytest.mark.parametrize("layout", ["plain", "tile16", "mma64"])
@pytest.mark.parametrize("element", ["int1", "int3", "uint8", "ternary", "nf4", "table4", "float4_e2m1fn",
                                     "float8_e4m3fn", "float6_e3m2fn", "float7_e3m3fn"])  # fmt: skip
def test_every_layout_gives_the_same(isa, element, layout):
    for n, k in [(1, 1), (21, 67), (16, 64)]:
        made = [
            operand(np.random.default_rng(5), f"{element}:g16", n, k, layout=choice) for choice in ("canonical", layout)
        ]
        x = activations(np.random.default_rng(6), 3, k)
        want, got = (check(x, w) for w in made)
        if layout == "plain" or _exact_order(isa):
            assert torch.equal(got, want)


def _exact_order(isa: str) -> bool:
    """Layouts may have kernels of their own, with sums in another order; the reference has one."""
    return isa == "ref"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_output_and_bias_dtypes(isa, dtype):
    rng = np.random.default_rng(7)
    w = operand(rng, "int4:g32", 6, 70)
    for bias_dtype in DTYPES:
        for x_dtype in DTYPES:
            x, bias = activations(rng, 3, 70, dtype=x_dtype), activations(rng, 6, dtype=bias_dtype)
            assert check(x, w, bias, out_dtype=dtype).dtype == dtype
            assert run(x, w).dtype == x_dtype


@pytest.mark.parametrize("layout", ["canonical", "plain", "tile16", "mma64"])
@pytest.mark.parametrize("element", ["uint2", "int2", "int4", "bipolar1"])
@pytest.mark.parametrize("high", [[0], [1, 2], [3], [0, 3], [0, 1, 2, 3], []], ids=str)
def test_groups_of_two_widths(isa, element, high, layout):
    rng = np.random.default_rng(8)
    for k in (64, 57):
        w, more = mixed(rng, element, 5, k, 16, high, layout)
        check(activations(rng, 3, k), w, **more)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_outliers(isa, dtype):
    rng = np.random.default_rng(9)
    for n, k, count in [(4, 40, 0), (5, 33, 11), (7, 129, 300)]:
        w, more = with_outliers(rng, operand(rng, "int3:g16", n, k, zero="int"), count, dtype)
        x = activations(rng, 4, k, dtype=torch.bfloat16)
        bias = activations(rng, n)
        check(x, w, bias, **more)
        check_gradient(activations(rng, 2, n), w, **more)


def test_widths_and_outliers_together(isa):
    rng = np.random.default_rng(10)
    w, more = mixed(rng, "uint2", 9, 96, 16, [1, 4], "canonical")
    w, outliers = with_outliers(rng, w, 20, torch.float16)
    check(activations(rng, 4, 96), w, **more, **outliers)
    check_gradient(activations(rng, 4, 9), w, **more, **outliers)


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("block", ["tensor", "row", "g16"])
def test_complex_weights(isa, block, pair):
    rng = np.random.default_rng(11)
    for m, n, k in [(1, 1, 1), (3, 5, 40), (2, 17, 64)]:
        w = complex_operand(rng, block, n, k, pair=pair)
        check(activations(rng, m, 2 * k), w, activations(rng, 2 * n))
        check_gradient(activations(rng, m, 2 * n), w)


def check_gradient(dy: torch.Tensor, w: Operand, **more: object) -> None:
    """dX = dY W: the same bound with the roles of N and K exchanged. fl(scale * fl(value - zero)) and the outlier of an
    element round within the 6 operations to spare."""
    columns = w.matrix.values.shape[1]
    got = OPS.dequant_gemm_input_grad(
        dy, w.codes, w.scale, w.zero, w.format, columns // 2 if w.format.startswith("complex") else columns,
        w_scale2=w.scale2, w_table=w.table, **more,
    )  # fmt: skip
    assert got.dtype == dy.dtype
    m = w.matrix
    transposed = gemm.Matrix(
        m.values.T, None, None if m.scale is None else m.scale.T, None if m.zero is None else m.zero.T,
        outliers=[(col, row, value) for row, col, value in m.outliers],
    )  # fmt: skip
    assert_near(got, gemm.dense(dy.double().numpy()), transposed)


@pytest.mark.parametrize("name", ["int4:g32", "uint3:tensor", "nvfp4", "mxfp8_e4m3", "nf4:g64", "table2", "uint4:b8x24",
                                  "uint2:g16/uint4:g16", "float5_e2m2fn"])  # fmt: skip
@pytest.mark.parametrize("zero", [None, "int", "float"])
def test_gradient(isa, name, zero):
    rng = np.random.default_rng(12)
    for m, n, k, dtype in [(1, 1, 1, torch.bfloat16), (3, 17, 130, torch.float16), (35, 5, 520, torch.float32)]:
        check_gradient(activations(rng, m, n, dtype=dtype), operand(rng, name, n, k, zero=zero))


def test_batch_position_and_size_do_not_change_a_row(isa):
    rng = np.random.default_rng(13)
    for dtype in DTYPES:
        w = operand(rng, "int4:g32", 40, 200)
        x = activations(rng, 70, 200, dtype=dtype)
        whole = run(x, w)
        for row in (0, 1, 37, 69):
            assert torch.equal(run(x[row : row + 1], w)[0], whole[row])
        assert torch.equal(run(x[3:20], w), whole[3:20])
        assert torch.equal(run(x, w), whole)


def test_infinities_and_nan_stay_in_their_row_and_column(isa):
    rng = np.random.default_rng(14)
    w = operand(rng, "int4:g32", 8, 70)
    x = activations(rng, 3, 70)
    x[1, 69] = torch.inf
    w.scale[5, 0] = torch.nan
    got = run(x, w)
    finite = torch.isfinite(got)
    nonzero = w.matrix.values[:, 69] != 0
    for column in range(8):
        assert finite[0, column] == finite[2, column] == (column != 5)
        assert not finite[1, column]
        if column != 5:
            assert torch.isinf(got[1, column]) == bool(nonzero[column])
