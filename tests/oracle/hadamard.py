"""Hadamard matrices and the transform in float64, written out from their definitions.

Nothing here shares code or tables with the library but the published sequences themselves.
"""

import itertools

import numpy as np

MAX_SIZE = 65536
MAX_BASE = 1024

# Turyn-type sequences (X, Y, Z of length n, W of length n - 1): Best, Djokovic, Kharaghani, Ramp 2013, "Turyn-type
# sequences: classification, conjectures and construction"; n = 36: Kharaghani, Tayfeh-Rezaie 2005.
TURYN_TYPE = {
    8: "06e5c4d1",
    10: "0001f4a961",
    16: "0000778e52de5561",
    20: "000038e2739c7a0b6951",
    22: "00000f702c71a9ad565961",
    30: "000000f70b106f9d427a25e9a96951",
    36: "060989975b685d8fc80750b21c0212eceb26",
}

# First halves (positions 0 .. t // 2) of symmetric sequences: Williamson's own of t = 43, and those of Holzmann,
# Kharaghani, Tayfeh-Rezaie 2008 of t = 39.
WILLIAMSON = {
    39: ("+++--+-+-----+--++--", "+++--++-+---+-+--+--", "++++---+--++----+-+-", "+---++-+-+-----+++-+"),
    43: ("++---++++-+--+--++----", "+++-+-++--+-+-++++-+--", "++-++++++----+-+--++-+", "+---++--++++-+-+++-++-"),
}


def sylvester(n: int) -> np.ndarray:
    """Order 2^k in natural order."""
    h = np.ones((1, 1))
    while len(h) < n:
        h = np.block([[h, h], [h, -h]])
    return h


def prime_power(q: int) -> tuple[int, int] | None:
    """(p, e) with q = p^e."""
    for p in range(2, q + 1):
        if q % p == 0:
            e = 0
            while q % p == 0:
                q, e = q // p, e + 1
            return (p, e) if q == 1 else None
    return None


class Field:
    """GF(p^e): elements are coefficient tuples, highest degree first, in lexicographic order."""

    def __init__(self, p: int, e: int):
        self.p, self.e = p, e
        self.elements = list(itertools.product(range(p), repeat=e))
        one = self.elements[1]
        # the modulus: the least polynomial, as a number in base p, modulo which x has order q - 1
        for low in self.elements[1:]:
            power, order = self.times_x(one, low), 1
            while power != one and any(power) and order < len(self.elements):
                power, order = self.times_x(power, low), order + 1
            if power == one and order == len(self.elements) - 1:
                self.low = low
                break
        squares = {self.multiply(a, a) for a in self.elements[1:]}
        zero = self.elements[0]
        self.chi = {a: 0 if a == zero else 1 if a in squares else -1 for a in self.elements}

    def times_x(self, a, low):
        return tuple((c - a[0] * f) % self.p for c, f in zip((*a[1:], 0), low, strict=True))

    def multiply(self, a, b):
        total = (0,) * self.e
        for c in a:  # Horner in x
            total = self.times_x(total, self.low)
            total = tuple((t + c * d) % self.p for t, d in zip(total, b, strict=True))
        return total

    def jacobsthal(self) -> np.ndarray:
        """Q(i, j) = chi(x_j - x_i)."""
        digits = np.array(self.elements)
        differences = (digits[None, :, :] - digits[:, None, :]) % self.p
        index = differences @ (self.p ** np.arange(self.e)[::-1])
        chi = np.array([self.chi[a] for a in self.elements], dtype=np.float64)
        return chi[index]


def bordered(corner: float, q: np.ndarray) -> np.ndarray:
    n = len(q)
    return np.block([[np.zeros((1, 1)), np.ones((1, n))], [np.full((n, 1), corner), q]])


def circulant(a: np.ndarray) -> np.ndarray:
    t = len(a)
    return a[(np.arange(t)[None, :] - np.arange(t)[:, None]) % t]


def turyn_sequences(n: int) -> list[np.ndarray]:
    """+-1 sequences of length 3n - 1 by way of T-sequences."""
    digits = [int(c, 16) for c in TURYN_TYPE[n]]
    digits[-1] <<= 1
    x, y, z, w = (np.array([-1 if d >> b & 1 else 1 for d in digits]) for b in (3, 2, 1, 0))
    w = w[:-1]
    t = np.zeros((4, 3 * n - 1))
    t[0, :n] = z
    t[1, n : 2 * n - 1] = w
    t[2, 2 * n - 1 :] = (x + y) / 2
    t[3, 2 * n - 1 :] = (x - y) / 2
    for lag in range(1, 3 * n - 1):  # what makes them T-sequences
        assert sum(s[lag:] @ s[:-lag] for s in t) == 0
    return list(sylvester(4) @ t)


