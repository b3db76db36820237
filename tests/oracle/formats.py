"""Element formats in float64 NumPy, from the published definitions alone: OCP OFP8 and OCP MX v1.0 for the floats,
QLoRA (Dettmers et al. 2023) for NF4, iFairy (Wang et al. 2025) for {+-1, +-i}. Nothing is read from the library: what
is not a general rule stands in the tables here."""

import re
from dataclasses import dataclass

import numpy as np

INTEGERS = [f"{kind}{bits}" for kind in ("int", "uint", "bipolar") for bits in range(1, 9)]
MINIFLOATS = (
    [f"float{b}_e{e}m{b - 1 - e}fn" for b in range(3, 8) for e in range(1, b)]
    + [f"float8_e{e}m{7 - e}fn" for e in (1, 2, 4, 6, 7)]
    + ["float8_e3m4", "float8_e5m2", "float8_e8m0fnu"]
)
CODEBOOKS = [f"table{bits}" for bits in range(1, 9)]
NAMES = [*INTEGERS, "ternary", "complex2", *MINIFLOATS, "nf4", *CODEBOOKS]

# QLoRA, appendix E
NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip


@dataclass(frozen=True)
class Minifloat:
    bits: int
    exponent: int
    mantissa: int
    signed: bool
    specials: str  # "finite", "nan" (all-ones magnitude), "ieee", "power" (exponent only, all ones is NaN)

    @property
    def bias(self) -> int:
        return 2 ** (self.exponent - 1) - 1

    def magnitude(self, code: int) -> float:
        """The value of the bits below the sign."""
        exponent, mantissa = code >> self.mantissa, code & (2**self.mantissa - 1)
        ones = 2 ** (self.exponent + self.mantissa) - 1
        if self.specials == "power":
            return float("nan") if code == ones else 2.0 ** (code - self.bias)
        if self.specials == "nan" and code == ones:
            return float("nan")
        if self.specials == "ieee" and exponent == 2**self.exponent - 1:
            return float("nan") if mantissa else float("inf")
        if exponent == 0:
            return mantissa * 2.0 ** (1 - self.bias - self.mantissa)
        return (1 + mantissa / 2**self.mantissa) * 2.0 ** (exponent - self.bias)


def minifloat(name: str) -> Minifloat:
    bits, exponent, mantissa, suffix = re.fullmatch(r"float(\d)_e(\d)m(\d)(fnu|fn|)", name).groups()
    if suffix == "fnu":
        return Minifloat(int(bits), int(exponent), int(mantissa), False, "power")
    # OCP OFP8: E4M3 gives its all-ones magnitude to NaN; the other finite formats have no special value
    specials = "ieee" if suffix == "" else "nan" if name == "float8_e4m3fn" else "finite"
    return Minifloat(int(bits), int(exponent), int(mantissa), True, specials)


def bits_of(name: str) -> int:
    if name in ("ternary", "complex2"):
        return 2
    return 4 if name == "nf4" else int(re.match(r"[a-z]+(\d)", name).group(1))


def is_code(name: str, code: int) -> bool:
    return code < 2 ** bits_of(name) and not (name == "ternary" and code == 2)


def values(name: str) -> np.ndarray:
    """The value of every code, float64 (complex128 for complex2)."""
    codes = np.arange(2 ** bits_of(name))
    half = len(codes) // 2
    if name == "complex2":
        return np.array([1, 1j, -1, -1j])
    if name == "nf4":
        return np.array(NF4)
    if name.startswith("float"):
        f = minifloat(name)
        if not f.signed:
            return np.array([f.magnitude(int(c)) for c in codes])
        return np.array([-f.magnitude(int(c) - half) if c >= half else f.magnitude(int(c)) for c in codes])
    if name.startswith("uint"):
        return codes.astype(float)
    if name.startswith("bipolar"):  # the sum of +-2^i over the bits
        weights = 2 ** np.arange(bits_of(name))
        return ((2 * (codes[:, None] // weights % 2) - 1) * weights).sum(1).astype(float)
    return np.where(codes >= half, codes - len(codes), codes).astype(float)


def nearest(x: np.ndarray, ascending: np.ndarray, codes: np.ndarray, ties: str) -> np.ndarray:
    """The code whose value is nearest to x; ascending values, midpoints exact in float64. Ties go to the even code or
    down; beyond the ends is the end."""
    middle = (ascending[:-1] + ascending[1:]) / 2
    below = np.searchsorted(middle, x, side="left")  # x <= middle[i]: below is i
    result = codes[below]
    if ties == "even":
        tie = (below < len(middle)) & (middle[np.minimum(below, len(middle) - 1)] == x)
        upper = codes[np.minimum(below + 1, len(codes) - 1)]
        result = np.where(tie & (result % 2 == 1), upper, result)
    return result


def encode(name: str, x: np.ndarray, table: np.ndarray | None = None) -> np.ndarray:
    """Nearest, ties to the even code (tables: down); finite overflow saturates, infinity stays where the format has
    it; NaN is the all-ones magnitude where the format has NaN, else what zero is."""
    with np.errstate(invalid="ignore"):  # signalling NaNs
        x = np.asarray(x, np.float64)
    if name.startswith("float"):
        return encode_minifloat(minifloat(name), x)
    x = np.where(np.isnan(x), 0.0, x)
    if name == "nf4" or name.startswith("table"):
        ascending = np.array(NF4) if name == "nf4" else np.asarray(table, np.float64)
        return nearest(x, ascending, np.arange(len(ascending)), "down").astype(np.uint8)
    every = values(name)
    codes = np.array([c for c in range(len(every)) if is_code(name, c)])
    codes = codes[np.argsort(every[codes])]
    return nearest(x, every[codes], codes, "even").astype(np.uint8)


def encode_minifloat(f: Minifloat, x: np.ndarray) -> np.ndarray:
    count = 2 ** (f.exponent + f.mantissa)
    magnitudes = np.array([f.magnitude(c) for c in range(count)])
    finite = np.flatnonzero(np.isfinite(magnitudes))
    negative = np.signbit(x)
    code = nearest(np.abs(x), magnitudes[finite], finite, "even")
    if f.specials == "ieee":
        code = np.where(np.isinf(x), np.flatnonzero(np.isinf(magnitudes))[0], code)
    # without a sign negative values are NaN, and both zeros go to the least value
    code = np.where(negative, code + count, code) if f.signed else np.where(x < 0, count - 1, code)
    if f.specials == "finite":
        return np.where(np.isnan(x), 0, code).astype(np.uint8)
    return np.where(np.isnan(x), count - 1, code).astype(np.uint8)


def phase_class(z: complex) -> int:
    """The code of complex2 by the angle itself."""
    turn = np.angle(z) / (np.pi / 4)
    if z == 0 or -1 <= turn < 1:
        return 0
    return 2 if abs(turn) >= 3 else (1 if turn > 0 else 3)
