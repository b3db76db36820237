"""Rows of cvt and cvt.pack."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

from emu.instructions import oracle
from emu.instructions.row import BITS, Row

INTEGERS = ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64")
FLOATS = ("f16", "bf16", "f32", "f64")
INTEGRAL = {"rni": "rn", "rzi": "rz", "rmi": "rm", "rpi": "rp"}


def register(kind: str) -> str:
    """Values of 8 bits are in registers of 16, extended as their type is."""
    return f"b{max(BITS[kind], 16)}" if kind in INTEGERS else kind


def wrapped(v: int, kind: str) -> int:
    v &= (1 << BITS[kind]) - 1
    return v - (1 << BITS[kind]) if kind[0] == "s" and v >> (BITS[kind] - 1) else v


def clamped(v: int, kind: str) -> int:
    bits = BITS[kind]
    least, most = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if kind[0] == "s" else (0, (1 << bits) - 1)
    return min(max(v, least), most)


def includes(wide: str, narrow: str) -> bool:
    """Every value of `narrow` is one of `wide`: ptxas takes no .sat there."""
    if narrow[0] == "u":
        return BITS[wide] > BITS[narrow] or (wide[0] == "u" and BITS[wide] == BITS[narrow])
    return wide[0] == "s" and BITS[wide] >= BITS[narrow]


def sources(kind: str) -> str:
    return f"{kind}:turns" if kind in oracle.FORMATS else kind


def arch_of(*kinds: str) -> str:
    return "90" if "bf16" in kinds else "80"


def integer_rows() -> Iterator[Row]:
    for a in INTEGERS:
        for d in INTEGERS:
            if a == d:
                continue
            yield Row(f"cvt.{d}.{a}", a, register(d), lambda v, d=d: wrapped(v, d))
            if not includes(d, a):
                yield Row(f"cvt.sat.{d}.{a}", a, register(d), lambda v, d=d: clamped(v, d))
    for d in FLOATS:
        for a in INTEGERS:
            for mode in ("rn", "rz", "rm", "rp") if BITS[a] >= 32 and d in ("f32", "f64") else ("rn",):
                yield Row(
                    f"cvt.{mode}.{d}.{a}", a, d,
                    lambda v, d=d, mode=mode: oracle.encode(d, Fraction(v), mode), arch=arch_of(d),
                )  # fmt: skip
    for a in FLOATS:
        for d in INTEGERS:
            for name, mode in INTEGRAL.items():
                if name in ("rmi", "rpi") and BITS[d] != 32:
                    continue
                yield Row(
                    f"cvt.{name}.{d}.{a}", sources(a), "b8" if a == "bf16" and BITS[d] == 8 else register(d),
                    lambda v, d=d, mode=mode, a=a: oracle.to_integer(
                        v, mode, BITS[d], d[0] == "s", from_f64=a == "f64"
                    ),
                    arch=arch_of(a),
                )  # fmt: skip
    yield Row(
        "cvt.rzi.ftz.s32.f32", sources("f32"), "s32",
        lambda v: oracle.to_integer(oracle.flush("f32", v), "rz", 32, True),
    )  # fmt: skip
    yield Row(
        "cvt.rpi.ftz.s32.f32", sources("f32"), "s32",
        lambda v: oracle.to_integer(oracle.flush("f32", v), "rp", 32, True),
    )  # fmt: skip


def to_whole(kind: str, mode: str) -> Callable[[float], int]:
    def compute(v: float) -> int:
        if not math.isfinite(v):
            return oracle.encode(kind, v)
        whole = float(oracle.integral(Fraction(v), mode))
        return oracle.encode(kind, math.copysign(whole, v) if whole == 0 else whole)

    return compute


def clipped(kind: str, code: int, relu: bool) -> int:
    return oracle.clip(kind, code) if relu else code


def float_rows() -> Iterator[Row]:
    for d, a in (("f32", "f16"), ("f64", "f16"), ("f64", "f32"), ("f32", "bf16"), ("f64", "bf16")):
        yield Row(
            f"cvt.{d}.{a}",
            a,
            d,
            lambda v, d=d: oracle.encode(d, v),
            arch="90" if "bf16" in (d, a) and d == "f64" else "80",
        )
    narrowing = [
        ("f16", "f32"),
        ("f32", "f64"),
        ("f16", "f64"),
        ("bf16", "f32"),
        ("bf16", "f64"),
        ("bf16", "f16"),
        ("f16", "bf16"),
    ]
    for d, a in narrowing:
        for mode in ("rn", "rz", "rm", "rp"):
            simple = (d, a) == ("bf16", "f32") and mode in ("rn", "rz")
            yield Row(
                f"cvt.{mode}.{d}.{a}", sources(a), d, lambda v, d=d, mode=mode: oracle.encode(d, v, mode),
                arch="80" if simple else arch_of(d, a),
            )  # fmt: skip
    yield Row("cvt.ftz.f32.f16", "f16", "f32", lambda v: oracle.encode("f32", v))
    yield Row("cvt.rn.ftz.f16.f32", sources("f32"), "f16", lambda v: oracle.encode("f16", oracle.flush("f32", v)))
    yield Row("cvt.rn.ftz.f32.f64", sources("f64"), "f32", lambda v: oracle.flush_code("f32", oracle.encode("f32", v)))
    yield Row("cvt.ftz.f64.f32", "f32", "f64", lambda v: oracle.encode("f64", oracle.flush("f32", v)))
    for kind in FLOATS:
        for name, mode in INTEGRAL.items():
            yield Row(f"cvt.{name}.{kind}.{kind}", sources(kind), kind, to_whole(kind, mode), arch=arch_of(kind))
        if kind != "bf16":
            yield Row(
                f"cvt.sat.{kind}.{kind}", sources(kind), kind,
                lambda v, k=kind: oracle.saturate(k, oracle.encode(k, v)),
            )  # fmt: skip
    yield Row("cvt.rni.ftz.f32.f32", sources("f32"), "f32", lambda v: to_whole("f32", "rn")(oracle.flush("f32", v)))
    yield Row("cvt.sat.f32.f16", "f16", "f32", lambda v: oracle.saturate("f32", oracle.encode("f32", v)))
    yield Row("cvt.rn.sat.f16.f32", sources("f32"), "f16", lambda v: oracle.saturate("f16", oracle.encode("f16", v)))
    for kind in ("f16", "bf16"):
        for mode in ("rn", "rz"):
            for relu, sat in ((True, False), (False, True), (True, True)):
                modifiers = (".relu" if relu else "") + (".satfinite" if sat else "")
                yield Row(
                    f"cvt.{mode}{modifiers}.{kind}.f32", sources("f32"), kind,
                    lambda v, k=kind, m=mode, r=relu, s=sat: clipped(k, oracle.encode(k, v, m, satfinite=s), r),
                )  # fmt: skip
    for mode in ("rn", "rz", "rna"):
        yield Row(
            f"cvt.{mode}.tf32.f32", sources("f32"), "b32",
            lambda v, m=mode: oracle.encode("tf32", v, m) << 13, arch="80" if mode == "rna" else "90",
        )  # fmt: skip


def pair(kind: str, pitch: int, mode: str, relu: bool, sat: bool) -> Callable[[float, float], int]:
    def one(v: float) -> int:
        return clipped(kind, oracle.encode(kind, v, mode, satfinite=sat), relu)

    return lambda a, b: one(a) << pitch | one(b)


def of_half_pair(f: Callable[[float, float], int]) -> Callable[[int], int]:
    return lambda a: f(oracle.decode("f16", a >> 16), oracle.decode("f16", a & 0xFFFF))


def to_half_pair(kind: str, pitch: int, relu: bool) -> Callable[[int], int]:
    def one(code: int) -> int:
        mask = (1 << oracle.FORMATS[kind].bits) - 1
        return clipped("f16", oracle.encode("f16", oracle.decode(kind, code & mask)), relu)

    return lambda a: one(a >> pitch) << 16 | one(a)


def ue8m0(v: float, mode: str, sat: bool) -> int:
    """The exponent of |v|; up where .rp and v is no power of two."""
    if math.isnan(v):
        return 255
    if math.isinf(v):
        return 254 if sat else 255
    if v == 0:
        return 0
    fraction, exponent = math.frexp(abs(v))
    code = exponent - 1 + 127
    if code < 0:
        return 0
    code += mode == "rp" and fraction != 0.5
    return min(code, 254) if sat else min(code, 255)


def stochastic(kind: str, v: float, random_bits: int, width: int) -> int:
    """v moves outwards by less than one place of the result, then is cut."""
    f = oracle.FORMATS[kind]
    if not math.isfinite(v) or v == 0:
        return oracle.encode(kind, v, satfinite=True)
    scale = max(math.frexp(v)[1] - 1, 1 - f.bias)
    move = Fraction(2) ** (scale - f.mantissa) * Fraction(random_bits, 1 << width)
    exact = Fraction(v)
    moved = oracle.encode(kind, exact + (move if exact > 0 else -move), "rz", satfinite=True)
    return moved | (1 << (f.bits - 1) if exact < 0 else 0)


def stochastic_pair(kind: str, width: int) -> Callable[[float, float, int], int]:
    def one(v: float, r: int) -> int:
        return stochastic(kind, v, r & ((1 << width) - 1), width)

    return lambda a, b, r: one(a, r >> 16) << 16 | one(b, r)


def stochastic_four(kind: str, pitch: int) -> Callable[..., int]:
    def compute(a: float, b: float, e: float, f: float, r: int) -> int:
        if pitch == 4:
            high, low = (r >> 24 & 0xFF) << 8 | r >> 8 & 0xFF, (r >> 16 & 0xFF) << 8 | r & 0xFF
        else:
            high, low = r >> 16, r & 0xFFFF
        out = 0
        for v, bits in ((a, high), (b, high), (e, low), (f, low)):
            out = out << pitch | stochastic(kind, v, bits, 16)
        return out

    return compute


def packed_rows() -> Iterator[Row]:
    two = "f32:turns f32:turns"
    for kind in ("f16", "bf16"):
        for mode in ("rn", "rz"):
            for relu, sat in ((False, False), (True, False), (False, True), (True, True)):
                modifiers = (".relu" if relu else "") + (".satfinite" if sat else "")
                yield Row(f"cvt.{mode}{modifiers}.{kind}x2.f32", two, "b32", pair(kind, 16, mode, relu, sat))
        yield Row(
            f"cvt.rs.satfinite.{kind}x2.f32", f"{two} b32", "b32",
            stochastic_pair(kind, 13 if kind == "f16" else 16), arch="100a",
        )  # fmt: skip
    for kind, pitch, arch in (
        ("e4m3", 8, "89"),
        ("e5m2", 8, "89"),
        ("e2m1", 4, "120a"),
        ("e2m3", 8, "120a"),
        ("e3m2", 8, "120a"),
    ):
        for relu in (False, True):
            modifiers = ".relu" if relu else ""
            to = pair(kind, pitch, "rn", relu, True)
            result = "b8" if pitch == 4 else "b16"
            yield Row(f"cvt.rn.satfinite{modifiers}.{kind}x2.f32", two, result, to, arch=arch)
            if arch == "89":
                yield Row(f"cvt.rn.satfinite{modifiers}.{kind}x2.f16x2", "b32", "b16", of_half_pair(to), arch=arch)
            yield Row(f"cvt.rn{modifiers}.f16x2.{kind}x2", result, "b32", to_half_pair(kind, pitch, relu), arch=arch)
        yield Row(
            f"cvt.rs.satfinite.{kind}x4.f32", f"{two} {two} b32", f"b{4 * pitch}", stochastic_four(kind, pitch),
            arch="100a",
        )  # fmt: skip
    for mode in ("rz", "rp"):
        for sat in (False, True):
            name = f"cvt.{mode}{'.satfinite' if sat else ''}.ue8m0x2"
            scale = lambda a, b, m=mode, s=sat: ue8m0(a, m, s) << 8 | ue8m0(b, m, s)  # noqa: E731
            yield Row(f"{name}.f32", two, "b16", scale, arch="120a")
            yield Row(
                f"{name}.bf16x2", "b32", "b16",
                lambda a, f=scale: f(oracle.decode("bf16", a >> 16), oracle.decode("bf16", a & 0xFFFF)), arch="120a",
            )  # fmt: skip
    power = lambda c: 0x7FFF if c == 255 else oracle.encode("bf16", 2.0 ** (c - 127))  # noqa: E731
    yield Row("cvt.rn.bf16x2.ue8m0x2", "b16", "b32", lambda a: power(a >> 8) << 16 | power(a & 255), arch="120a")
    for kind, bits in (("u16", 16), ("s16", 16), ("u8", 8), ("s8", 8), ("u4", 4), ("s4", 4), ("u2", 2), ("s2", 2)):
        least, most = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if kind[0] == "s" else (0, (1 << bits) - 1)
        narrow = lambda v, lo=least, hi=most, n=bits: min(max(v, lo), hi) & ((1 << n) - 1)  # noqa: E731
        if bits == 16:
            yield Row(f"cvt.pack.sat.{kind}.s32", "s32 s32", "b32", lambda a, b, f=narrow: f(a) << 16 | f(b))
        else:
            yield Row(
                f"cvt.pack.sat.{kind}.s32.b32", "s32 s32 b32", "b32",
                lambda a, b, c, f=narrow, n=bits: c << (2 * n) | f(a) << n | f(b), arch="80",
            )  # fmt: skip


def rows() -> Iterator[Row]:
    yield from integer_rows()
    yield from float_rows()
    yield from packed_rows()
