"""The transform against the float64 oracle, on every ISA."""

import lowbit._C as _C
import numpy as np
import pytest
import scipy.linalg
import torch
from compare import vectors_of
from oracle import hadamard as oracle

POWERS = [2**k for k in range(17)]
# every kind of base (Paley I, II, over GF(27) and GF(25), Goethals-Seidel), few and many columns of it
COMPOSITES = [
    12,
    20,
    24,
    28,
    40,
    48,
    52,
    80,
    96,
    92,
    172,
    184,
    320,
    344,
    576,
    768,
    1020,
    1536,
    2752,
    5120,
    11008,
    13824,
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
UNIT = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}  # half a step at 1
LEAST = {torch.float32: 2.0**-149, torch.bfloat16: 2.0**-133, torch.float16: 2.0**-24}


def draw(shape, seed: int, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def signs(n: int, seed: int) -> torch.Tensor:
    return (torch.randint(0, 2, (n,), generator=torch.Generator().manual_seed(seed)) * 2 - 1).float()


def assert_close(y: torch.Tensor, x: torch.Tensor, block: int, sign=None, scale=None, transpose=False):
    """Holds y to the bound that the arithmetic has.

    Every output is a sum of +-x_j over its block, k butterflies and at most m - 1 additions deep: an error of at most
    ((1 + u)^depth - 1) sum |x_j|, u = 2^-24. The product with the scale and the rounding to y's dtype add a relative
    error u and half a step each.
    """
    scale = np.float32(1 / np.sqrt(block) if scale is None else scale).astype(np.float64)
    exact = oracle.transform(x.double().numpy(), block, None if sign is None else sign.numpy(), scale, transpose)
    m, power = oracle.split(block)
    u = 2.0**-24
    depth = power.bit_length() - 1 + m - 1
    magnitude = np.abs(x.double().numpy()).reshape(*x.shape[:-1], -1, block).sum(-1, keepdims=True)
    magnitude = np.broadcast_to(magnitude, (*magnitude.shape[:-1], block)).reshape(x.shape)
    error = np.expm1(depth * np.log1p(u)) * magnitude * abs(scale)
    error = error + 2.0**-149
    for unit, least in ((u, 2.0**-149), (UNIT[y.dtype], LEAST[y.dtype])):
        error = error * (1 + unit) + unit * np.abs(exact) + least / 2
    assert y.shape == x.shape
    difference = np.abs(y.double().numpy() - exact)
    assert np.all(difference <= error), (block, np.max(difference / np.maximum(error, 1e-300)))


def test_natural_order_is_scipys(isa):
    for n in (1, 2, 4, 8, 16, 32, 64, 256, 512):
        h = torch.ops.lowbit.hadamard(torch.eye(n), scale=1.0)
        assert np.array_equal(h.numpy(), scipy.linalg.hadamard(n))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_powers_of_two(isa, dtype):
    for n in POWERS:
        for rows in (1, 3, 17) if n <= 4096 else (2,):
            x = draw((rows, n), n + rows, dtype)
            y = torch.ops.lowbit.hadamard(x)
            assert _C.last_kernel() == f"hadamard:{vectors_of(isa)}"
            assert y.dtype == dtype
            assert_close(y, x, n)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_composites(isa, dtype):
    for n in COMPOSITES:
        for rows in (1, 5, 19) if n <= 400 else (2,):
            x = draw((rows, n), n + rows, dtype)
            y = torch.ops.lowbit.hadamard(x)
            assert _C.last_kernel() == f"hadamard:{vectors_of(isa)}"
            assert_close(y, x, n)


@pytest.mark.parametrize("n", [2, 8, 16, 64, 256, 512, 4096, 8192, 65536, 12, 28, 96, 192, 320, 448, 1536, 2752, 13824])
def test_integers_are_exact(isa, n):
    limit = 2**24 // n
    x = torch.randint(-limit, limit + 1, (3, n), generator=torch.Generator().manual_seed(n)).float()
    for transpose in (False, True):
        y = torch.ops.lowbit.hadamard(x, scale=1.0, transpose=transpose)
        assert np.array_equal(y.numpy(), oracle.transform(x.numpy(), n, transpose=transpose))
    # H^T H = n I
    x = torch.randint(-3, 4, (3, n), generator=torch.Generator().manual_seed(n)).float()
    if 3 * n * n <= 2**24:
        back = torch.ops.lowbit.hadamard(torch.ops.lowbit.hadamard(x, scale=1.0), scale=1.0, transpose=True)
        assert torch.equal(back, n * x)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("block", [1, 2, 4, 8, 12, 16, 32, 64, 24, 28, 128, 256, 512, 1024, 192, 576, 8192])
def test_blocks_signs_and_scale(isa, block, transpose):
    for count in (1, 3) if block < 1024 else (2,):
        x = draw((5, block * count), block, torch.float32)
        for length in (block, block * count):
            sign = signs(length, block)
            y = torch.ops.lowbit.hadamard(x, block=block, sign=sign, scale=-0.3, transpose=transpose)
            assert_close(y, x, block, sign, -0.3, transpose)


VIEWS = {
    "column_step": lambda r, n: draw((r, 3 * n), 1)[:, 1::3],
    "transposed": lambda r, n: draw((n, r), 2).t(),
    "transposed_step": lambda r, n: draw((n, 2 * r), 3)[:, ::2].t(),
    "row_step": lambda r, n: draw((r, n + 5), 4)[:, 2 : n + 2],
    "one_row": lambda r, n: draw((1, n), 5).expand(r, n),
    "three_axes": lambda r, n: draw((2, r, n), 6).transpose(0, 1),
    "reversed_axes": lambda r, n: draw((n, r, 2), 7).permute(2, 1, 0),
    "vector": lambda r, n: draw((n,), 8),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("block", [4, 16, 64, 512, 8192, 12, 24, 192])
def test_strides(isa, view, block):
    n = 3 * block if block < 1024 else block
    x = VIEWS[view](37 if block < 200 else 7, n)
    assert_close(torch.ops.lowbit.hadamard(x, block=block), x, block)
    # into a strided output
    for spread in (
        lambda s: torch.empty(*s[:-1], 2 * s[-1])[..., ::2],
        lambda s: torch.empty(*s[::-1]).permute(*range(len(s) - 1, -1, -1)),
    ):
        out = spread(x.shape)
        if out.dim() == 3 and out.stride(0) < out.stride(1):
            continue  # leading axes that are no matrix are refused
        torch.ops.lowbit.hadamard.out(x, block=block, out=out)
        assert_close(out, x, block)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("block", [2, 16, 256, 512, 4096, 16384, 12, 28, 1536])
def test_in_place_equals_out_of_place(isa, block, dtype):
    whole = draw((6, 2 * block + 3), block, dtype)
    for x in (draw((5, block), block, dtype), whole[::2, 1 : 2 * block + 1], draw((2 * block, 3), block, dtype).t()):
        expected = torch.ops.lowbit.hadamard(x, block=block)
        torch.ops.lowbit.hadamard.out(x, block=block, out=x)
        assert torch.equal(x, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("out_dtype", DTYPES, ids=str)
def test_out_of_another_dtype(isa, dtype, out_dtype):
    for n in (8, 96, 256, 2048):
        x = draw((5, n), n, dtype)
        out = torch.empty(5, n, dtype=out_dtype)
        torch.ops.lowbit.hadamard.out(x, out=out)
        assert_close(out, x, n)


@pytest.mark.parametrize("n", [4, 64, 1024, 16384, 12, 192, 1536])
def test_a_row_does_not_depend_on_its_batch_or_threads(isa, n):
    x = draw((37, n), n)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = torch.cat([torch.ops.lowbit.hadamard(row[None]) for row in x])
        torch.set_num_threads(2)
        assert torch.equal(torch.ops.lowbit.hadamard(x), alone)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("n", [8, 256, 1024, 12, 192])
def test_special_values(isa, n):
    x = torch.zeros(3, n)
    x[0, 1], x[1, 2] = float("nan"), float("inf")
    y = torch.ops.lowbit.hadamard(x)
    assert torch.all(torch.isnan(y[0]))
    assert torch.all(torch.isinf(y[1]) | torch.isnan(y[1]))
    assert torch.equal(y[2], torch.zeros(n))
    tiny = torch.full((2, n), 2.0**-140)  # subnormal: not flushed
    assert torch.equal(torch.ops.lowbit.hadamard(tiny, scale=1.0)[:, 0], torch.full((2,), n * 2.0**-140))
    for dtype, least in ((torch.bfloat16, 2.0**-133), (torch.float16, 2.0**-24)):
        tiny = torch.full((2, n), least, dtype=dtype)
        assert torch.equal(
            torch.ops.lowbit.hadamard(tiny, scale=1.0)[:, 0].double(), torch.full((2,), n * least).double()
        )
        y = torch.ops.lowbit.hadamard(tiny, scale=1.0 / n)[:, 0]
        assert torch.equal(
            y.double(), torch.full((2,), float(np.float32(1.0 / n)) * n * least).double().to(dtype).double()
        )
    # sums beyond 65504 are held in fp32
    big = torch.full((1, n), 60000.0, dtype=torch.float16)
    assert torch.ops.lowbit.hadamard(big, scale=1 / n)[0, 0] == 60000.0
    assert torch.isinf(torch.ops.lowbit.hadamard(big, scale=1.0)[0, 0])


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
@pytest.mark.parametrize("n", [4, 128, 512, 16384, 12, 24, 172, 192, 1536, 2752])
def test_rounds_once_ties_to_even(isa, n, dtype):
    """Integers are exact in fp32, and every other sum or so lies half way between two 16-bit floats."""
    x = torch.randint(-200, 201, (3, n), generator=torch.Generator().manual_seed(n)).to(dtype)
    exact = torch.ops.lowbit.hadamard(x.float(), scale=1.0)
    assert torch.equal(torch.ops.lowbit.hadamard(x, scale=1.0), exact.to(dtype))


def test_empty(isa):
    for shape in ((0, 64), (3, 0), (0,), (2, 0, 12)):
        assert torch.ops.lowbit.hadamard(torch.empty(shape)).shape == shape
