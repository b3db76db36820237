"""The Hadamard matrices that sizes m * 2^k stand on: which orders there are, and that each is what it claims."""

import lowbit  # noqa: F401
import numpy as np
import pytest
import torch
from oracle import hadamard as oracle

# Multiples of 4 that no construction of the library covers. The first order that nobody has is 668.
UNCOVERED_TO_1024 = """
    268 292 324 372 404 412 436 452 476 508 532 536 584 596 604 612 652 668 716 732 756 764 772 808 836 852 872 876 892
    904 932 940 952 956 964 980 988 996 1004 1012 1016"""


def refuses(n: int) -> str | None:
    """The sentence that refuses size n, from an empty tensor."""
    try:
        torch.ops.lowbit.hadamard(torch.empty(0, n))
    except ValueError as error:
        return str(error)
    return None


def matrix(m: int) -> np.ndarray:
    """H of the op. 23 columns at a time: sums of +-2^j are exact below 2^24 and give their signs back."""
    group = 23
    probes = torch.zeros(-(-m // group), m)
    for j in range(m):
        probes[j // group, j] = 2.0 ** (j % group)
    sums = torch.ops.lowbit.hadamard(probes, scale=1.0).numpy().astype(np.int64)
    h = np.empty((m, m), np.int64)
    for g, first in enumerate(range(0, m, group)):
        width = min(group, m - first)
        positive = (sums[g] + 2**width - 1) // 2
        assert np.all((positive >= 0) & (positive < 2**width))
        h[:, first : first + width] = 2 * (positive[:, None] >> np.arange(width) & 1) - 1
    return h


@pytest.fixture(scope="module")
def bases() -> list[int]:
    """Every order m that is not twice an order that is covered."""
    covered = {n for n in [1, 2, *range(4, 2 * oracle.MAX_BASE + 1, 4)] if refuses(n) is None}
    return sorted(m for m in covered if m == 1 or m // 2 not in covered)


def test_every_claimed_order_is_hadamard(bases):
    """And is the oracle's, entry by entry: rotated weights are stored, so a matrix may never change."""
    for m in bases:
        h = matrix(m)
        product = torch.from_numpy(h.astype(np.float32))
        assert torch.equal(product @ product.T, m * torch.eye(m)), m
        assert np.array_equal(h, oracle.base_matrix(m)), m


def test_which_sizes_are_covered():
    claimed = [n for n in range(4, 1025, 4) if refuses(n) is not None]
    assert claimed == [int(n) for n in UNCOVERED_TO_1024.split()]
    for n in (11008, 13824, 14336, 576, 1536, 5120, 18944, 29568, 27648, 53248, 13696, 65536):
        assert refuses(n) is None, n


@pytest.mark.parametrize("start", [1, 12000, 40000])
def test_sizes_agree_with_the_oracle(start):
    for n in range(start, start + 600):
        assert (refuses(n) is None) == (oracle.split(n) is not None), n


@pytest.mark.parametrize(
    ("n", "nearest"),
    [(3, "2 and 4"), (13, "12 and 16"), (292, "288 and 296"), (65535, "65280 and 65536"), (65537, "65536")],
)
def test_other_sizes_are_refused_with_their_neighbours(n, nearest):
    assert refuses(n) == (
        "hadamard: block must be m * 2^k of at most 65536 with a known Hadamard matrix of order m, "
        f"got {n}; the nearest sizes are {nearest}"
    )
