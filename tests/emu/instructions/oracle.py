"""What PTX says a result is, computed apart from the emulator: integers as Python's, real numbers as fractions that are
rounded once. Values of floating types are Python floats, which hold f64 and everything narrower."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

NAN = math.nan


@dataclass(frozen=True)
class Format:
    exponent: int
    mantissa: int
    bias: int
    nan: int | None
    largest: int
    infinity: int | None

    @property
    def bits(self) -> int:
        return 1 + self.exponent + self.mantissa


FORMATS = {
    "f16": Format(5, 10, 15, 0x7FFF, 0x7BFF, 0x7C00),
    "bf16": Format(8, 7, 127, 0x7FFF, 0x7F7F, 0x7F80),
    "tf32": Format(8, 10, 127, 0x3FFFF, 0x3FBFF, 0x3FC00),
    "f32": Format(8, 23, 127, 0x7FFFFFFF, 0x7F7FFFFF, 0x7F800000),
    "f64": Format(11, 52, 1023, 0x7FFFFFFFFFFFFFFF, 0x7FEFFFFFFFFFFFFF, 0x7FF0000000000000),
    "e4m3": Format(4, 3, 7, 0x7F, 0x7E, None),
    "e5m2": Format(5, 2, 15, 0x7F, 0x7B, 0x7C),
    "e3m2": Format(3, 2, 3, None, 0x1F, None),
    "e2m3": Format(2, 3, 1, None, 0x1F, None),
    "e2m1": Format(2, 1, 1, None, 0x07, None),
}


def decode(kind: str, bits: int) -> float:
    """The value of a code."""
    f = FORMATS[kind]
    magnitude = bits & ((1 << (f.bits - 1)) - 1)
    sign = -1.0 if bits >> (f.bits - 1) & 1 else 1.0
    if f.infinity is not None and magnitude >= f.infinity:
        return math.copysign(math.inf if magnitude == f.infinity else NAN, sign)
    if f.infinity is None and magnitude == f.nan:
        return NAN
    field, fraction = magnitude >> f.mantissa, magnitude & ((1 << f.mantissa) - 1)
    if field == 0:
        return sign * math.ldexp(fraction, 1 - f.bias - f.mantissa)
    return sign * math.ldexp(fraction + (1 << f.mantissa), field - f.bias - f.mantissa)


def is_negative(value: float | Fraction) -> bool:
    return math.copysign(1.0, value) < 0 if isinstance(value, float) else value < 0


def integral(value: Fraction, mode: str) -> int:
    """To a whole number: rn to even, rz, rm, rp, rna away from zero."""
    floor = value.numerator // value.denominator
    rest = value - floor
    if mode == "rm" or rest == 0:
        return floor
    if mode == "rp":
        return floor + 1
    if mode == "rz":
        return floor if value > 0 else floor + 1
    if rest != Fraction(1, 2):
        return floor + (rest > Fraction(1, 2))
    if mode == "rna":
        return floor + (value > 0)
    return floor + (floor & 1)


def encode(kind: str, value: float | Fraction, mode: str = "rn", *, satfinite: bool = False) -> int:
    """The code of a value, rounded once. NaN gives the canonical one, or the largest value where there is none."""
    f = FORMATS[kind]
    if isinstance(value, float):
        if math.isnan(value):
            return f.largest if f.nan is None else f.nan
        sign = int(is_negative(value)) << (f.bits - 1)
        if math.isinf(value):
            return sign | (f.largest if satfinite or f.infinity is None else f.infinity)
        if value == 0:
            return sign
        value = Fraction(value)
    sign = int(value < 0) << (f.bits - 1)
    if value == 0:
        return 0
    magnitude = abs(value)
    scale = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** scale > magnitude:
        scale -= 1
    scale = max(scale, 1 - f.bias)
    unit = Fraction(2) ** (scale - f.mantissa)
    whole = abs(integral(value / unit, mode))
    code = ((scale + f.bias - 1) << f.mantissa) + whole
    if code <= f.largest:
        return sign | code
    inward = mode == "rz" or (mode == "rm" and value > 0) or (mode == "rp" and value < 0)
    return sign | (f.largest if satfinite or inward or f.infinity is None else f.infinity)


def flush(kind: str, value: float) -> float:
    """A subnormal becomes a zero of its sign."""
    smallest = math.ldexp(1.0, 1 - FORMATS[kind].bias)
    return math.copysign(0.0, value) if abs(value) < smallest else value


def flush_code(kind: str, code: int) -> int:
    f = FORMATS[kind]
    exponent = ((1 << f.exponent) - 1) << f.mantissa
    return code if code & exponent else code & (1 << (f.bits - 1))


def add(a: float, b: float, mode: str = "rn") -> float | Fraction:
    if not (math.isfinite(a) and math.isfinite(b)):
        return a + b
    exact = Fraction(a) + Fraction(b)
    if exact != 0:
        return exact
    if is_negative(a) == is_negative(b):
        return a  # a zero; of numbers that cancel the signs differ
    return -0.0 if mode == "rm" else 0.0


def mul(a: float, b: float) -> float | Fraction:
    if not (math.isfinite(a) and math.isfinite(b)) or a == 0 or b == 0:
        return a * b
    return Fraction(a) * Fraction(b)


def fma(a: float, b: float, c: float, mode: str = "rn") -> float | Fraction:
    product = mul(a, b)
    if isinstance(product, float) and not math.isfinite(product):
        return product + c
    if not math.isfinite(c):
        return c
    exact = Fraction(product) + Fraction(c)
    if exact != 0:
        return exact
    if is_negative(product) == is_negative(c):
        return -0.0 if is_negative(c) else 0.0
    return -0.0 if mode == "rm" else 0.0


def div(a: float, b: float) -> float | Fraction:
    if math.isnan(a) or math.isnan(b):
        return NAN
    sign = -1.0 if is_negative(a) != is_negative(b) else 1.0
    if math.isinf(a) or b == 0:
        return NAN if math.isinf(b) or a == 0 else sign * math.inf
    if math.isinf(b) or a == 0:
        return sign * 0.0
    return Fraction(a) / Fraction(b)


def sqrt(value: float, kind: str, mode: str) -> float | Fraction:
    """A number that rounds as the root does: its first bits and a sticky one."""
    if math.isnan(value) or value < 0:
        return NAN
    if value == 0 or math.isinf(value):
        return value
    digits = 2 * (FORMATS[kind].mantissa + 80)
    exact = Fraction(value)
    shift = digits - (exact.numerator.bit_length() - exact.denominator.bit_length())
    shift += shift & 1
    scaled = exact * Fraction(2) ** shift
    root = math.isqrt(scaled.numerator // scaled.denominator)
    sticky = Fraction(root * root) != scaled
    return (Fraction(root) + (Fraction(1, 2) if sticky else 0)) / Fraction(2) ** (shift // 2)


def saturate(kind: str, code: int) -> int:
    """.sat: to [0, 1], a NaN to +0."""
    value = decode(kind, code)
    if math.isnan(value) or not value > 0:
        return 0
    return encode(kind, min(value, 1.0))


def clip(kind: str, code: int) -> int:
    """.relu: what is negative to +0, a NaN to the canonical one."""
    f = FORMATS[kind]
    value = decode(kind, code)
    if math.isnan(value):
        return code if f.nan is None else f.nan
    return 0 if code >> (f.bits - 1) else code


def to_integer(value: float, mode: str, bits: int, signed: bool, *, from_f64: bool = False) -> int:
    """cvt to an integer: clamped; NaN gives 0, or the highest bit alone where 64 bits are involved."""
    if math.isnan(value):
        return 1 << (bits - 1) if from_f64 or bits == 64 else 0
    least, most = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if math.isinf(value):
        return most if value > 0 else least
    return min(max(integral(Fraction(value), mode), least), most)
