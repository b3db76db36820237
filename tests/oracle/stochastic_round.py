"""Stochastic rounding in float64 NumPy, with a Philox4x32-10 of its own (Salmon et al. 2011)."""

from functools import cache

import numpy as np
from oracle import formats

HALVES = {"bfloat16": (8, 7), "float16": (5, 10)}  # exponent, mantissa bits


def philox(seed: int, offset: int, blocks: int) -> np.ndarray:
    """[blocks, 4] uint32 words of counters offset .. offset + blocks - 1."""
    low = np.uint64(0xFFFFFFFF)
    with np.errstate(over="ignore"):
        counter = np.uint64(offset % 2**64) + np.arange(blocks, dtype=np.uint64)
    c = [counter & low, counter >> np.uint64(32), np.zeros_like(counter), np.zeros_like(counter)]
    k0, k1 = seed % 2**32, seed // 2**32 % 2**32
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [
            (p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0),
            p1 & low,
            (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1),
            p0 & low,
        ]
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.stack(c, -1).astype(np.uint32)


def random_bits(seed: int, offset: int, count: int) -> np.ndarray:
    """The 16 bits of elements 0 .. count - 1."""
    words = philox(seed, offset, -(-count // 8))
    return np.stack([words & 0xFFFF, words >> 16], -1).reshape(-1)[:count]


@cache
def ascending(name: str) -> np.ndarray:
    """The finite values of a format, each once."""
    if name in HALVES:
        v = half(*HALVES[name])
    else:
        v = formats.values(name)
        v = v[[formats.is_code(name, c) for c in range(len(v))]]
    return np.unique(v[np.isfinite(v)])


def half(exponent: int, mantissa: int) -> np.ndarray:
    f = formats.Minifloat(16, exponent, mantissa, True, "ieee")
    v = np.array([f.magnitude(c) for c in range(2**15)])
    return np.concatenate([v, -v])


def stochastic(name: str, x: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """The values x is rounded to: up when its bits are below the distance in units of 2^-16."""
    grid = ascending(name)
    x = np.clip(np.asarray(x, np.float64), grid[0], grid[-1])
    above = np.searchsorted(grid, x, side="left")  # grid[above] >= x
    high = grid[above]
    low = np.where(high == x, high, grid[np.maximum(above - 1, 0)])
    gap = np.where(high == low, 1, high - low)
    p = np.rint((x - low) / gap * 65536)
    return np.where(bits < p, high, low)


def codes(name: str, y: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """The codes of these values, zero with the sign of y."""
    return formats.encode(
        name,
        np.copysign(stochastic(name, y, bits), np.asarray(y))
        if name.startswith("float")
        else stochastic(name, y, bits),
    )
