"""Scales that are powers of two, of every size: whether an ISA multiplies them into its operands or into its sums, the
bits are those of the oracle and do not depend on the rows beside a row."""

from dataclasses import replace

import lowbit  # noqa: F401
import lowbit._C as _C
import numpy as np
import pytest
import torch
from numpy.random import Generator, default_rng
from operands import NAMED, Operand, expand, operand
from oracle import gemm

OPS = torch.ops.lowbit
# of what values of a format are multiples, and below which power of two they are
POWERS = {"mxfp4": (-1, 3), "mxint8": (0, 8), "mxfp6_e2m3": (-3, 3), "mxfp8_e4m3": (-9, 9), "mxfp8_e5m2": (-16, 16)}
INTEGERS = ("mxfp4", "mxint8", "mxfp6_e2m3")
ROWS = (1, 3, 16, 17, 64, 129)


def with_scales(o: Operand, format: str, scale: np.ndarray) -> Operand:
    _, block, _, _, unit = NAMED[format]
    # the unit is a product of its own, rounded where it is below the normal numbers
    values = np.ldexp(1.0, np.minimum(scale.astype(int), 254) - 127).astype(np.float32) * np.float32(unit)
    values[scale == 255] = np.nan
    rows, k = o.matrix.values.shape
    matrix = replace(o.matrix, scale=expand(values, (1, block), rows, k))
    return replace(o, scale=torch.from_numpy(scale.astype(np.uint8)), matrix=matrix)


def scaled_operand(rng: Generator, format: str, rows: int, k: int, exponents: list[int], layout: str) -> Operand:
    """With exponents of its scales drawn from `exponents`."""
    o = operand(rng, format, rows, k, layout=layout)
    return with_scales(o, format, rng.choice(np.array(exponents) + 127, o.scale.shape))


def multiply(x: Operand, w: Operand, k: int, rows: slice = slice(None)) -> torch.Tensor:
    return OPS.scaled_gemm(x.codes[rows], x.scale[rows], x.format, w.codes, w.scale, w.format, k)


def assert_same(got: torch.Tensor, want: torch.Tensor) -> None:
    """To the last bit, but for the bits of NaN."""
    assert torch.equal(got.isnan(), want.isnan())
    assert torch.equal(got.nan_to_num().view(torch.int32), want.nan_to_num().view(torch.int32))


def assert_oracle(x: Operand, w: Operand, k: int) -> None:
    with np.errstate(all="ignore"):
        want = torch.from_numpy(gemm.integer_path(x.matrix, w.matrix))
    assert_same(multiply(x, w, k), want)


def borders(x: str, w: str) -> dict[str, tuple[list[int], list[int]]]:
    """Exponents of x and of w whose least, or greatest, pair is the last that operands in bf16 take, or the next."""
    (low_x, high_x), (low_w, high_w) = POWERS[x], POWERS[w]
    unit_x, unit_w = (int(np.log2(NAMED[f][4])) for f in (x, w))
    least, most = -126 - low_x - low_w - unit_x - unit_w, 127 - 5 - high_x - high_w - unit_x - unit_w
    return {
        "least": ([-60, 0], [least + 60, 10]),
        "below": ([-60, 0], [least + 59, 10]),
        "least_x": ([-126 - low_x - unit_x, -100], [5, 20]),
        "below_x": ([-127, -100], [5, 20]),
        "least_w": ([60, 50], [-126 - low_w - unit_w, -100]),
        "below_w": ([60, 50], [-127, -100]),
        "most": ([50, 0], [most - 50, 10]),
        "above": ([50, 0], [most - 49, 10]),
        "most_w": ([-20, -10], [min(127, 127 - high_w - unit_w), 90]),
        "above_w": ([-20, -10], [127, 90]),
        "everything": ([-127, -124, -60, 0, 60, 100, 127], [-127, -124, -60, 0, 60, 100, 127]),
        "nan": ([128, 0, 1], [0, 1]),
        "nan_w": ([0, 1], [128, 0, 1]),
    }


CASES = list(borders("mxfp4", "mxfp4"))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pair", [("mxfp4", "mxfp4"), ("mxint8", "mxint8"), ("mxint8", "mxfp4")], ids="-".join)
def test_bits_are_those_of_the_oracle(isa, pair, case):
    rng = default_rng(3)
    n, k = 37, 331
    of_x, of_w = borders(*pair)[case]
    for m in ROWS:
        x = scaled_operand(rng, pair[0], m, k, of_x, "plain")
        w = scaled_operand(rng, pair[1], n, k, of_w, "tile16" if m % 2 else "canonical")
        assert_oracle(x, w, k)


@pytest.mark.parametrize("fits", ["least", "most", "least_w", "most_w", "below", "below_w", "above_w", "nan", "nan_w"])
def test_operands_of_tiles_hold_scales_that_fit(isa, fits):
    rng = default_rng(8)
    of_x, of_w = borders("mxfp4", "mxfp4")[fits]
    x = scaled_operand(rng, "mxfp4", 40, 320, of_x, "plain")
    w = scaled_operand(rng, "mxfp4", 48, 320, of_w, "tile16")
    multiply(x, w, 320)
    scaled = isa == "amx" and fits in ("least", "most", "least_w", "most_w")
    assert _C.last_kernel() == f"scaled_gemm:{isa}" + (":scaled" if scaled else "")


