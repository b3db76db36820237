"""A launch of the kernels of every family on the emulator: the threads and the dynamic shared memory that launchers ask
for, which machine code does not tell."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from cuda import sass
from cuda.emulated import launches
from operands import operand

ROWS_OF_X = (3, 33)  # few, and many
N, K = 16, 128
FLOAT8 = ("float8_e4m3fn", "float8_e5m2")
MICRO = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "nvfp4")
# x and w of scaled_gemm
PAIRS = [
    *(("int8", f"int{bits}") for bits in range(1, 9)), ("int8", "float4_e2m1fn:g32"),
    *((x, w) for x in ("int4", "uint4") for w in ("int4", "uint4")), *((x, w) for x in FLOAT8 for w in FLOAT8),
    *((name, name) for name in MICRO), ("mxfp8_e4m3", "mxfp8_e5m2"), ("mxfp8_e5m2", "mxfp8_e4m3"),
]  # fmt: skip
# w of dequant_gemm
WEIGHTS = [*(f"int{bits}:g64" for bits in range(1, 9)), "float4_e2m1fn", "float6_e3m2fn", "float8_e4m3fn"]


def products(ops: Any) -> None:
    rng = np.random.default_rng(0)
    for m in ROWS_OF_X:
        for layout in ("canonical", "mma64"):
            for x_format, w_format in PAIRS:
                x, w = operand(rng, x_format, m, K), operand(rng, w_format, N, K, layout=layout)
                ops.scaled_gemm(
                    x.codes, x.scale, x.format, w.codes, w.scale, w.format, K, x_scale2=x.scale2, w_scale2=w.scale2
                )
            for dtype in (torch.bfloat16, torch.float16):
                for w_format in WEIGHTS:
                    w = operand(rng, w_format, N, K, layout=layout)
                    ops.dequant_gemm(torch.ones(m, K, dtype=dtype), w.codes, w.scale, None, w.format)
        for planes in range(1, 5):
            x, w = operand(rng, "int1", m, K), operand(rng, f"int{planes}", N, K)
            ops.bitplane_gemm(x.codes, x.scale, None, x.format, w.codes, w.scale, None, w.format, K)
        w = operand(rng, "int4", N, K)
        ops.dequant_gemm_input_grad(torch.ones(m, N), w.codes, w.scale, None, w.format, K)


def others(ops: Any) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        for block in (128, 2048, 16384, 32768):
            ops.hadamard(torch.ones(1, block, dtype=dtype))
        for format in ("int4:g32", "int4:row", "float8_e4m3fn:row", "nf4:row", "int8:tensor"):
            x = torch.ones(2, 4096, dtype=dtype)
            codes, scale, _, _ = ops.quantize(x, format)
            ops.dequantize(codes, scale, None, format, 4096)
            ops.stochastic_round_update_(codes, scale, None, x, format, torch.tensor([1, 2]))


@cache
def sample(arch: str) -> dict[str, tuple[int, int]]:
    """Threads of a block and bytes of dynamic shared memory, the most of it, by the kernel's name (sass.name_of)."""
    found: dict[str, tuple[int, int]] = {}
    for launch in launches(lambda ops: (products(ops), others(ops)), arch, races="0"):
        name = sass.name_of(launch["kernel"])
        threads = int(np.prod(launch["block"]))
        found[name] = max(found.get(name, (0, 0)), (threads, launch["shared"]))
    return found
