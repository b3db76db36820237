"""Rows of logic, shifts, moves, permutations, comparisons and selection."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from emu.instructions import oracle
from emu.instructions.row import BITS, Row

LOP3_TABLES = (0x80, 0xFE, 0x96, 0xE8, 0xCA, 0x1A, 0x3F, 0x01)


def shift_left(bits: int) -> Callable[[int, int], int]:
    return lambda a, n: a << n if n < bits else 0


def shift_right(bits: int) -> Callable[[int, int], int]:
    return lambda a, n: a >> min(n, bits)  # of a Python integer: arithmetic where it is negative


def funnel(left: bool, clamp: bool) -> Callable[[int, int, int], int]:
    def compute(a: int, b: int, c: int) -> int:
        n = min(c, 32) if clamp else c & 31
        return ((b << 32 | a) << n) >> 32 if left else (b << 32 | a) >> n

    return compute


def lop3(table: int) -> Callable[[int, int, int], int]:
    def compute(a: int, b: int, c: int) -> int:
        out = 0
        for i in range(32):
            out |= (table >> ((a >> i & 1) << 2 | (b >> i & 1) << 1 | c >> i & 1) & 1) << i
        return out

    return compute


def every_table(a: int, b: int, c: int) -> tuple[int, ...]:
    return tuple(lop3(table)(a, b, c) for table in LOP3_TABLES)


def lop3_predicate(combine: Callable[[bool, bool], bool]) -> Callable[..., tuple[int, bool]]:
    def compute(a: int, b: int, c: int, q: bool) -> tuple[int, bool]:
        d = lop3(0x80)(a, b, c)
        return d, combine(d != 0, q)

    return compute


def prmt(mode: str) -> Callable[[int, int, int], int]:
    def compute(a: int, b: int, c: int) -> int:
        source = [(b << 32 | a) >> (8 * i) & 0xFF for i in range(8)]
        n = c & 3
        if not mode:
            out = []
            for i in range(4):
                control = c >> (4 * i) & 15
                byte = source[control & 7]
                out.append((0xFF if byte & 0x80 else 0) if control & 8 else byte)
        else:
            # the table of the PTX ISA, highest byte first
            chosen = {
                "f4e": ((3, 2, 1, 0), (4, 3, 2, 1), (5, 4, 3, 2), (6, 5, 4, 3)),
                "b4e": ((5, 6, 7, 0), (6, 7, 0, 1), (7, 0, 1, 2), (0, 1, 2, 3)),
                "rc8": ((0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)),
                "ecl": ((3, 2, 1, 0), (3, 2, 1, 1), (3, 2, 2, 2), (3, 3, 3, 3)),
                "ecr": ((0, 0, 0, 0), (1, 1, 1, 0), (2, 2, 1, 0), (3, 2, 1, 0)),
                "rc16": ((1, 0, 1, 0), (3, 2, 3, 2), (1, 0, 1, 0), (3, 2, 3, 2)),
            }[mode][n]
            out = [source[i] for i in reversed(chosen)]
        return sum(byte << (8 * i) for i, byte in enumerate(out))

    return compute


INTEGER_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
}  # fmt: skip
UNSIGNED_TESTS = {
    "lo": INTEGER_TESTS["lt"],
    "ls": INTEGER_TESTS["le"],
    "hi": INTEGER_TESTS["gt"],
    "hs": INTEGER_TESTS["ge"],
}


def unordered(a: float, b: float) -> bool:
    return math.isnan(a) or math.isnan(b)


FLOAT_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    **INTEGER_TESTS,
    "ne": lambda a, b: a < b or a > b,
    **{
        f"{name}u": lambda a, b, f=f: unordered(a, b) or f(a, b)
        for name, f in INTEGER_TESTS.items()
    },
    "num": lambda a, b: not unordered(a, b),
    "nan": unordered,
}  # fmt: skip
COMBINE: dict[str, Callable[[bool, bool], bool]] = {
    "and": lambda t, c: t and c, "or": lambda t, c: t or c, "xor": lambda t, c: t != c,
}  # fmt: skip


def both(test: Callable[[Any, Any], bool], combine: Callable[[bool, bool], bool]) -> Callable[..., tuple[bool, bool]]:
    return lambda a, b, c: (combine(test(a, b), c), combine(not test(a, b), c))


def of_pair(kind: str, test: Callable[[Any, Any], bool]) -> Callable[[int, int], tuple[bool, bool]]:
    def half(a: int, b: int, shift: int) -> bool:
        return test(oracle.decode(kind, a >> shift & 0xFFFF), oracle.decode(kind, b >> shift & 0xFFFF))

    return lambda a, b: (half(a, b, 0), half(a, b, 16))


def flushed(test: Callable[[Any, Any], bool]) -> Callable[[float, float], bool]:
    return lambda a, b: test(oracle.flush("f32", a), oracle.flush("f32", b))


def comparison_rows() -> Iterator[Row]:
    for k in ("b16", "b32", "b64", "u16", "s16", "u32", "s32", "u64", "s64"):
        tests = {"eq": INTEGER_TESTS["eq"], "ne": INTEGER_TESTS["ne"]} if k[0] == "b" else INTEGER_TESTS
        if k[0] == "u":
            tests = tests | UNSIGNED_TESTS
        for name, test in tests.items():
            yield Row(f"setp.{name}.{k}", f"{k} {k}", "pred", test)
    for k in ("f32", "f64", "f16", "bf16"):
        for name, test in FLOAT_TESTS.items():
            yield Row(f"setp.{name}.{k}", f"{k} {k}", "pred", test, arch="90" if k == "bf16" else "80")
    for name in ("eq", "lt", "gtu"):
        yield Row(f"setp.{name}.ftz.f32", "f32 f32", "pred", flushed(FLOAT_TESTS[name]))
    for how, combine in COMBINE.items():
        yield Row(f"setp.lt.{how}.s32", "s32 s32 pred", "pred pred", both(INTEGER_TESTS["lt"], combine))
        yield Row(f"setp.gt.{how}.f32", "f32 f32 pred", "pred pred", both(FLOAT_TESTS["gt"], combine))
        yield Row(f"setp.ne.{how}.b64", "b64 b64 pred", "pred pred", both(INTEGER_TESTS["ne"], combine))
    for name in ("eq", "lt", "geu", "nan"):
        yield Row(f"setp.{name}.f16x2", "b32 b32", "pred pred", of_pair("f16", FLOAT_TESTS[name]))
        yield Row(f"setp.{name}.bf16x2", "b32 b32", "pred pred", of_pair("bf16", FLOAT_TESTS[name]), arch="90")
    for to, true in (("u32", 0xFFFFFFFF), ("s32", 0xFFFFFFFF), ("f32", 0x3F800000)):
        for k in ("u32", "s32", "f32", "f64"):
            tests = FLOAT_TESTS if k[0] == "f" else INTEGER_TESTS
            yield Row(f"set.lt.{to}.{k}", f"{k} {k}", to, lambda a, b, t=true, f=tests["lt"]: t if f(a, b) else 0)
        yield Row(
            f"set.eq.and.{to}.s32", "s32 s32 pred", to, lambda a, b, c, t=true: t if a == b and c else 0,
        )  # fmt: skip
    for to, true in (("f16", 0x3C00), ("u16", 0xFFFF)):
        yield Row(f"set.le.{to}.f16", "f16 f16", "b16", lambda a, b, t=true: t if a <= b else 0)
    for name, low, high in (("f16x2.f16x2", 0x3C00, 0x3C000000), ("u32.f16x2", 0xFFFF, 0xFFFF0000)):
        pair = of_pair("f16", FLOAT_TESTS["gt"])
        yield Row(
            f"set.gt.{name}", "b32 b32", "b32",
            lambda a, b, p=pair, low=low, high=high: (low if p(a, b)[0] else 0) | (high if p(a, b)[1] else 0),
        )  # fmt: skip


def selection_rows() -> Iterator[Row]:
    for k in ("b16", "b32", "b64", "u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64"):
        raw = f"b{BITS[k]}"
        yield Row(f"selp.{k}", f"{raw} {raw} pred", raw, lambda a, b, c: a if c else b)
        yield Row(f"slct.{k}.s32", f"{raw} {raw} s32", raw, lambda a, b, c: a if c >= 0 else b)
        yield Row(f"slct.{k}.f32", f"{raw} {raw} f32", raw, lambda a, b, c: a if c >= 0 else b)
    yield Row("slct.ftz.b32.f32", "b32 b32 f32", "b32", lambda a, b, c: a if oracle.flush("f32", c) >= 0 else b)


def move_rows() -> Iterator[Row]:
    yield Row("mov.pred", "pred", "pred", lambda a: a)
    for k in ("b16", "b32", "b64", "u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64"):
        raw = f"b{BITS[k]}"
        yield Row(f"mov.{k}", raw, raw, lambda a: a)
    yield Row("prmt.b32", "b32 b32 b32:control", "b32", prmt(""))
    for mode in ("f4e", "b4e", "rc8", "ecl", "ecr", "rc16"):
        yield Row(f"prmt.b32.{mode}", "b32 b32 b32:shift", "b32", prmt(mode))


def rows() -> Iterator[Row]:
    for k in ("b16", "b32", "b64", "pred"):
        two = f"{k} {k}"
        yield Row(f"and.{k}", two, k, lambda a, b: a & b)
        yield Row(f"or.{k}", two, k, lambda a, b: a | b)
        yield Row(f"xor.{k}", two, k, lambda a, b: a ^ b)
        yield Row(f"not.{k}", k, k, lambda a, p=k == "pred": not a if p else ~a)
        if k != "pred":
            yield Row(f"cnot.{k}", k, k, lambda a: a == 0)
            yield Row(f"shl.{k}", f"{k} u32:shift", k, shift_left(BITS[k]))
    for k in ("b16", "b32", "b64", "u16", "s16", "u32", "s32", "u64", "s64"):
        yield Row(f"shr.{k}", f"{k} u32:shift", k, shift_right(BITS[k]))
    for side in ("l", "r"):
        for mode in ("clamp", "wrap"):
            yield Row(f"shf.{side}.{mode}.b32", "b32 b32 b32:shift", "b32", funnel(side == "l", mode == "clamp"))
    yield Row("lop3.b32", "b32 b32 b32", " ".join(["b32"] * len(LOP3_TABLES)), every_table)
    yield Row("lop3.or.b32", "b32 b32 b32 pred", "b32 pred", lop3_predicate(COMBINE["or"]))
    yield Row("lop3.and.b32", "b32 b32 b32 pred", "b32 pred", lop3_predicate(COMBINE["and"]))
    yield from comparison_rows()
    yield from selection_rows()
    yield from move_rows()
