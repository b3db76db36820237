"""What an mma must give, in Python integers: element formats, the exact sum, and the sum as tensor cores make it.

Independent of csrc/emu/numerics: the two tables are stated twice on purpose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

POSITIVE, NEGATIVE, NAN = "+inf", "-inf", "nan"
Value = Fraction | str


@dataclass(frozen=True)
class Format:
    exponent: int  # bits
    mantissa: int
    specials: str = "none"  # "ieee": top exponent is inf and NaN; "nan": all ones is NaN; "none"
    signed: bool = True
    shift: int = 0  # of the element within its container

    @property
    def bias(self) -> int:
        return max(2 ** (self.exponent - 1) - 1, 1)

    @property
    def bits(self) -> int:
        return self.exponent + self.mantissa + int(self.signed)

    @property
    def least(self) -> int:
        return 1 - self.bias

    def decode(self, code: int) -> Value:
        code >>= self.shift
        magnitude = code & ((1 << (self.exponent + self.mantissa)) - 1)
        negative = self.signed and bool(code >> (self.exponent + self.mantissa) & 1)
        e, m = magnitude >> self.mantissa, magnitude & ((1 << self.mantissa) - 1)
        if self.specials == "ieee" and e == (1 << self.exponent) - 1:
            return NAN if m else (NEGATIVE if negative else POSITIVE)
        if self.specials == "nan" and magnitude == (1 << (self.exponent + self.mantissa)) - 1:
            return NAN
        scale = Fraction(2) ** (max(e, 1) - self.bias - self.mantissa)
        value = (m + (1 << self.mantissa if e else 0)) * scale
        return -value if negative else value

    def exponent_of(self, value: Fraction) -> int:
        return max(floor_log2(abs(value)), self.least)


F32 = Format(8, 23, "ieee")
F16 = Format(5, 10, "ieee")
FORMATS = {
    "f16": F16,
    "bf16": Format(8, 7, "ieee"),
    "tf32": Format(8, 10, "ieee", shift=13),
    "e4m3": Format(4, 3, "nan"),
    "e5m2": Format(5, 2, "ieee"),
    "e3m2": Format(3, 2),
    "e2m3": Format(2, 3),
    "e2m1": Format(2, 1),
    "e2m1_padded": Format(2, 1, shift=2),
    "ue4m3": Format(4, 3, "nan", signed=False),
}


def decode_ue8m0(code: int) -> Value:
    return NAN if code == 255 else Fraction(2) ** (code - 127)


def floor_log2(x: Fraction) -> int:
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def encode(value: Value, form: Format, mode: str) -> int:
    """Bits of `value` in f32 or f16, mode "nearest" or "zero"; what exceeds the range is infinite under both."""
    sign = 1 << (form.exponent + form.mantissa)
    infinity = ((1 << form.exponent) - 1) << form.mantissa
    if value == NAN:
        return sign - 1
    if isinstance(value, str):
        return infinity | (sign if value == NEGATIVE else 0)
    if value == 0:
        return 0
    magnitude = abs(value)
    e = max(floor_log2(magnitude), form.least)
    scaled = magnitude / Fraction(2) ** (e - form.mantissa)
    n = math.floor(scaled)
    if mode == "nearest" and (scaled - n > Fraction(1, 2) or (scaled - n == Fraction(1, 2) and n % 2)):
        n += 1
    # n may have grown to the next power of two: the addition carries into the exponent
    bits = ((e - form.least) << form.mantissa) + n
    return min(bits, infinity) | (sign if value < 0 else 0)


def special_sum(terms: list[Value]) -> str | None:
    """Infinite and NaN terms as IEEE addition treats them; None if all are finite."""
    found = {t for t in terms if isinstance(t, str)}
    if not found:
        return None
    return NAN if NAN in found or len(found) == 2 else found.pop()


def multiply(a: Value, b: Value) -> Value:
    if not isinstance(a, str) and not isinstance(b, str):
        return a * b
    if NAN in (a, b) or a == 0 or b == 0:
        return NAN
    negative = (a == NEGATIVE or (not isinstance(a, str) and a < 0)) != (
        b == NEGATIVE or (not isinstance(b, str) and b < 0)
    )
    return NEGATIVE if negative else POSITIVE


def exact(a: list[Value], b: list[Value], c: Value, accumulator: Format) -> int:
    terms = [*(multiply(x, y) for x, y in zip(a, b, strict=True)), c]
    special = special_sum(terms)
    return encode(special if special is not None else sum(terms, Fraction(0)), accumulator, "nearest")


# (architecture, operand): terms of a block, fraction bits, stored fraction bits of an f32 result, exponent of a zero
# beside an f32 and beside an f16 accumulator
MODELS = {
    ("80", "f16"): (8, 24, 23, -132, -20),
    ("80", "bf16"): (8, 24, 23, -132, -20),
    ("80", "tf32"): (4, 24, 23, -132, -20),
    ("86", "f16"): (8, 24, 23, -132, -20),
    ("89", "bf16"): (8, 24, 23, -132, -20),
    ("89", "f8"): (16, 13, 13, -132, -20),
    ("90", "f16"): (16, 25, 23, -133, -21),
    ("90", "tf32"): (8, 25, 23, -133, -21),
    ("90", "f8"): (0, 25, 23, -133, -21),
    ("120", "f16"): (16, 25, 23, -133, -21),
    ("120", "tf32"): (8, 25, 23, -133, -21),
    ("120", "f8"): (32, 25, 23, -133, -21),
    ("120", "f8f6f4"): (32, 25, 23, -133, -21),
    ("120", "mxf8f6f4"): (32, 25, 23, -133, -21),
    ("120", "mxf4"): (64, 35, 23, -139, -21),
}


def truncated(value: Fraction, grid: int) -> Fraction:
    """Toward zero to a multiple of 2^grid."""
    unit = Fraction(2) ** grid
    return math.trunc(value / unit) * unit


Term = tuple[Fraction, int | None]  # its value, and its exponent unless it is zero


def aligned(terms: list[Term], fraction: int, zero: int) -> Fraction:
    grid = max(zero if e is None else e for _, e in terms) - fraction
    return sum((truncated(v, grid) for v, _ in terms), Fraction(0))


def hardware(
    a: list[Value], b: list[Value], c: Value, accumulator: Format, model: tuple[int, ...], least: tuple[int, int],
    scale_a: list[Value] | None = None, scale_b: list[Value] | None = None, group: int = 1, through_half: bool = False,
) -> int:  # fmt: skip
    """`a` and `b` without their scales; `least`: the smallest exponent a factor is taken to have."""
    k = len(a)
    scaled_a = [multiply(x, scale_a[i * len(scale_a) // k]) for i, x in enumerate(a)] if scale_a else a
    scaled_b = [multiply(x, scale_b[i * len(scale_b) // k]) for i, x in enumerate(b)] if scale_b else b
    special = special_sum([*(multiply(x, y) for x, y in zip(scaled_a, scaled_b, strict=True)), c])
    if special is not None:
        return encode(special, accumulator, "nearest")
    terms, fraction, stored = model[:3]
    zero = model[4] if accumulator is F16 else model[3]
    mode = "nearest" if accumulator is F16 else "zero"

    def rounded(value: Fraction) -> Value:
        bits = encode(value, accumulator, mode)
        if accumulator is F32:
            bits &= -(1 << (23 - stored))
        return accumulator.decode(bits)

    def term(i: int) -> Term:
        x, y = a[i], b[i]
        if scaled_a[i] * scaled_b[i] == 0:
            return Fraction(0), None
        e = max(floor_log2(abs(x)), least[0]) + max(floor_log2(abs(y)), least[1])
        if scale_a and scale_b:
            at = i * len(scale_a) // k
            e += floor_log2(scale_a[at]) + floor_log2(scale_b[at])
        return scaled_a[i] * scaled_b[i], e

    def of_accumulator(value: Fraction) -> Term:
        return value, accumulator.exponent_of(value) if value else None

    if group > 1:
        parts = []
        for start in range(0, k, group):
            at = start * len(scale_a) // k
            products = [scaled_a[i] * scaled_b[i] for i in range(start, start + group)]
            e = None
            if any(products):  # a sum of zero has an exponent all the same
                e = max(floor_log2(scale_a[at]), least[0]) + max(floor_log2(scale_b[at]), least[1])
            parts.append((sum(products, Fraction(0)), e))
        return encode(rounded(aligned([*parts, of_accumulator(c)], fraction, zero)), accumulator, mode)
    if through_half:
        blocks = [[i for i in range(k) if i % 4 < 2], [i for i in range(k) if i % 4 >= 2]]
        value: Value = Fraction(0)
    else:
        blocks = [list(range(s, min(s + terms, k))) for s in range(0, k, terms)]
        value = c
    for block in blocks:
        if not isinstance(value, str):
            value = rounded(aligned([*(term(i) for i in block), of_accumulator(value)], fraction, zero))
    if through_half:
        total = special_sum([value, c])
        return encode(total if total is not None else value + c, accumulator, "nearest")
    return encode(value, accumulator, mode)


def words_of(codes: np.ndarray, cells: np.ndarray, parts: int, bits: int) -> np.ndarray:
    """Registers [case][register][lane] of matrices [case][row][col]; cells[lane][value] = (row, col)."""
    values = codes[:, cells[..., 0], cells[..., 1]].astype(np.uint64)
    cases, lanes, count = values.shape
    values = values.reshape(cases, lanes, count // parts, parts)
    shifts = np.arange(parts, dtype=np.uint64) * np.uint64(bits)
    return (values << shifts).sum(-1, dtype=np.uint64).transpose(0, 2, 1)


def matrix_of(words: np.ndarray, cells: np.ndarray, parts: int, bits: int, shape: tuple[int, int]) -> np.ndarray:
    """The inverse of words_of."""
    out = np.zeros((len(words), *shape), np.uint64)
    mask = np.uint64(2**bits - 1)
    for lane in range(32):
        for value in range(cells.shape[1]):
            word = words[:, value // parts, lane].astype(np.uint64)
            out[:, cells[lane, value, 0], cells[lane, value, 1]] = word >> np.uint64(value % parts * bits) & mask
    return out


def fractions(codes: np.ndarray, form: Format) -> Any:
    decoded = {int(c): form.decode(int(c)) for c in np.unique(codes)}
    return np.vectorize(lambda c: decoded[int(c)], otypes=[object])(codes)
