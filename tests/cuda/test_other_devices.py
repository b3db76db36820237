"""Devices that run the code of another architecture: sm_86 that of sm_80 with 99 KB of shared memory a block, of which
that has 163, sm_121 that of sm_120f. What is launched fits, and the results are what they are elsewhere."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from cuda import sass
from cuda.emulated import launches, run, same_bits
from cuda.kernels import CODE
from cuda.test_bitplane_gemm import check as check_planes
from cuda.test_dequant_gemm import check as check_dequantized
from cuda.test_hadamard import check as check_hadamard
from cuda.test_scaled_gemm import call, check_bits, check_near
from operands import operand

SHARED_PER_BLOCK = 99 * 1024
DEVICES = tuple(CODE)


def activations(rng: np.random.Generator, m: int, k: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal((m, k)).astype(np.float32)).to(dtype)


def shared(function: Any, arch: str) -> int:
    """Dynamic bytes of a block."""
    return max(launch["shared"] for launch in launches(function, arch))


def test_fewer_stages_where_there_is_less() -> None:
    rng = np.random.default_rng(1)
    x, w = operand(rng, "float8_e4m3fn", 33, 300), operand(rng, "uint8:g16", 40, 300, layout="mma64", zero="float")
    taken = {arch: shared(lambda ops: call(ops, x, w), arch) for arch in ("80", "86")}
    assert taken["80"] > SHARED_PER_BLOCK, "the product must be one that takes more than sm_86 has"
    assert taken["86"] <= SHARED_PER_BLOCK
    any_kernel = sass.Kernel("", Counter(), registers=255)
    assert [sass.occupancy(any_kernel, "86", 128, taken[arch]) > 0 for arch in ("80", "86")] == [False, True]
    check_near(x, w, arch="86")


@pytest.mark.parametrize("arch", DEVICES)
@pytest.mark.parametrize("m", [3, 33])
def test_products(m: int, arch: str) -> None:
    rng = np.random.default_rng(2)
    check_bits(operand(rng, "int8:g64", m, 300), operand(rng, "int4:g32", 40, 300, layout="mma64"), arch)
    check_bits(operand(rng, "int4", m, 300), operand(rng, "int4", 40, 300, layout="mma64"), arch)
    check_planes(operand(rng, "int2", m, 300), operand(rng, "uint3:g128", 40, 300), arch)
    for format in ("float8_e4m3fn", "mxfp8_e4m3", "nvfp4"):
        check_near(operand(rng, format, m, 300), operand(rng, format, 40, 300, layout="mma64"), arch=arch)
    for dtype, format in ((torch.float32, "nf4:g64"), (torch.bfloat16, "int4:g32"), (torch.float16, "uint8:g16")):
        check_dequantized(activations(rng, m, 300, dtype), operand(rng, format, 40, 300), arch=arch)


@pytest.mark.parametrize("arch", DEVICES)
def test_other_families(arch: str) -> None:
    x = torch.randn(3, 16384, generator=torch.Generator().manual_seed(0))
    for format in ("int4:g32", "int8:row", "nvfp4", "float8_e4m3fn:tensor"):

        def quantized(ops: Any, format: str = format) -> Any:
            return ops.quantize(x, format, rounding="stochastic", seed=torch.tensor([1, 2]))

        assert same_bits(run(quantized, arch), run(quantized, CODE[arch]))
    for dtype in (torch.float32, torch.bfloat16):
        check_hadamard(x.to(dtype), 16384, arch, scale=0.1, mma="hardware")
