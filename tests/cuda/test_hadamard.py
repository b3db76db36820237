"""hadamard on CUDA against float64: exact on small integers, within the bound of csrc/cuda/hadamard.h on others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cuda.kernels import Call, CHadamard, Device, KernelError, on, unwritten, workspace
from oracle import hadamard as oracle
from torch import Tensor


def hadamard(
    x: Tensor,
    block: int,
    arch: str = "80",
    mma: str = "exact",
    *,
    sign: Tensor | None = None,
    scale: float = 1.0,
    transpose: bool = False,
    dtype: torch.dtype | None = None,
    in_place: bool = False,
) -> Tensor:
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
    with on(arch, mma=mma):
        assert not Call(workspace("lowbit_cuda_hadamard_workspace", args)).run("lowbit_cuda_hadamard", args)
    return out.get()


SIZES = [1, 2, 4, 8, 16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]
COMPOSITES = [12, 20, 24, 36, 60, 96, 172, 344, 576, 768, 1536, 2752, 5120, 11008, 14336]
LONG = [28672, 40960, 920]  # two passes; 230 = 2 (113 + 1) has more signs than a parameter holds
MMA = 22 * 2.0**-24  # csrc/cuda/hadamard.h
UNIT = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


def integers(rows: int, cols: int, most: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(-most, most + 1, (rows, cols), generator=g).float()


def signs(n: int) -> Tensor:
    return (torch.randint(0, 2, (n,), generator=torch.Generator().manual_seed(n)) * 2 - 1).float()


def error_over_bound(y: Tensor, x: Tensor, block: int, sign: Tensor | None, scale: float, transpose: bool) -> float:
    """The largest error as a part of the bound of csrc/cuda/hadamard.h."""
    s = np.float64(np.float32(scale))
    exact = oracle.transform(x.double().numpy(), block, None if sign is None else sign.numpy(), s, transpose)
    m, power = oracle.split(block)
    additions = power.bit_length() - 1 + m - 1
    u = 2.0**-24
    gamma = (additions + 1) * u / (1 - (additions + 1) * u)
    sums = np.abs(x.double().numpy()).reshape(len(x), -1, block).sum(-1, keepdims=True) * abs(s)
    if x.dtype != torch.float32 and power >= 32:
        least = 2.0**-14 if x.dtype == torch.float16 else 2.0**-126
        sums = sums * (1 + MMA / gamma) + MMA / gamma * abs(s) * block / 16 * least
    before = np.repeat(gamma * sums, block, -1).reshape(x.shape)
    unit = UNIT[y.dtype] if y.dtype != torch.float32 else 0.0
    bound = before + unit * (np.abs(exact) + before) + 2.0**-149
    return float((np.abs(y.double().numpy() - exact) / bound).max())


@pytest.mark.parametrize("block", [*SIZES, *COMPOSITES, *LONG])
def test_exact_on_integers(block: int) -> None:
    x = integers(3 if block < 5000 else 1, block * (2 if block < 5000 else 1), 3, block)
    x = x if block % 3 else x.to(torch.bfloat16)
    got = hadamard(x, block, dtype=torch.float32)
    assert np.array_equal(got.double().numpy(), oracle.transform(x.double().numpy(), block, None, 1.0, False))


@pytest.mark.parametrize("arch", ["80", "89", "90", "120f"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_within_the_bound_as_tensor_cores_add(arch: str, dtype: torch.dtype) -> None:
    for block in (32, 256, 576, 1024):
        x = torch.randn(2, 2 * block, generator=torch.Generator().manual_seed(block)).to(dtype)
        y = hadamard(x, block, arch, mma="hardware", dtype=torch.float32, sign=signs(block), scale=0.3)
        assert error_over_bound(y, x, block, signs(block), 0.3, False) <= 1


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("block", [4, 12, 128, 172, 512, 2048, 2752, 32768, 65536])
def test_within_the_bound(block: int, transpose: bool) -> None:
    for dtype in UNIT:
        x = torch.randn(2, 2 * block if block < 3000 else block, generator=torch.Generator().manual_seed(block)).to(
            dtype
        )
        for sign in (None, signs(block), signs(x.shape[1])):
            y = hadamard(x, block, sign=sign, scale=0.37, transpose=transpose)
            assert error_over_bound(y, x, block, sign, 0.37, transpose) <= 1


def test_the_bound_is_tight_enough_to_fail() -> None:
    x = torch.randn(1, 512, generator=torch.Generator().manual_seed(0))
    y = hadamard(x, 512)
    assert error_over_bound(y, x, 512, None, 1.0, False) <= 1
    y[0, 7] += 1e-4 * x.abs().sum()
    assert error_over_bound(y, x, 512, None, 1.0, False) > 1


@pytest.mark.parametrize("arch", ["89", "90", "120f"])
@pytest.mark.parametrize("block", [64, 36, 1024, 576, 32768])
def test_architectures(block: int, arch: str) -> None:
    for dtype in UNIT:
        x = integers(2, block, 3).to(dtype)
        assert torch.equal(hadamard(x, block, arch), hadamard(x, block))


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
    x = integers(4, 1536, 8)
    there = hadamard(x, 1536, sign=signs(1536))
    back = hadamard(there, 1536, sign=signs(1536), scale=1 / 1536, transpose=True)
    assert torch.allclose(back, x, rtol=0, atol=1e-3)


def test_refusals() -> None:
    with pytest.raises(KernelError, match="hadamard: block must be m"):
        hadamard(torch.zeros(1, 6), 6)
    assert hadamard(torch.zeros(0, 64), 64).numel() == 0
