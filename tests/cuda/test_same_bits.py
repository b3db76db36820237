"""Every entry point of csrc/cuda/c_api gives the same bits twice: of launches of many blocks, K shared among them where
a family does so, whose blocks and warps take turns in another order the second time."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from cuda import kernels
from cuda import test_grouped_gemm as grouped
from cuda.gemms import gemm
from cuda.test_hadamard import hadamard, signs
from cuda.test_input_grad import gradients, input_grad
from cuda.test_pack import random_codes
from cuda.test_pack import run as run_pack
from cuda.test_quantize import SEED, dequantize, quantize, values
from cuda.test_stochastic_round import stochastic_round, update
from cuda.weights import LAYOUTS
from lowbit import ops
from operands import operand

C_API = Path(__file__).resolve().parents[2] / "csrc" / "cuda" / "c_api"
Run = Callable[[str, str], object]  # architecture, model of the tensor cores
ROWS_OF_X = (3, 40)  # the narrow loop, and the wide one
N, K = 40, 4096  # few tiles: the loops share K


def product(family: str, x: str, w: str, layout: str, arch: str, mma: str) -> object:
    rng = np.random.default_rng(0)
    weight, found = operand(rng, w, N, K, layout=layout), []
    for m in ROWS_OF_X:
        given = gradients(rng, m, K, getattr(torch, x)) if hasattr(torch, x) else operand(rng, x, m, K)
        found.append(gemm(family, given, weight, N, K, arch, mma=mma))
    return found


def of_experts(run: Callable[..., object], columns: int, arch: str, mma: str) -> object:
    rng = np.random.default_rng(1)
    _, w = grouped.experts(rng, "int4:g32", "canonical")
    with kernels.on(arch, mma=mma):
        return run(w, grouped.OFFS[0], gradients(rng, grouped.ROWS, columns, torch.bfloat16))


def gradient(arch: str, mma: str) -> object:
    rng = np.random.default_rng(2)
    w, dy = operand(rng, "uint4:g64", 200, 600), gradients(rng, 70, 200, torch.float32)
    with kernels.on(arch, mma=mma):
        return input_grad(dy, w, 600, torch.empty(70, 600))


def transforms(arch: str, mma: str) -> object:
    found = []
    for block in (64, 576, 4096, 28672):
        x = values(3, block, torch.bfloat16)
        found.append(hadamard(x, block, arch, mma, sign=signs(block), scale=0.37))
    return found


def quantized(arch: str, mma: str) -> object:
    x = values(40, 2048, torch.bfloat16)
    plain = ("int4:g64", "nvfp4", "float8_e4m3fn:tensor", "float8_e4m3fn:b128x128", "int8:row", "nf4:g64")
    found = [quantize(x, it, arch) for it in plain]
    return [*found, quantize(x, "int4:tensor", arch, hadamard=1024, rounding="stochastic", seed=SEED)]


def dequantized(arch: str, mma: str) -> object:
    codes, scale, _, scale2 = ops.quantize(values(40, 2048, torch.float32), "nvfp4")
    return dequantize(codes, "nvfp4", 2048, 40, torch.bfloat16, arch, scale=scale, scale2=scale2)


def rounded(arch: str, mma: str) -> object:
    return stochastic_round(values(40, 2048, torch.bfloat16), "int4", arch)


def updated(arch: str, mma: str) -> object:
    x = values(40, 2048, torch.float32)
    return [update(x, 0.1 * x, it, rescale=True, arch=arch) for it in ("int4:g64", "float8_e4m3fn:tensor")]


def packed(op: str, arch: str, mma: str) -> object:
    shape, name = (130, 1100), "int3"
    codes = random_codes(name, *shape)
    planes = ops.pack(codes, name)
    tiles = ops.prepack(planes, name, shape[1], layout="mma64")
    given, layout, like, *more = {
        "pack": (codes, "plain", planes, -1), "unpack": (tiles, "mma64", codes, -1),
        "prepack": (planes, "canonical", tiles, LAYOUTS["mma64"]), "unprepack": (tiles, "mma64", planes),
    }[op]  # fmt: skip
    with kernels.on(arch):
        return run_pack(op, given, name, layout, shape, like, *more)


def all_of(*runs: Run) -> Run:
    return lambda arch, mma: [run(arch, mma) for run in runs]


OPS: dict[str, Run] = {
    "bitplane_gemm": all_of(
        partial(product, "bitplane_gemm", "uint2:row", "uint1:g128", "canonical"),
        partial(product, "bitplane_gemm", "uint8:row", "int5:g64", "mma64"),
    ),
    "dequant_gemm": all_of(
        partial(product, "dequant_gemm", "bfloat16", "int4:g128", "mma64"),
        partial(product, "dequant_gemm", "float32", "uint3:g96", "canonical"),
    ),
    "scaled_gemm": all_of(
        partial(product, "scaled_gemm", "int8:row", "int4:g64", "mma64"),
        partial(product, "scaled_gemm", "float8_e4m3fn:row", "float8_e4m3fn:b128x128", "mma64"),
        partial(product, "scaled_gemm", "nvfp4", "nvfp4", "mma64"),
    ),
    "grouped_gemm": partial(of_experts, grouped.grouped_gemm, grouped.K),
    "grouped_gemm_input_grad": partial(of_experts, grouped.grouped_input_grad, grouped.N),
    "dequant_gemm_input_grad": gradient,
    "hadamard": transforms,
    "quantize": quantized,
    "dequantize": dequantized,
    "stochastic_round": rounded,
    "update": updated,
    **{op: partial(packed, op) for op in ("pack", "unpack", "prepack", "unprepack")},
}
FLOATS = [op for op in OPS if "gemm" in op or op == "hadamard"]


def test_every_entry_point_is_here() -> None:
    texts = [path.read_text() for path in C_API.glob("*.cpp")]
    named = {n for t in texts for n in re.findall(r"int lowbit_cuda_(\w+)\([^)]*const cuda::CCall\* call", t)}
    assert named | {n for t in texts for n in re.findall(r"^LOWBIT_GEMM\((\w+)\)", t, re.M)} == set(OPS)


@pytest.mark.parametrize("arch", kernels.ARCHS)
@pytest.mark.parametrize(
    ("op", "model"), [(op, m) for op in OPS for m in (kernels.MODELS if op in FLOATS else ["hardware"])]
)
def test_the_same_bits(op: str, model: str, arch: str) -> None:
    def call() -> object:
        with kernels.once():  # what it calls may run twice by itself
            return OPS[op](arch, model)

    with kernels.on(arch, mma=model):
        kernels.twice(call)
