"""A row: one instruction form, the types of its operands, and what it computes on one lane."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emu.instructions import oracle

BITS = {"pred": 1, "f16": 16, "bf16": 16, "f32": 32, "f64": 64} | {
    f"{letter}{bits}": bits for letter in "bsu" for bits in (8, 16, 32, 64)
}


@dataclass(frozen=True)
class Row:
    """`sources` and `results`: kinds with spaces between, as "s32 u32:shift"; what follows the colon names the samples.
    `compute` gets Python integers, floats and bools and gives integers (codes of floating types), one a result."""

    form: str
    sources: str
    results: str
    compute: Callable[..., Any]
    arch: str = "80"
    accept: Callable[..., bool] | None = None  # instead of equality: accept(result, *values)
    also: tuple[tuple[int, ...], ...] = ()  # operands that samples would hardly hit

    @property
    def source_kinds(self) -> list[str]:
        return [s.split(":")[0] for s in self.sources.split()]

    @property
    def result_kinds(self) -> list[str]:
        return self.results.split()

    def expected(self, values: tuple[Any, ...]) -> tuple[int, ...]:
        out = self.compute(*values)
        out = out if isinstance(out, tuple) else (out,)
        return tuple(int(v) & ((1 << BITS[k]) - 1) for v, k in zip(out, self.result_kinds, strict=True))


def _integer_edges(bits: int) -> list[int]:
    top = 1 << (bits - 1)
    pattern = int("5" * (bits // 4), 16)
    edges = [0, 1, 2, 3, 7, 100, top - 1, top, top + 1, 2 * top - 2, 2 * top - 1, pattern, 2 * pattern]
    return edges + ([0xFFFFFF, 0x800000, 0x7FFFFF, 0x80008000, 0x7FFF8000] if bits == 32 else [])


def _float_edges(kind: str) -> list[int]:
    f = oracle.FORMATS[kind]
    assert f.infinity is not None
    one, smallest = f.bias << f.mantissa, 1 << f.mantissa
    positive = [0, 1, 2, smallest - 1, smallest, smallest + 1, one - 1, one, one + 1, one | smallest >> 1]
    positive += [one + smallest, one - smallest, f.largest - 1, f.largest, f.infinity, f.infinity | smallest >> 1]
    positive += [f.infinity + 1, (f.bias + f.mantissa) << f.mantissa, ((f.bias + f.mantissa + 1) << f.mantissa) + 1]
    return positive + [p | 1 << (f.bits - 1) for p in positive]


# Numbers at which conversions change: halves, the ends of integer types, the ends and midpoints of narrow formats.
_TURNS = [
    0.25,
    0.5,
    0.75,
    1.5,
    2.5,
    3.5,
    5.0,
    5.5,
    6.0,
    7.5,
    15.75,
    28.0,
    126.5,
    127.5,
    128.5,
    254.5,
    255.5,
    32767.5,
    65535.5,
]
_TURNS += [448.0, 464.0, 465.0, 57344.0, 61440.0, 65504.0, 65519.0, 65520.0, 65536.0, 2.0**31, 2.0**31 - 128, 2.0**32]
_TURNS += [
    2.0**32 - 256,
    2.0**63,
    2.0**64,
    2.0**-6,
    2.0**-10,
    2.0**-14,
    2.0**-24,
    2.0**-25,
    2.0**-127,
    0.0009765625 * 1.5,
]

_NAMED: dict[str, list[int]] = {
    "shift": [*range(70), 96, 127, 128, 200, 255, 256, 257, 0x80000000, 0xFFFFFFFF],
    "field": [*range(34), 40, 62, 63, 64, 65, 255, 256, 0x1FF, 0xFFFFFFFF],
    "base": [*range(32)],
    "offset": [0, 1, 2, 3, 5, 16, 31, 32, 33, 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFE0, 0x7FFFFFFF, 0x80000000],
    "control": [0x3210, 0x7654, 0x0123, 0x8888, 0xFEDC, 0xBA98, 0x9D3F, 0x5410, 0x6420, 0x7531],
}


def codes(spec: str, random_count: int, dice: random.Random) -> list[int]:
    """Codes of one operand: those where things change, then random ones; all of them for eight bits."""
    kind, _, name = spec.partition(":")
    bits = BITS[kind]
    if name and name in _NAMED:
        return _NAMED[name] + [dice.getrandbits(bits) for _ in range(random_count // 4)]
    if kind == "pred":
        return [0, 1]
    if bits == 8:
        return list(range(256))
    if kind not in oracle.FORMATS:
        return _integer_edges(bits) + [dice.getrandbits(bits) >> dice.randrange(bits) for _ in range(random_count)]
    edges = _float_edges(kind)
    if name == "turns":
        edges = edges + [oracle.encode(kind, s * t, m) for t in _TURNS for s in (1.0, -1.0) for m in ("rm", "rp")]
    near = [oracle.encode(kind, dice.gauss(0.0, 1.0) * 2.0 ** dice.randrange(-4, 12)) for _ in range(random_count // 2)]
    return edges + near + [dice.getrandbits(bits) for _ in range(random_count - random_count // 2)]


def value_of(kind: str, code: int) -> Any:
    if kind == "pred":
        return bool(code)
    if kind in oracle.FORMATS:
        return oracle.decode(kind, code)
    return code - (1 << BITS[kind]) if kind[0] == "s" and code >> (BITS[kind] - 1) else code


def samples(row: Row, dice: random.Random) -> list[tuple[int, ...]]:
    """Codes of the operands: exhaustive for one of 16 bits or two of 8, else edges against edges and random tuples."""
    specs, kinds = row.sources.split(), row.source_kinds
    widths = [BITS[k] for k in kinds]
    if widths == [16]:
        return [(code,) for code in range(1 << 16)]
    if sum(widths) <= 16:
        return list(itertools.product(*(range(1 << w) for w in widths)))
    if len(specs) == 1:
        return [(code,) for code in codes(specs[0], 2000, dice)]
    edges = [codes(s, 0, dice) for s in specs]
    most = {1: 4096, 2: 1600, 3: 900}.get(len(specs), 600)
    if math.prod(len(e) for e in edges) <= most:
        crossed = list(itertools.product(*edges))
    else:
        crossed = [tuple(dice.choice(e) for e in edges) for _ in range(most)]
    pools = [codes(s, 600, dice) for s in specs]
    return list(row.also) + crossed + [tuple(dice.choice(pool) for pool in pools) for _ in range(1000)]
