"""How far the float paths of the tensor-core GEMM (csrc/cuda/gemm.h) may be from the exact product.

Every output is a chain of parts. A part is what one segment has within `unit` columns; it is summed by mma.sync alone,
in pieces of the K of one instruction, and joins y by one fma with its scale. So

    error  <=  sum over parts |scale| E(steps, magnitude of the part)  +  n u / (1 - n u) (sum of all magnitudes)

with E the bound of a chain of mma's under the model of numerics (csrc/emu/numerics/bound.h), and n the roundings of
fp32 on the way of one term: its own join and those of later parts, the scale of a segment and that of x, value - zero
point, every outlier, the bias.

Values that a 16-bit float does not hold enter as up to three whose sum they are (`terms`): each pair of terms is an mma
of its own, of which those of index 3 and more are left out. Smaller units nest in larger ones, and no part of them has
more steps than the part around it: with the largest unit for E and the smallest (a piece) for n, the bound holds for
whatever unit the kernel takes.

Block-scaled mma's multiply codes and the scales of their blocks alike: a factor then is a value with its block's scale,
and what is left of the scales, the tensor's, joins.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch
from compare import OVERFLOW
from emu.mma_bound import error_bound
from oracle import gemm
from oracle.gemm import Matrix

UNIT, FLOAT8_UNIT = 512, 128
LEAST_UNIT = 16  # columns: one instruction of 16-bit floats
MOST_TERMS = 3
U = 2.0**-24
OUT = {torch.float32: (2.0**-24, 2.0**-150), torch.bfloat16: (2.0**-8, 2.0**-134), torch.float16: (2.0**-11, 2.0**-25)}


def terms(values: np.ndarray) -> int:
    """bfloat16 numbers, each the leading 8 bits of what is left, whose sum is the value (tile/gemm_engine.cuh)."""
    rest, count = np.asarray(values, np.float32).copy(), 1
    while True:
        rest = rest - (rest.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        if not rest.any():
            return count
        count += 1


def factors(m: Matrix) -> np.ndarray:
    """fl(value - zero point): what is multiplied, before the scale."""
    if m.zero is None:
        return m.values.astype(np.float64)
    return (m.values.astype(np.float32) - m.zero.astype(np.float32)).astype(np.float64)


class Engine(NamedTuple):
    """What multiplies: the operand type and K of the mma, pairs of terms, the unit, what is left out of a product, and
    the least normal number where the exponents of subnormal ones matter."""

    operand: str
    k: int = 16
    pairs: int = 1
    unit: int = UNIT
    left_out: float = 0.0
    least: float = 0.0


# what a 4-bit sum is aligned to has the exponent of the scales: least normal numbers of 1
BLOCK_SCALED = {
    "mxfp8_e4m3": Engine("mxf8f6f4", 32, unit=FLOAT8_UNIT, least=2.0**-6),
    "mxfp8_e5m2": Engine("mxf8f6f4", 32, unit=FLOAT8_UNIT, least=2.0**-14),
    "mxfp6_e2m3": Engine("mxf8f6f4", 32, unit=FLOAT8_UNIT, least=1.0),
    "mxfp6_e3m2": Engine("mxf8f6f4", 32, unit=FLOAT8_UNIT, least=2.0**-2),
    "mxfp4": Engine("mxf4", 64, unit=FLOAT8_UNIT, least=1.0),
    "nvfp4": Engine("mxf4", 64, unit=FLOAT8_UNIT, least=1.0),
}


def block_scaled(x_format: str, w_format: str) -> Engine | None:
    """Of the pairs of formats that sm_120 multiplies with their scales."""
    pair = {f.split("@")[0] for f in (x_format, w_format)}
    if not pair <= BLOCK_SCALED.keys() or (len(pair) > 1 and not all(f.startswith("mxfp8") for f in pair)):
        return None
    return max((BLOCK_SCALED[f] for f in pair), key=lambda e: e.least)


def engine(x: Matrix, w: Matrix, x_dtype: torch.dtype | None, float8: bool) -> Engine:
    """`x_dtype`: of float activations. `float8`: codes of FP8, on an architecture that multiplies them as they are."""
    if float8:
        return Engine("f8", 32, unit=FLOAT8_UNIT, least=2.0**-6)
    a, b = factors(x), factors(w)
    with np.errstate(over="ignore"):
        exact = not (b.astype(np.float16).astype(np.float64) != b).any()
    if x_dtype == torch.float16 and exact and (w.zero is None or w.zero.dtype != np.float32):
        # zero points of 32 bits send integers to bfloat16 all the same: two terms of x
        return Engine("f16", pairs=1 if w.zero is None else 2 * terms(b), least=2.0**-14)
    counts = terms(a), terms(b)
    pairs = sum(i + j < MOST_TERMS for i in range(counts[0]) for j in range(counts[1]))
    # of terms below 2^-7 and 2^-15: twice 1 by 2, and 2 by 2
    return Engine("bf16", pairs=pairs, left_out=2.0**-21 + 2.0**-30 if sum(counts) > MOST_TERMS + 1 else 0.0)


@cache
def chain(arch: str, operand: str, model: str, k: int, steps: int) -> tuple[float, float, float]:
    """E(steps, M, nominal) = lost max(M, nominal) + rounded M + tiny: the formula is linear in both."""

    def at(magnitude: float, nominal: float) -> float:
        return error_bound(arch, operand, model, k=k, steps=steps, magnitude=magnitude, nominal=nominal)

    tiny = at(0.0, 0.0)
    lost = at(0.0, 1.0) - tiny
    return lost, at(1.0, 0.0) - tiny - lost, tiny


def nominal(x: np.ndarray, w: np.ndarray, least_x: np.ndarray, least_w: np.ndarray) -> np.ndarray:
    """[M, N]: the largest |x w| of a pair whose factors have no exponent below that of the least normal number."""
    out = np.zeros((len(x), len(w)))
    a, b = np.maximum(np.abs(x), least_x), np.maximum(np.abs(w), least_w)
    for column in range(x.shape[1]):
        np.maximum(out, a[:, column, None] * b[:, column], out=out)
    return out


def bound(
    x: Matrix,
    w: Matrix,
    bias: np.ndarray | None = None,
    *,
    arch: str,
    model: str,
    out: torch.dtype,
    x_dtype: torch.dtype | None = None,
    float8: bool = False,
    blocks: Engine | None = None,
) -> np.ndarray:
    """[M, N], for results of dtype `out`. `blocks`: the engine, where it is block-scaled."""
    e = blocks or engine(x, w, x_dtype, float8)
    a, b = factors(x), factors(w)
    columns = a.shape[1]
    cuts = gemm.cuts_of(x, w)
    least_a, least_b = np.full_like(a, e.least), np.full_like(b, e.least)
    joined_x, joined_w = x.scale, w.scale
    if blocks is not None:
        cuts, joined_x, joined_w = [columns], None, None
        a, least_a = a * x.scale, least_a * np.abs(x.scale)
        b, least_b = b * w.scale, least_b * np.abs(w.scale)
    spread = (1 + 2.0**-7 + 2.0**-15) ** 2 if e.pairs > 1 else 1.0  # magnitudes of all pairs of terms over the product
    size, error = np.zeros((len(a), len(b))), np.zeros((len(a), len(b)))
    start = 0
    for end in sorted({*cuts, *range(e.unit, columns, e.unit)}):
        part = slice(start, end)
        lost, rounded, tiny = chain(arch, e.operand, model, e.k, -(-(end - start) // e.k) * e.pairs)
        total = np.abs(a[:, part]) @ np.abs(b[:, part]).T
        widest = total * spread
        if e.least > 0:
            widest = np.maximum(widest, nominal(a[:, part], b[:, part], least_a[:, part], least_b[:, part]))
        scale = np.ones_like(total)
        if joined_x is not None:
            scale *= np.abs(joined_x[:, start, None].astype(np.float64))
        if joined_w is not None:
            scale *= np.abs(joined_w[None, :, start].astype(np.float64))
        error += scale * (lost * widest + rounded * total * spread + tiny + e.left_out * total)
        size += scale * total
        start = end
    whole_x = np.abs(gemm.real(x))
    for row, col, value in w.outliers:
        size[:, row] += whole_x[:, col] * abs(value)
    if bias is not None:
        size += np.abs(bias)
    joins = len(cuts) + -(-columns // LEAST_UNIT)
    n = (joins + len(w.outliers) + 6) * U
    error += (size + error) * n / (1 - n)
    error += columns * 2.0**-126 * (1 + gemm.magnitude(x).max(initial=0) + gemm.magnitude(w).max(initial=0))
    roundoff, step = OUT[out]
    return error + (np.abs(gemm.exact(x, w, bias)) + error) * roundoff + step


def assert_within(got: torch.Tensor, want: np.ndarray, allowed: np.ndarray) -> None:
    assert got.shape == want.shape
    actual = got.double().numpy()
    most = OVERFLOW.get(got.dtype, np.inf)
    overflow = np.isinf(actual) & (np.sign(actual) == np.sign(want)) & (np.abs(want) + allowed >= most)
    error = np.where(overflow, 0.0, np.abs(np.where(overflow, 0.0, actual) - want * ~overflow))
    assert (error <= allowed).all(), f"error {error.max()} beyond {allowed.flat[np.argmax(error - allowed)]}"


def assert_twice_is_refused(got: torch.Tensor, want: np.ndarray, allowed: np.ndarray) -> None:
    """`got` is within the bound, and no longer so where one element, any of some, is off by twice its bound."""
    assert_within(got, want, allowed)
    assert np.isfinite(allowed).all()
    elements = got.numel()
    for index in sorted({0, elements // 3, elements - 1}):
        wrong = got.double().numpy().copy()
        off = 2 * allowed.flat[index]
        wrong.flat[index] += off if wrong.flat[index] >= want.flat[index] else -off
        with pytest.raises(AssertionError, match="beyond"):
            assert_within(torch.from_numpy(wrong), want, allowed)