@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize("format", ["mxfp4", "mxint8"])
def test_the_least_product_is_kept(isa, format, step):
    """A row of w with one number, the least of its format: y is 2^-126, 2^-127 or 2^-128."""
    m, n, k = 20, 18, 64
    rng = default_rng(7)
    least = borders(format, format)["least"][1][0] - 60
    x = scaled_operand(rng, format, m, k, [-60], "plain")
    w = scaled_operand(rng, format, n, k, [least + 60 - step], "plain")
    for o in (x, w):
        o.codes[:] = 0
        o.codes[:, 40] = 1
        o.matrix.values[:] = 0.0
        o.matrix.values[:, 40] = 0.5 if format == "mxfp4" else 1.0
    assert (multiply(x, w, k).double() == 2.0 ** (-126 - step)).all()
    assert_oracle(x, w, k)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pair", [("mxfp8_e4m3", "mxfp8_e4m3"), ("mxfp8_e5m2", "mxfp4")], ids="-".join)
def test_rows_of_floats_do_not_depend_on_the_batch(isa, pair, case):
    rng = default_rng(4)
    n, k = 37, 331
    of_x, of_w = borders(*pair)[case]
    x = scaled_operand(rng, pair[0], 40, k, of_x, "plain")
    w = scaled_operand(rng, pair[1], n, k, of_w, "tile16")
    whole = multiply(x, w, k)
    for begin, end in [(0, 1), (3, 5), (7, 24), (8, 40)]:
        assert_same(multiply(x, w, k, slice(begin, end)), whole[begin:end])


@pytest.mark.parametrize("x_format", ["mxfp4", "mxfp8_e5m2"])
def test_a_scale_of_zeros_may_be_of_any_size(isa, x_format):
    """One block of w: all zeros under the least scale, or one number there; x has an infinity beside finite numbers."""
    rng = default_rng(5)
    m, n, k = 33, 20, 128
    x = scaled_operand(rng, x_format, m, k, [0, 1], "plain")
    if x_format == "mxfp8_e5m2":
        x.codes[3, 70] = 0x7C
    w = scaled_operand(rng, "mxfp4", n, k, [0, 1], "canonical")
    scale = w.scale.numpy().copy()
    scale[7, 2] = 0
    for value in (0, 5):
        w.codes[7, 32:48] = 0
        w.codes[7, 40] = value
        values = w.matrix.values.copy()
        values[7, 64:96] = 0.0
        values[7, 80] = {0: 0.0, 5: 3.0}[value]
        small = with_scales(replace(w, matrix=replace(w.matrix, values=values)), "mxfp4", scale)
        got = multiply(x, small, k)
        if x_format == "mxfp4":
            assert_oracle(x, small, k)
        assert_same(multiply(x, small, k, slice(3, 4)), got[3:4])
        assert_same(multiply(x, small, k, slice(9, 11)), got[9:11])


def test_zeros_under_infinite_products_of_scales(isa):
    """fl(2^100 * 2^100) is infinite, and fma(0, inf, y) is not a number, though the operands hold zeros."""
    rng = default_rng(8)
    m, n, k = 20, 18, 96
    x, w = scaled_operand(rng, "mxfp4", m, k, [100], "plain"), scaled_operand(rng, "mxfp4", n, k, [0], "canonical")
    scale = w.scale.numpy().copy()
    scale[7, 2] = 227
    w.codes[7, 32:48] = 0
    w.matrix.values[7, 64:96] = 0.0
    big = with_scales(w, "mxfp4", scale)
    assert multiply(x, big, k)[:, 7].isnan().all()
    assert_oracle(x, big, k)


@pytest.mark.parametrize("power", [-133, -126, -120, -100, -60, 0, 60, 100, 118])
def test_floats_beside_such_weights(isa, power):
    """Activations in bf16: bits of a row as of the row alone, whatever the size of either operand."""
    rng = default_rng(6)
    m, n, k = 40, 37, 331
    x = torch.from_numpy(rng.standard_normal((m, k)) * 2.0**power).to(torch.bfloat16)
    x[5, 100] = 0.0
    for exponents in ([-20, 0, 3], [-127, -70], [70, 100, 120], [0, 128]):
        w = scaled_operand(rng, "mxfp4", n, k, exponents, "tile16")

        def product(rows: slice, w: Operand = w) -> torch.Tensor:
            return OPS.dequant_gemm(x[rows], w.codes, w.scale, None, w.format, out_dtype=torch.float32)

        whole = product(slice(0, m))
        for begin, end in [(0, 1), (3, 5), (5, 6), (7, 24)]:
            assert_same(product(slice(begin, end)), whole[begin:end])