def williamson_sequences(t: int) -> list[np.ndarray]:
    halves = [np.array([1.0 if c == "+" else -1.0 for c in s]) for s in WILLIAMSON[t]]
    return [np.concatenate([h, h[:0:-1]]) for h in halves]


def goethals_seidel(sequences: list[np.ndarray]) -> np.ndarray:
    a, b, c, d = map(circulant, sequences)
    r = np.eye(len(a))[::-1]
    return np.block(
        [
            [a, b @ r, c @ r, d @ r],
            [-b @ r, a, -d.T @ r, c.T @ r],
            [-c @ r, d.T @ r, a, -b.T @ r],
            [-d @ r, -c.T @ r, b.T @ r, a],
        ]
    )


def base_matrix(m: int) -> np.ndarray | None:
    """The matrix of order m, or None where no construction has it."""
    if m == 1:
        return np.ones((1, 1))
    if m % 4 or m > MAX_BASE:
        return None
    if f := prime_power(m - 1):
        return np.eye(m) + bordered(-1, Field(*f).jacobsthal())
    if m % 8 == 4 and (f := prime_power(m // 2 - 1)):
        c = bordered(1, Field(*f).jacobsthal())
        return np.kron(c, [[1, 1], [1, -1]]) + np.kron(np.eye(len(c)), [[1, -1], [-1, -1]])
    t = m // 4
    if (t + 1) % 3 == 0 and (t + 1) // 3 in TURYN_TYPE:
        return goethals_seidel(turyn_sequences((t + 1) // 3))
    if t in WILLIAMSON:
        return goethals_seidel(williamson_sequences(t))
    return None


def has_base(m: int) -> bool:
    """Whether base_matrix(m) is not None, without building it."""
    if m == 1:
        return True
    t = m // 4
    return (
        m % 4 == 0
        and m <= MAX_BASE
        and (
            prime_power(m - 1) is not None
            or (m % 8 == 4 and prime_power(m // 2 - 1) is not None)
            or ((t + 1) % 3 == 0 and (t + 1) // 3 in TURYN_TYPE)
            or t in WILLIAMSON
        )
    )


def split(n: int) -> tuple[int, int] | None:
    """(m, 2^k) with n = m * 2^k and the least m that has a matrix; None where there is none."""
    power = n & -n
    m = n // power
    while power:
        if has_base(m):
            return m, power
        m, power = 2 * m, power // 2
    return None


_bases: dict[int, np.ndarray] = {}


def matrix(n: int) -> np.ndarray:
    """H_n = H_m (x) H_2^k, dense."""
    m, power = split(n)
    if m not in _bases:
        _bases[m] = base_matrix(m)
    return np.kron(_bases[m], sylvester(power))


def transform(x, block: int, sign=None, scale: float = 1.0, transpose: bool = False) -> np.ndarray:
    """scale * H diag(sign) x over blocks of the last axis (transpose: scale * diag(sign) H^T x)."""
    x = np.asarray(x, np.float64)
    s = np.ones(x.shape[-1])
    if sign is not None:
        s = np.tile(np.asarray(sign, np.float64), x.shape[-1] // len(sign))
    m, power = split(block)
    if m not in _bases:
        _bases[m] = base_matrix(m)
    base = _bases[m].T if transpose else _bases[m]
    v = x if transpose else x * s
    # H (vec V) = vec(H_m V H_2^k) for V of m rows: never an n x n matrix; the Sylvester half by recursive halves
    blocks = (*x.shape[:-1], x.shape[-1] // block, m)
    v = v.reshape(*blocks, power)
    half = 1
    while half < power:
        v = v.reshape(*blocks, power // (2 * half), 2, half)
        v = np.stack([v[..., 0, :] + v[..., 1, :], v[..., 0, :] - v[..., 1, :]], axis=-2)
        v = v.reshape(*blocks, power)
        half *= 2
    y = (base @ v).reshape(x.shape) * scale
    return y * s if transpose else y
