"""Rows of integer arithmetic and bit fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from emu.instructions.row import BITS, Row

WIDE = ("u16", "s16", "u32", "s32", "u64", "s64")
TWICE = {"u16": "u32", "s16": "s32", "u32": "u64", "s32": "s64"}


def clamp32(v: int) -> int:
    return min(max(v, -(2**31)), 2**31 - 1)


def low24(v: int, kind: str) -> int:
    v &= 0xFFFFFF
    return v - 0x1000000 if kind == "s32" and v & 0x800000 else v


def truncated(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return -quotient if (a < 0) != (b < 0) else quotient


def divide(a: int, b: int) -> int:
    return -1 if b == 0 else truncated(a, b)


def remainder(a: int, b: int) -> int:
    return -1 if b == 0 else a - b * truncated(a, b)


def in_halves(f: Callable[[int, int], int], signed: bool) -> Callable[[int, int], int]:
    def one(v: int) -> int:
        v &= 0xFFFF
        return v - 0x10000 if signed and v & 0x8000 else v

    return lambda a, b: (f(one(a >> 16), one(b >> 16)) & 0xFFFF) << 16 | f(one(a), one(b)) & 0xFFFF


def with_carry(
    bits: int, *, subtract: bool = False, high: bool | None = None, signed: bool = False
) -> Callable[..., tuple[int, int]]:
    """Two steps as the kernels do them: the first sets the carry, the second reads it and sets it again. The second
    result is that last carry."""
    mask = (1 << bits) - 1

    def product(a: int, b: int) -> int:
        if signed:
            a, b = (v - (1 << bits) if v >> (bits - 1) else v for v in (a, b))
        return (a * b >> (bits if high else 0)) & mask

    def compute(a: int, b: int, c: int = 0) -> tuple[int, int]:
        # the first step is a - b, a + b or a * b + c and sets the carry; the second is the same with the carry
        left, right = (a, b) if high is None else (product(a, b), c)
        total = left - right if subtract else left + right
        carry = int(total < 0 or total > mask)
        again = left - right - carry if subtract else left + right + carry
        return again & mask, int(again < 0 or again > mask)

    return compute


def bfe(kind: str) -> Callable[[int, int, int], int]:
    bits = BITS[kind]

    def compute(a: int, b: int, c: int) -> int:
        position, length = b & 255, c & 255
        u = a & ((1 << bits) - 1)
        sign = kind[0] == "s" and length != 0 and u >> min(position + length - 1, bits - 1) & 1
        return sum(
            (u >> (position + i) & 1 if i < length and position + i < bits else int(sign)) << i for i in range(bits)
        )

    return compute


def bfi(bits: int) -> Callable[[int, int, int, int], int]:
    def compute(a: int, b: int, c: int, d: int) -> int:
        position, length = c & 255, d & 255
        for i in range(min(length, max(bits - position, 0))):
            b = b & ~(1 << (position + i)) | (a >> i & 1) << (position + i)
        return b

    return compute


def bmsk(clamp: bool) -> Callable[[int, int], int]:
    def compute(a: int, b: int) -> int:
        if clamp:
            a, b = min(a, 32), min(b, 32)
        else:
            a, b = a & 31, b & 31
        return sum(1 << i for i in range(a, min(a + b, 32)))

    return compute


def szext(kind: str, clamp: bool) -> Callable[[int, int], int]:
    def compute(a: int, b: int) -> int:
        n = min(b, 32) if clamp else b & 31
        low = a & ((1 << n) - 1)
        return low - (1 << n) if kind == "s32" and n and low >> (n - 1) else low

    return compute


def fns(mask: int, base: int, offset: int) -> int:
    if base > 31:
        return -1
    if offset == 0:
        return base if mask >> base & 1 else -1
    order = range(base, 32) if offset > 0 else range(base, -1, -1)
    found = [i for i in order if mask >> i & 1]
    return found[abs(offset) - 1] if abs(offset) <= len(found) else -1


def bfind(kind: str, shift: bool) -> Callable[[int], int]:
    def compute(a: int) -> int:
        magnitude = ~a if a < 0 else a
        if magnitude == 0:
            return -1
        at = magnitude.bit_length() - 1
        return BITS[kind] - 1 - at if shift else at

    return compute


def parts(v: int, bits: int, count: int, signed: bool) -> list[int]:
    out = [v >> (bits * i) & ((1 << bits) - 1) for i in range(count)]
    return [p - (1 << bits) if signed and p >> (bits - 1) else p for p in out]


def dp4a(a_kind: str, b_kind: str) -> Callable[[int, int, int], int]:
    return lambda a, b, c: (
        c + sum(x * y for x, y in zip(parts(a, 8, 4, a_kind == "s32"), parts(b, 8, 4, b_kind == "s32"), strict=True))
    )


def dp2a(a_kind: str, b_kind: str, start: int) -> Callable[[int, int, int], int]:
    return lambda a, b, c: (
        c
        + sum(
            x * y
            for x, y in zip(
                parts(a, 16, 2, a_kind == "s32"), parts(b, 8, 4, b_kind == "s32")[start : start + 2], strict=True
            )
        )
    )


def rows() -> Iterator[Row]:
    for k in WIDE:
        two, three = f"{k} {k}", f"{k} {k} {k}"
        bits = BITS[k]
        yield Row(f"add.{k}", two, k, lambda a, b: a + b)
        yield Row(f"sub.{k}", two, k, lambda a, b: a - b)
        yield Row(f"mul.lo.{k}", two, k, lambda a, b: a * b)
        yield Row(f"mul.hi.{k}", two, k, lambda a, b, n=bits: a * b >> n)
        yield Row(f"mad.lo.{k}", three, k, lambda a, b, c: a * b + c)
        yield Row(f"mad.hi.{k}", three, k, lambda a, b, c, n=bits: (a * b >> n) + c)
        yield Row(f"sad.{k}", three, k, lambda a, b, c: c + abs(a - b))
        yield Row(f"div.{k}", two, k, divide)
        yield Row(f"rem.{k}", two, k, remainder)
        yield Row(f"min.{k}", two, k, min)
        yield Row(f"max.{k}", two, k, max)
        if k in TWICE:
            yield Row(f"mul.wide.{k}", two, TWICE[k], lambda a, b: a * b)
            yield Row(f"mad.wide.{k}", f"{two} {TWICE[k]}", TWICE[k], lambda a, b, c: a * b + c)
        if k[0] == "s":
            yield Row(f"abs.{k}", k, k, abs)
            yield Row(f"neg.{k}", k, k, lambda a: -a)
    yield Row("add.sat.s32", "s32 s32", "s32", lambda a, b: clamp32(a + b))
    yield Row("sub.sat.s32", "s32 s32", "s32", lambda a, b: clamp32(a - b))
    yield Row("mad.hi.sat.s32", "s32 s32 s32", "s32", lambda a, b, c: clamp32((a * b >> 32) + c))
    for k in ("u32", "s32"):
        product = lambda a, b, k=k: low24(a, k) * low24(b, k)  # noqa: E731
        yield Row(f"mul24.lo.{k}", f"{k} {k}", k, product)
        yield Row(f"mul24.hi.{k}", f"{k} {k}", k, lambda a, b, p=product: p(a, b) >> 16)
        yield Row(f"mad24.lo.{k}", f"{k} {k} {k}", k, lambda a, b, c, p=product: p(a, b) + c)
        yield Row(f"mad24.hi.{k}", f"{k} {k} {k}", k, lambda a, b, c, p=product: (p(a, b) >> 16) + c)
    high24 = lambda a, b: low24(a, "s32") * low24(b, "s32") >> 16  # noqa: E731
    yield Row(
        "mad24.hi.sat.s32", "s32 s32 s32", "s32",
        lambda a, b, c: clamp32((high24(a, b) + 2**31) % 2**32 - 2**31 + c),
    )  # fmt: skip
    for k, signed in (("u16x2", False), ("s16x2", True)):
        yield Row(f"add.{k}", "b32 b32", "b32", in_halves(lambda a, b: a + b, signed), arch="90")
        yield Row(f"min.{k}", "b32 b32", "b32", in_halves(min, signed), arch="90")
        yield Row(f"max.{k}", "b32 b32", "b32", in_halves(max, signed), arch="90")
    for f, name in ((min, "min"), (max, "max")):
        yield Row(f"{name}.relu.s32", "s32 s32", "s32", lambda a, b, f=f: max(f(a, b), 0), arch="90")
        yield Row(f"{name}.relu.s16x2", "b32 b32", "b32", in_halves(lambda a, b, f=f: max(f(a, b), 0), True), arch="90")
    for k in ("u32", "s32", "u64", "s64"):
        u = f"u{BITS[k]}"
        for name, subtract in (("add", False), ("sub", True)):
            yield Row(f"{name}c.cc.{k}", f"{u} {u}", f"{u} u32", with_carry(BITS[k], subtract=subtract))
        for part in ("lo", "hi"):
            yield Row(
                f"madc.{part}.cc.{k}", f"{u} {u} {u}", f"{u} u32",
                with_carry(BITS[k], high=part == "hi", signed=k[0] == "s"),
            )  # fmt: skip
    for bits in (32, 64):
        b = f"b{bits}"
        yield Row(f"popc.{b}", b, "u32", lambda a: a.bit_count())
        yield Row(f"clz.{b}", b, "u32", lambda a, n=bits: n - a.bit_length())
        yield Row(f"brev.{b}", b, b, lambda a, n=bits: int(f"{a:0{n}b}"[::-1], 2))
        yield Row(f"bfi.{b}", f"{b} {b} u32:field u32:field", b, bfi(bits))
    for k in ("u32", "s32", "u64", "s64"):
        yield Row(f"bfind.{k}", k, "u32", bfind(k, False))
        yield Row(f"bfind.shiftamt.{k}", k, "u32", bfind(k, True))
        yield Row(f"bfe.{k}", f"{k} u32:field u32:field", k, bfe(k))
    yield Row("fns.b32", "b32 b32:base s32:offset", "b32", fns)
    for mode in ("clamp", "wrap"):
        yield Row(f"bmsk.{mode}.b32", "b32:shift b32:shift", "b32", bmsk(mode == "clamp"))
        for k in ("u32", "s32"):
            yield Row(f"szext.{mode}.{k}", f"{k} u32:shift", k, szext(k, mode == "clamp"))
    for a in ("u32", "s32"):
        for b in ("u32", "s32"):
            yield Row(f"dp4a.{a}.{b}", "b32 b32 b32", "b32", dp4a(a, b))
            yield Row(f"dp2a.lo.{a}.{b}", "b32 b32 b32", "b32", dp2a(a, b, 0))
            yield Row(f"dp2a.hi.{a}.{b}", "b32 b32 b32", "b32", dp2a(a, b, 2))
