"""The product of the GEMM families in NumPy: exact in float64, and the integer path bit for bit as csrc/ref/gemm_args.h
states it. Operands are expanded matrices: one scale and one zero point per element."""

from dataclasses import dataclass, field

import numpy as np

F32 = np.float32


@dataclass(frozen=True)
class Matrix:
    """scale * (values - zero), plus outliers. `cuts` are the columns at which a block or a matrix of codes ends."""

    values: np.ndarray  # [rows, K] float64, what the codes stand for
    shift: int | None = None  # values * 2**shift are integers; None: not exact in int8
    scale: np.ndarray | None = None  # [rows, K] float32
    zero: np.ndarray | None = None  # [rows, K] int64 or float32
    cuts: frozenset[int] = frozenset()
    scale_cuts: bool = False  # the scale has more than one block along K
    outliers: list[tuple[int, int, float]] = field(default_factory=list)

    @property
    def float_zero(self) -> bool:
        return self.zero is not None and self.zero.dtype == F32


def dense(x: np.ndarray) -> Matrix:
    return Matrix(np.asarray(x, np.float64))


def real(m: Matrix) -> np.ndarray:
    """The matrix itself, float64."""
    value = m.values if m.zero is None else m.values - m.zero.astype(np.float64)
    value = value if m.scale is None else value * m.scale.astype(np.float64)
    value = value.copy()
    for row, col, outlier in m.outliers:
        value[row, col] += outlier
    return value


def magnitude(m: Matrix) -> np.ndarray:
    """|scale| (|values| + |zero|) + |outliers|: what the terms of a kernel may amount to."""
    value = np.abs(m.values) if m.zero is None else np.abs(m.values) + np.abs(m.zero.astype(np.float64))
    value = value if m.scale is None else value * np.abs(m.scale.astype(np.float64))
    value = value.copy()
    for row, col, outlier in m.outliers:
        value[row, col] += abs(outlier)
    return value


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """float32 a * b + c with one rounding. The product is exact in float64; the sum is rounded to odd there (Boldo and
    Melquiond 2008), which 29 bits above float32 makes the second rounding the only one."""
    a, b, c = np.broadcast_arrays(*(np.asarray(v, F32).astype(np.float64) for v in (a, b, c)))
    p = a * b
    s = p + c
    t = s - p
    error = (p - (s - t)) + (c - t)  # TwoSum (Knuth)
    even = (s.view(np.int64) & 1) == 0
    toward = np.nextafter(s, np.where(error > 0, np.inf, -np.inf))
    return np.where((error != 0) & even, toward, s).astype(F32)


def cuts_of(x: Matrix, w: Matrix) -> list[int]:
    k = w.values.shape[1]
    return sorted({c for c in x.cuts | w.cuts if 0 < c < k} | {k})


def integers(m: Matrix) -> np.ndarray:
    return (m.values * 2.0**m.shift).astype(np.int64)


def integer_path(x: Matrix, w: Matrix, bias: np.ndarray | None = None) -> np.ndarray:
    """float32 [M, N], before the rounding to the output dtype."""
    cx, cw = integers(x), integers(w)
    if x.zero is not None:
        cx = cx - (x.zero.astype(np.int64) << x.shift)
    if w.zero is not None and not w.float_zero:
        cw = cw - (w.zero.astype(np.int64) << w.shift)
    ones_x, ones_w = np.ones_like(cx, F32), np.ones_like(cw, F32)
    sx = (ones_x if x.scale is None else x.scale) * F32(2.0**-x.shift)
    sw = (ones_w if w.scale is None else w.scale) * F32(2.0**-w.shift)
    y = np.zeros((len(cx), len(cw)), F32)
    start = 0
    for end in cuts_of(x, w):
        part = slice(start, end)
        s = np.broadcast_to(sw[None, :, start], y.shape)
        if x.scale_cuts:
            s = s * sx[:, start, None]
        y = fma((cx[:, part] @ cw[:, part].T).astype(F32), s, y)
        if w.float_zero:
            zero = w.zero[None, :, start] * F32(2.0**w.shift)
            y = fma(cx[:, part].sum(1)[:, None].astype(F32), -(s * zero), y)
        start = end
    if x.scale is not None and not x.scale_cuts:
        y = y * sx[:, 0, None]
    return y if bias is None else y + bias.astype(F32)


def raw_sum(x: Matrix, w: Matrix) -> np.ndarray:
    """int64 sum of (code - zero point) products."""
    cx, cw = integers(x), integers(w)
    cx = cx if x.zero is None else cx - x.zero.astype(np.int64)
    cw = cw if w.zero is None else cw - w.zero.astype(np.int64)
    return cx @ cw.T


def exact(x: Matrix, w: Matrix, bias: np.ndarray | None = None) -> np.ndarray:
    y = real(x) @ real(w).T
    return y if bias is None else y + bias


def bound(x: Matrix, w: Matrix, bias: np.ndarray | None, out: str) -> np.ndarray:
    """How far a float path may be from exact().

    With u = 2**-24 and gamma_n = n u / (1 - n u) (Higham 2002, section 3.1): a product of x and fl(value - zero) and
    its way through a sum of K terms in any order is at most K + 2 roundings, a segment's scale 1, its join and those of
    later segments 1 each, then the scale of x, an outlier each, the bias. So the fp32 result is within gamma_n of the
    sum of the magnitudes, n = K + segments + outliers + 6; a kernel that takes the zero point as a term of its own
    stays within, since magnitude() counts it apart. 2**-126 a term covers flushed subnormals. The output dtype then
    adds half a unit in its last place (subnormal outputs: half their step)."""
    k, terms = w.values.shape[1], len(cuts_of(x, w))
    n = (k + terms + len(w.outliers) + 6) * 2.0**-24
    size = magnitude(x) @ magnitude(w).T + (0 if bias is None else np.abs(bias))
    error = size * n / (1 - n) + k * 2.0**-126 * (1 + magnitude(x).max(initial=0) + magnitude(w).max(initial=0))
    roundoff, step = {
        "float32": (2.0**-24, 2.0**-150),
        "bfloat16": (2.0**-8, 2.0**-134),
        "float16": (2.0**-11, 2.0**-25),
    }[out]
    return error + (np.abs(exact(x, w, bias)) + error) * roundoff + step
