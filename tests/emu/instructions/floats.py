"""Rows of floating-point arithmetic, exact and approximate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from emu.instructions import oracle
from emu.instructions.row import BITS, Row

MODES = ("rn", "rz", "rm", "rp")
Value = float | Fraction
Arithmetic = Callable[..., Value]


def minimum(a: float, b: float) -> float:
    if math.isnan(a) or math.isnan(b):
        return b if math.isnan(a) else a
    if a == b:
        return a if oracle.is_negative(a) else b
    return min(a, b)


def maximum(a: float, b: float) -> float:
    return -minimum(-a, -b)


def nan_wins(f: Callable[[float, float], float]) -> Callable[[float, float], float]:
    return lambda a, b: oracle.NAN if math.isnan(a) or math.isnan(b) else f(a, b)


def xorsign(f: Callable[[float, float], float]) -> Callable[[float, float], float]:
    def compute(a: float, b: float) -> float:
        magnitude = f(abs(a), abs(b))
        negative = oracle.is_negative(a) != oracle.is_negative(b)
        return -magnitude if negative and not math.isnan(magnitude) else magnitude

    return compute


def of_kind(
    kind: str, f: Arithmetic, mode: str = "rn", *, ftz: bool = False, sat: bool = False, relu: bool = False
) -> Callable[..., int]:
    """The code of f, rounded in a mode, with what PTX puts around it."""

    def compute(*values: float) -> int:
        if ftz:
            values = tuple(oracle.flush(kind, v) for v in values)
        code = oracle.encode(kind, f(*values), mode)
        if ftz:
            code = oracle.flush_code(kind, code)
        if sat:
            code = oracle.saturate(kind, code)
        return oracle.clip(kind, code) if relu else code

    return compute


def sums(mode: str) -> dict[str, tuple[int, Arithmetic]]:
    return {
        "add": (2, lambda a, b: oracle.add(a, b, mode)),
        "sub": (2, lambda a, b: oracle.add(a, -b, mode)),
        "mul": (2, oracle.mul),
        "fma": (3, lambda a, b, c: oracle.fma(a, b, c, mode)),
    }


def single_rows() -> Iterator[Row]:
    for k in ("f32", "f64"):
        for mode in MODES:
            for name, (count, f) in sums(mode).items():
                yield Row(f"{name}.{mode}.{k}", " ".join([k] * count), k, of_kind(k, f, mode))
            root = lambda a, k=k, mode=mode: oracle.sqrt(a, k, mode)  # noqa: E731
            yield Row(f"div.{mode}.{k}", f"{k} {k}", k, of_kind(k, oracle.div, mode))
            yield Row(f"rcp.{mode}.{k}", k, k, of_kind(k, lambda a: oracle.div(1.0, a), mode))
            yield Row(f"sqrt.{mode}.{k}", k, k, of_kind(k, root, mode))
        for name, (count, f) in sums("rn").items():
            if name != "fma":
                yield Row(f"{name}.{k}", " ".join([k] * count), k, of_kind(k, f))
        sign = 1 << (BITS[k] - 1)
        raw = f"b{BITS[k]}"
        yield Row(f"min.{k}", f"{k} {k}", k, of_kind(k, minimum))
        yield Row(f"max.{k}", f"{k} {k}", k, of_kind(k, maximum))
        yield Row(f"abs.{k}", raw, raw, lambda a, s=sign: a & ~s)
        yield Row(f"neg.{k}", raw, raw, lambda a, s=sign: a ^ s)
        yield Row(f"copysign.{k}", f"{raw} {raw}", raw, lambda a, b, s=sign: b & ~s | a & s)
        normal = math.ldexp(1.0, 1 - oracle.FORMATS[k].bias)
        properties: dict[str, Callable[[float], bool]] = {
            "finite": math.isfinite,
            "infinite": math.isinf,
            "number": lambda a: not math.isnan(a),
            "notanumber": math.isnan,
            "normal": lambda a, n=normal: a == 0 or n <= abs(a) < math.inf,
            "subnormal": lambda a, n=normal: 0 < abs(a) < n,
        }
        for name, test in properties.items():
            yield Row(f"testp.{name}.{k}", k, "pred", test)
    for name, (count, f) in sums("rn").items():
        sources = " ".join(["f32"] * count)
        yield Row(f"{name}.rn.ftz.f32", sources, "f32", of_kind("f32", f, ftz=True))
        yield Row(f"{name}.rn.sat.f32", sources, "f32", of_kind("f32", f, sat=True))
        if name != "fma":
            yield Row(f"{name}.ftz.f32", sources, "f32", of_kind("f32", f, ftz=True))
        yield Row(f"{name}.rn.ftz.sat.f32", sources, "f32", of_kind("f32", f, ftz=True, sat=True))
    yield Row("fma.rz.ftz.f32", "f32 f32 f32", "f32", of_kind("f32", sums("rz")["fma"][1], "rz", ftz=True))
    yield Row("mul.rm.ftz.f32", "f32 f32", "f32", of_kind("f32", oracle.mul, "rm", ftz=True))
    yield Row("div.rn.ftz.f32", "f32 f32", "f32", of_kind("f32", oracle.div, ftz=True))
    yield Row("rcp.rn.ftz.f32", "f32", "f32", of_kind("f32", lambda a: oracle.div(1.0, a), ftz=True))
    yield Row("sqrt.rn.ftz.f32", "f32", "f32", of_kind("f32", lambda a: oracle.sqrt(a, "f32", "rn"), ftz=True))
    yield Row("abs.ftz.f32", "b32", "b32", lambda a: oracle.flush_code("f32", a) & 0x7FFFFFFF)
    yield Row("neg.ftz.f32", "b32", "b32", lambda a: oracle.flush_code("f32", a) ^ 0x80000000)
    for name, f in (("min", minimum), ("max", maximum)):
        yield Row(f"{name}.ftz.f32", "f32 f32", "f32", of_kind("f32", f, ftz=True))
        yield Row(f"{name}.NaN.f32", "f32 f32", "f32", of_kind("f32", nan_wins(f)))
        yield Row(f"{name}.ftz.NaN.f32", "f32 f32", "f32", of_kind("f32", nan_wins(f), ftz=True))
        yield Row(f"{name}.xorsign.abs.f32", "f32 f32", "f32", of_kind("f32", xorsign(f)), arch="90")
        yield Row(f"{name}.NaN.xorsign.abs.f32", "f32 f32", "f32", of_kind("f32", xorsign(nan_wins(f))), arch="90")
    for mode in ("rn", "rz"):
        for name, (count, f) in sums(mode).items():
            yield Row(
                f"{name}.{mode}.f32x2",
                " ".join(["b64"] * count),
                "b64",
                packed_singles(of_kind("f32", f, mode)),
                arch="100",
            )
    yield Row(
        "fma.rn.ftz.f32x2",
        "b64 b64 b64",
        "b64",
        packed_singles(of_kind("f32", sums("rn")["fma"][1], ftz=True)),
        arch="100",
    )
    for kind in ("f16", "bf16"):
        yield Row(f"add.rn.f32.{kind}", f"{kind} f32", "f32", of_kind("f32", oracle.add), arch="100a")
        yield Row(
            f"sub.rn.f32.{kind}", f"{kind} f32", "f32", of_kind("f32", lambda a, b: oracle.add(a, -b)), arch="100a"
        )
        yield Row(f"fma.rn.f32.{kind}", f"{kind} {kind} f32", "f32", of_kind("f32", oracle.fma), arch="100a")
    for name, f in (("min", minimum), ("max", maximum)):
        yield Row(
            f"{name}.f32", "f32 f32 f32", "f32", of_kind("f32", lambda a, b, c, f=f: f(f(a, b), c)), arch="100a",
        )  # fmt: skip


def packed_singles(f: Callable[..., int]) -> Callable[..., int]:
    def compute(*codes: int) -> int:
        halves = [f(*(oracle.decode("f32", c >> s & 0xFFFFFFFF) for c in codes)) for s in (0, 32)]
        return halves[1] << 32 | halves[0]

    return compute


def packed(kind: str, f: Callable[..., int]) -> Callable[..., int]:
    """f on both halves of 32-bit operands."""

    def compute(*codes: int) -> int:
        low, high = (f(*(oracle.decode(kind, c >> s & 0xFFFF) for c in codes)) for s in (0, 16))
        return high << 16 | low

    return compute


# 2^-11 (1 - 2^-20) beside 1 + 2^-10: just below half a place of f16, and half of one once it is rounded to 24 bits.
ONE_ROUNDING = ((0x2401, 0x27FE, 0x3C01), (0xA401, 0x27FE, 0xBC01))


def half_rows() -> Iterator[Row]:
    for kind in ("f16", "bf16"):
        brain = kind == "bf16"
        arch = "90" if brain else "80"

        def both(form: str, count: int, f: Callable[..., int], arch: str = arch, kind: str = kind) -> Iterator[Row]:
            once = ONE_ROUNDING if (kind, count) == ("f16", 3) else ()
            twice = tuple(tuple(code << 16 | code for code in triple) for triple in once)
            yield Row(f"{form}.{kind}", " ".join([kind] * count), kind, f, arch=arch, also=once)
            yield Row(f"{form}.{kind}x2", " ".join(["b32"] * count), "b32", packed(kind, f), arch=arch, also=twice)

        for name, (count, f) in sums("rn").items():
            yield from both(f"{name}.rn", count, of_kind(kind, f))
            if name != "fma":
                yield from both(name, count, of_kind(kind, f))
            if not brain:
                yield from both(f"{name}.rn.ftz", count, of_kind(kind, f, ftz=True))
                yield from both(f"{name}.rn.sat", count, of_kind(kind, f, sat=True))
        yield from both("fma.rn.relu", 3, of_kind(kind, oracle.fma, relu=True))
        for name, f in (("min", minimum), ("max", maximum)):
            yield from both(name, 2, of_kind(kind, f))
            yield from both(f"{name}.NaN", 2, of_kind(kind, nan_wins(f)))
            yield from both(f"{name}.xorsign.abs", 2, of_kind(kind, xorsign(f)), arch="90")
            yield from both(f"{name}.NaN.xorsign.abs", 2, of_kind(kind, xorsign(nan_wins(f))), arch="90")
        yield Row(f"abs.{kind}", "b16", "b16", lambda a: a & 0x7FFF, arch=arch)
        yield Row(f"neg.{kind}", "b16", "b16", lambda a: a ^ 0x8000, arch=arch)
        yield Row(f"abs.{kind}x2", "b32", "b32", lambda a: a & 0x7FFF7FFF, arch=arch)
        yield Row(f"neg.{kind}x2", "b32", "b32", lambda a: a ^ 0x80008000, arch=arch)
    yield Row("abs.ftz.f16", "b16", "b16", lambda a: oracle.flush_code("f16", a) & 0x7FFF)
    yield Row("neg.ftz.f16", "b16", "b16", lambda a: oracle.flush_code("f16", a) ^ 0x8000)


# ---- approximate functions: within the documented error, and the documented results of special operands

EXACT: dict[str, Callable[..., float]] = {
    "rcp": lambda a: 1.0 / a,
    "rsqrt": lambda a: 1.0 / math.sqrt(a),
    "sqrt": math.sqrt,
    "div": lambda a, b: a / b,
    "ex2": lambda a: 2.0**a,
    "lg2": math.log2,
    "sin": math.sin,
    "cos": math.cos,
    "tanh": math.tanh,
}


def ulp(value: float) -> float:
    return math.ldexp(1.0, max(math.frexp(value)[1] - 24, -149))


ERRORS: dict[str, Callable[..., float]] = {
    "rcp": lambda v, a: ulp(v),
    "rsqrt": lambda v, a: abs(v) * 2.0**-22.9,
    "sqrt": lambda v, a: abs(v) * 2.0**-23,
    "div": lambda v, a, b: 2 * ulp(v),
    "ex2": lambda v, a: 2 * ulp(v),
    "lg2": lambda v, a: 2.0**-22 if 0.5 < a < 2 else abs(v) * 2.0**-22,
    "sin": lambda v, a: 2.0**-20.5 if abs(a) <= 2 * math.pi else 2.0**-14.7 if abs(a) <= 100 * math.pi else 2.0,
    "cos": lambda v, a: 2.0**-20.5 if abs(a) <= 2 * math.pi else 2.0**-14.7 if abs(a) <= 100 * math.pi else 2.0,
    "tanh": lambda v, a: abs(v) * 2.0**-11,
}


def special(name: str, *v: float) -> float | None:
    """What the tables of the PTX ISA give for a special operand; None: the function is computed."""
    a = v[0]
    if any(math.isnan(x) for x in v):
        return oracle.NAN
    if name in ("rsqrt", "sqrt", "lg2") and a < 0:
        return oracle.NAN
    if name == "div":
        b = v[1]
        if abs(b) > 2.0**126 and not math.isinf(b):
            quotient = oracle.div(math.copysign(1.0, a), b)
            return oracle.NAN if math.isinf(a) else math.copysign(0.0, float(quotient))
        quotient = oracle.div(a, b)
        return quotient if isinstance(quotient, float) else None
    if name in ("sin", "cos") and math.isinf(a):
        return oracle.NAN
    if a == 0:
        infinity = math.copysign(math.inf, a)
        return {"rcp": infinity, "rsqrt": infinity, "lg2": -math.inf, "ex2": 1.0, "cos": 1.0}.get(name, a)
    if math.isinf(a):
        if name == "rcp":
            return math.copysign(0.0, a)
        if name == "tanh":
            return math.copysign(1.0, a)
        return {"rsqrt": 0.0, "sqrt": a, "lg2": a, "ex2": a if a > 0 else 0.0}[name]
    return None


def approximately(name: str, kind: str, error: Callable[..., float], ftz: bool) -> Callable[..., bool]:
    def accept(code: int, *values: float) -> bool:
        if ftz:
            values = tuple(oracle.flush(kind, v) for v in values)
        known = special(name, *values)
        if known is not None:
            return code == oracle.encode(kind, known)
        try:
            value = EXACT[name](*values)
        except OverflowError:
            return code == oracle.encode(kind, math.inf)
        nearest = oracle.encode(kind, value)
        allowed = {nearest, oracle.flush_code(kind, nearest)} if ftz else {nearest}
        if code in allowed:
            return True
        got = oracle.decode(kind, code)
        if ftz and code == oracle.flush_code(kind, code) and got == 0:
            return abs(value) < math.ldexp(1.0, 1 - oracle.FORMATS[kind].bias) + error(value, *values)
        return math.isfinite(got) and abs(got - value) <= error(value, *values)

    return accept


def approximate_rows() -> Iterator[Row]:
    never: Any = None
    for name, error in ERRORS.items():
        sources = "f32 f32" if name == "div" else "f32"
        for ftz in ("", ".ftz") if name != "tanh" else ("",):
            yield Row(
                f"{name}.approx{ftz}.f32", sources, "f32", never, accept=approximately(name, "f32", error, bool(ftz))
            )
    whole = approximately_whole_division()
    yield Row("div.full.f32", "f32 f32", "f32", never, accept=whole(False))
    yield Row("div.full.ftz.f32", "f32 f32", "f32", never, accept=whole(True))
    halves = {
        ("ex2", "f16", ""): lambda v, a: abs(v) * 2.0**-9.9,
        ("ex2", "bf16", ".ftz"): lambda v, a: abs(v) * 2.0**-7,
        ("tanh", "f16", ""): lambda v, a: 2.0**-10.987,
        ("tanh", "bf16", ""): lambda v, a: 2.0**-8,
    }
    for (name, kind, ftz), error in halves.items():
        accept = approximately(name, kind, error, bool(ftz))
        arch = "90" if kind == "bf16" else "80"
        yield Row(f"{name}.approx{ftz}.{kind}", kind, kind, never, arch=arch, accept=accept)
        pair = lambda code, a, k=kind, f=accept: all(  # noqa: E731
            f(code >> s & 0xFFFF, oracle.decode(k, a >> s & 0xFFFF)) for s in (0, 16)
        )
        yield Row(f"{name}.approx{ftz}.{kind}x2", "b32", "b32", never, arch=arch, accept=pair)


def approximately_whole_division() -> Callable[[bool], Callable[..., bool]]:
    def make(ftz: bool) -> Callable[..., bool]:
        def accept(code: int, a: float, b: float) -> bool:
            if ftz:
                a, b = oracle.flush("f32", a), oracle.flush("f32", b)
            quotient = oracle.div(a, b)
            nearest = oracle.encode("f32", quotient)
            if code in ({nearest, oracle.flush_code("f32", nearest)} if ftz else {nearest}):
                return True
            if isinstance(quotient, float):
                return False
            got = oracle.decode("f32", code)
            if ftz and got == 0:
                return (
                    oracle.is_negative(got) == (quotient < 0)
                    and abs(quotient) < Fraction(2) ** -126 + Fraction(2) ** -148
                )
            if not math.isfinite(got):
                return abs(quotient) > Fraction(2) ** 128 - Fraction(2) ** 105
            return abs(Fraction(got) - quotient) <= 2 * Fraction(ulp(float(quotient)))

        return accept

    return make


def rows() -> Iterator[Row]:
    yield from single_rows()
    yield from half_rows()
    yield from approximate_rows()
