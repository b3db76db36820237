"""hadamard on CUDA against float64: exact on small integers, within the bound of csrc/cuda/hadamard.h on others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cuda.bounds import assert_twice_is_refused, assert_within
from cuda.kernels import ARCH, ARCHS, MODELS, Call, CHadamard, Device, KernelError, on, twice, unwritten, workspace
from oracle import hadamard as oracle
from torch import Tensor


def hadamard(
    x: Tensor,
    block: int,
    arch: str = ARCH,
    mma: str = "exact",
    *,
    sign: Tensor | None = None,
    scale: float = 1.0,
    transpose: bool = False,
    dtype: torch.dtype | None = None,
    in_place: bool = False,
    repeat: bool = False,
) -> Tensor:
    def call() -> Tensor:
        device = Device(x)
        out = device if in_place else unwritten(torch.empty(x.shape, dtype=dtype or x.dtype))
        signs = Device(sign) if sign is not None else None
        args = CHadamard(
            device.matrix(),
            out.matrix(),
            block,
            signs.pointer if signs else None,
            len(sign) if sign is not None else 0,
            scale,
            transpose,
        )
        assert not Call(workspace("lowbit_cuda_hadamard_workspace", args)).run("lowbit_cuda_hadamard", args)
        return out.get()

    with on(arch, mma=mma):
        return twice(call) if repeat else call()


SIZES = [1, 2, 4, 8, 16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]
COMPOSITES = [12, 20, 24, 36, 60, 96, 172, 344, 576, 768, 1536, 2752, 5120, 11008, 14336]
LONG = [28672, 40960, 920]  # two passes; 230 = 2 (113 + 1) has more signs than a parameter holds
U = 2.0**-24
MMA = 22 * U  # csrc/cuda/hadamard.h
UNIT = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


def integers(rows: int, cols: int, most: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(-most, most + 1, (rows, cols), generator=g).float()


def signs(n: int) -> Tensor:
    return (torch.randint(0, 2, (n,), generator=torch.Generator().manual_seed(n)) * 2 - 1).float()


def exact(x: Tensor, block: int, sign: Tensor | None, scale: float, transpose: bool) -> np.ndarray:
    s = np.float64(np.float32(scale))
    return oracle.transform(x.double().numpy(), block, None if sign is None else sign.numpy(), s, transpose)


def bound(want: np.ndarray, x: Tensor, block: int, scale: float, dtype: torch.dtype) -> np.ndarray:
    """Of a result of `dtype`, as csrc/cuda/hadamard.h derives it: with S = |scale| sum |x| of the block, gamma S for
    the log2 n + m - 1 additions that a term passes and its product with the scale; 22 u S where tensor cores add; half
    an ulp of a 16-bit result."""
    m, power = oracle.split(block)
    roundings = power.bit_length() - 1 + m
    gamma = roundings * U / (1 - roundings * U)
    s = abs(np.float64(np.float32(scale)))
    sums = np.abs(x.double().numpy()).reshape(len(x), -1, block).sum(-1, keepdims=True) * s
    before = gamma * sums
    if x.dtype != torch.float32 and power >= 32:
        least = 2.0**-14 if x.dtype == torch.float16 else 2.0**-126
        before = before + MMA * (sums + s * block / 16 * least)
    before = np.repeat(before, block, -1).reshape(x.shape)
    unit = UNIT[dtype] if dtype != torch.float32 else 0.0
    return before + unit * (np.abs(want) + before) + 2.0**-149


def check(
    x: Tensor, block: int, arch: str | None = None, *, sign: Tensor | None = None, scale: float = 1.0,
    transpose: bool = False, dtype: torch.dtype | None = None, mma: str = "exact", refuse: bool = False,
) -> None:  # fmt: skip
    y = hadamard(x, block, arch or ARCH, mma, sign=sign, scale=scale, transpose=transpose, dtype=dtype)
    want = exact(x, block, sign, scale, transpose)
    allowed = bound(want, x, block, scale, y.dtype)
    (assert_twice_is_refused if refuse else assert_within)(y, want, allowed)


@pytest.mark.parametrize("block", [*SIZES, *COMPOSITES, *LONG])
def test_exact_on_integers(block: int) -> None:
    x = integers(3 if block < 5000 else 1, block * (2 if block < 5000 else 1), 3, block)
    x = x if block % 3 else x.to(torch.bfloat16)
    got = hadamard(x, block, dtype=torch.float32)
    assert np.array_equal(got.double().numpy(), oracle.transform(x.double().numpy(), block, None, 1.0, False))


@pytest.mark.parametrize("arch", ["89", "90", "120f"])
@pytest.mark.parametrize("block", [b for b in [*SIZES, *COMPOSITES] if b <= 2048])
def test_exact_on_integers_on_architectures(block: int, arch: str) -> None:
    x = integers(1, block, 3, block)
    got = hadamard(x, block, arch, dtype=torch.float32)
    assert np.array_equal(got.double().numpy(), oracle.transform(x.double().numpy(), block, None, 1.0, False))


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_within_the_bound_as_tensor_cores_add(arch: str, dtype: torch.dtype) -> None:
    for block in (32, 256, 576, 1024):
        x = torch.randn(2, 2 * block, generator=torch.Generator().manual_seed(block)).to(dtype)
        check(x, block, arch, mma="hardware", dtype=torch.float32, sign=signs(block), scale=0.3)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("block", [4, 12, 128, 172, 512, 2048, 2752, 32768, 65536])
def test_within_the_bound(block: int, transpose: bool) -> None:
    for dtype in UNIT:
        x = torch.randn(2, 2 * block if block < 3000 else block, generator=torch.Generator().manual_seed(block)).to(
            dtype
        )
        for sign in (None, signs(block), signs(x.shape[1])):
            check(x, block, sign=sign, scale=0.37, transpose=transpose)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtypes", [(a, b) for a in UNIT for b in (a, torch.float32)], ids=str)
@pytest.mark.parametrize("block", [8, 512, 576, 4096])
def test_twice_the_bound_is_refused(block: int, dtypes: tuple[torch.dtype, torch.dtype], model: str) -> None:
    x = torch.randn(2, block, generator=torch.Generator().manual_seed(block)).to(dtypes[0])
    check(x, block, dtype=dtypes[1], scale=0.37, sign=signs(block), mma=model, refuse=True)


def test_the_bound_is_far_below_a_lost_term() -> None:
    """A transform that leaves out one element of 4,096, or rounds x to bfloat16, is beyond it in most outputs."""
    x = torch.randn(1, 4096, generator=torch.Generator().manual_seed(3))
    want = exact(x, 4096, None, 1.0, False)
    allowed = bound(want, x, 4096, 1.0, torch.float32)
    lost = x.clone()
    lost[0, 100] = 0
    for wrong in (lost, x.bfloat16().float()):
        assert (np.abs(exact(wrong, 4096, None, 1.0, False) - want) > allowed).mean() > 0.5


@pytest.mark.parametrize("block", [64, 576, 4096, 28672])
def test_the_same_bits_in_any_order_of_blocks(block: int) -> None:
    for dtype in UNIT if block < 10000 else [torch.bfloat16]:
        x = torch.randn(3, block, generator=torch.Generator().manual_seed(block)).to(dtype)
        for model in MODELS:
            hadamard(x, block, mma=model, sign=signs(block), scale=0.37, repeat=True)


@pytest.mark.parametrize("arch", ["89", "90", "120f"])
@pytest.mark.parametrize("block", [64, 36, 1024, 576, 32768])
def test_architectures(block: int, arch: str) -> None:
    for dtype in UNIT:
        x = integers(2, block, 3).to(dtype)
        assert torch.equal(hadamard(x, block, arch), hadamard(x, block))


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("rows", [0, 1, 3, 8, 17, 64, 129])
def test_rows(rows: int, arch: str) -> None:
    for block, dtype in ((12, torch.float32), (32, torch.bfloat16), (64, torch.float16)):
        x = integers(rows, 2 * block, 3, rows).to(dtype)
        got = hadamard(x, block, arch, dtype=torch.float32)
        assert np.array_equal(got.double().numpy(), oracle.transform(x.double().numpy(), block, None, 1.0, False))


def test_strides_and_dtypes() -> None:
    wide = integers(192, 300, 3)
    for x in (
        wide[:9:2, 10:202],
        wide.T[:7],
        wide[:5, :192].to(torch.bfloat16)[1:],
        wide[:5, 8:200].to(torch.bfloat16)[:, ::1],
    ):
        for block in (4, 12, 16, 48, 64, 96):
            want = oracle.transform(x.double().numpy(), block, None, 1.0, False)
            got = hadamard(x, block, dtype=torch.float32)
            assert np.array_equal(got.double().numpy(), want)


@pytest.mark.parametrize("block", [8, 256, 576, 4096, 32768, 65536])
def test_in_place(block: int) -> None:
    x = integers(2, block, 2)
    assert torch.equal(hadamard(x, block, in_place=True), hadamard(x, block))


def test_twice_is_the_identity() -> None:
    """Integers are exact on the way there; on the way back stands the bound."""
    x = integers(4, 1536, 8)
    there = hadamard(x, 1536, sign=signs(1536))
    back = hadamard(there, 1536, sign=signs(1536), scale=1 / 1536, transpose=True)
    scale = np.float64(np.float32(1 / 1536))
    want = x.double().numpy() * (1536 * scale)
    assert_within(back, want, bound(want, there, 1536, scale, torch.float32))


def test_sizes_are_those_of_the_cpu() -> None:
    """Every m up to 260, most of which have no power of two to go with."""
    taken = []
    for block in (1, 2, 6, *range(4, 261, 4)):
        x = integers(1, block, 3, block)
        try:
            want = torch.ops.lowbit.hadamard(x, block=block, scale=1.0)
        except ValueError:
            with pytest.raises(KernelError, match="hadamard: block must be m"):
                hadamard(x, block)
            continue
        taken.append(block)
        assert torch.equal(hadamard(x, block), want)
    assert {12, 20, 28, 36, 44, 52, 60, 108, 172, 228, 260} <= set(taken)


def test_refusals() -> None:
    with pytest.raises(KernelError, match="hadamard: block must be m"):
        hadamard(torch.zeros(1, 6), 6)
    assert hadamard(torch.zeros(0, 64), 64).numel() == 0
