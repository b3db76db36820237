"""torch.library.opcheck of every overload, on contiguous, strided and empty arguments, with and without gradients.

opcheck calls the op eagerly, on fake tensors and through AOT dispatch with dynamic shapes, and compares shapes,
strides, dtypes, mutations and gradients.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lowbit  # noqa: F401
import pytest
import torch
from torch import Tensor

ops = torch.ops.lowbit
M, N, K = 6, 5, 72


@dataclass
class Case:
    """One call. `like` makes the main argument contiguous, strided or empty."""

    name: str
    op: Callable[..., Any]
    arguments: Callable[[Callable[[Tensor], Tensor]], tuple[Any, ...]]
    keywords: dict[str, Any] = field(default_factory=dict)
    out: Callable[[Tensor], Tensor] | None = None  # makes `out` from the main argument


def contiguous(t: Tensor) -> Tensor:
    return t


def strided(t: Tensor) -> Tensor:
    """The same values in every second column of a wider tensor, whose rows lie apart."""
    wide = t.new_zeros([*t.shape[:-1], 2 * t.size(-1) + 1])
    wide[..., : 2 * t.size(-1) : 2] = t
    return wide[..., : 2 * t.size(-1) : 2]


def empty(t: Tensor) -> Tensor:
    return t[..., :0, :]


LIKE = {"contiguous": contiguous, "strided": strided, "empty": empty}


def floats(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(sum(size))).to(dtype)


def codes(bits: int, *size: int) -> Tensor:
    return torch.randint(0, 1 << bits, size, generator=torch.Generator().manual_seed(bits)).to(torch.uint8)


def scales(*size: int) -> Tensor:
    return floats(*size).abs() + 0.5


def grad(t: Tensor) -> Tensor:
    return t.detach().requires_grad_()


X, DY, SEED = floats(M, K), floats(M, N), torch.tensor([7, 11])
BIAS, SIGN = floats(N), floats(K).sign()
IDS = torch.tensor([[0, N - 1, 2]])
W3, S3 = ops.pack(codes(3, N, K), "int3"), scales(N, 3)  # int3:g32
W3_TILES = ops.prepack(W3, "int3", K)
W3_MMA = ops.prepack(W3, "int3", K, layout="mma64")
W4 = ops.pack(codes(4, N, K), "float4_e2m1fn")
W4_SCALE, W4_SCALE2 = ops.pack(codes(7, N, 5), "float8_e4m3fn").clamp(max=0x7E), scales(1, 1)  # nvfp4
W2 = ops.pack(codes(2, N, K - 16), "uint2")  # four of five groups of 16; the other is in W2_HIGH
W2_HIGH, HIGH_GROUPS, S2 = ops.pack(codes(4, N, 16), "uint4"), torch.tensor([2], dtype=torch.int32), scales(N, 5)
Z2 = codes(2, N, 5).float()
OUTLIERS = {
    "outlier_offsets": torch.tensor([0, 1, 1, 2, 2, 3], dtype=torch.int32),
    "outlier_cols": torch.tensor([3, 71, 0], dtype=torch.int32),
    "outlier_values": floats(3, dtype=torch.bfloat16),
}
TABLE = torch.linspace(-1, 1, 8)
XI = codes(8, M, K).view(torch.int8)
EXPERTS, OFFS = 3, torch.tensor([2, 2, M], dtype=torch.int32)  # the second without rows
WE = ops.pack(codes(3, EXPERTS, N, K), "int3")
SE, BE = scales(EXPERTS, N, 3), floats(EXPERTS, N)

CASES = [
    Case("pack", ops.pack.default, lambda like: (like(codes(3, N, K)), "int3")),
    Case("pack bytes", ops.pack.default, lambda like: (like(codes(6, 2, N, K)), "float6_e3m2fn")),
    Case("pack gptq", ops.pack.default, lambda like: (codes(4, 8, K), "int4"), {"layout": "gptq"}),
    Case("pack awq", ops.pack.default, lambda like: (codes(4, 8, K), "int4"), {"layout": "awq"}),
    Case("unpack", ops.unpack.default, lambda like: (like(W3), "int3", K)),
    Case("prepack", ops.prepack.default, lambda like: (like(W3), "int3:g32", K)),
    Case("prepack plain", ops.prepack.default, lambda like: (like(codes(3, N, K)), "int3:g32", K)),
    Case("prepack mma64", ops.prepack.default, lambda like: (like(W3), "int3:g32", K), {"layout": "mma64"}),
    Case("unprepack", ops.unprepack.default, lambda like: (W3_TILES, "int3:g32", N, K)),
    Case("unprepack mma64", ops.unprepack.default, lambda like: (W3_MMA, "int3:g32@mma64", N, K)),
    Case("truncate", ops.truncate.default, lambda like: (like(W3), S3, None, "int3:g32", 2)),
    Case("truncate alone", ops.truncate.default, lambda like: (like(W3), None, None, "int3:g32", 1)),
    Case("quantize", ops.quantize.default, lambda like: (like(X), "int4:g32")),
    Case("quantize zero", ops.quantize.default, lambda like: (like(X), "uint4:g32"), {"asymmetric": True}),
    Case("quantize plain", ops.quantize.default, lambda like: (like(X), "int8"), {"layout": "plain"}),
    Case("quantize mx", ops.quantize.default, lambda like: (like(X), "mxfp6_e3m2")),
    Case("quantize nvfp4", ops.quantize.default, lambda like: (like(X), "nvfp4")),
    Case("quantize coded", ops.quantize.default, lambda like: (like(X), "int4:g16/uint4:g4")),
    Case("quantize square", ops.quantize.default, lambda like: (like(X), "float8_e4m3fn:b4x32")),
    Case("quantize table", ops.quantize.default, lambda like: (like(X), "table3:g32"), {"table": TABLE}),
    Case(
        "quantize stochastic rotated",
        ops.quantize.default,
        lambda like: (like(X), "int4:g32"),
        {"rounding": "stochastic", "seed": SEED, "hadamard": 8, "scale_dtype": torch.bfloat16},
    ),
    Case("quantize static", ops.quantize.default, lambda like: (like(X), "int8:tensor"), {"scale": scales(1, 1)}),
    Case("quantize batch", ops.quantize.default, lambda like: (like(X.view(2, 3, K)), "int4:g32")),
    Case(
        "dequantize",
        ops.dequantize.default,
        lambda like: (like(W3), S3 if like is not empty else S3[:0], None, "int3:g32", K),
    ),
    Case("dequantize tiles", ops.dequantize.default, lambda like: (W3_TILES, S3, None, "int3:g32@tile16", K)),
    Case(
        "dequantize nvfp4", ops.dequantize.default, lambda like: (W4, W4_SCALE, None, "nvfp4", K), {"scale2": W4_SCALE2}
    ),
    Case("embedding", ops.embedding.default, lambda like: (like(IDS), W3, S3, None, "int3:g32", K)),
    Case("stochastic_round", ops.stochastic_round.default, lambda like: (like(X), "float8_e5m2", SEED)),
    Case("stochastic_round bf16", ops.stochastic_round.default, lambda like: (like(X), "bfloat16", SEED)),
    Case(
        "stochastic_round_update_",
        ops.stochastic_round_update_.default,
        lambda like: (
            W3.clone(),
            S3.clone(),
            None,
            strided(floats(N, K)) if like is strided else floats(N, K),
            "int3:g32",
            SEED,
        ),
        {"rescale": True},
    ),
    Case("hadamard", ops.hadamard.default, lambda like: (like(X),), {"sign": SIGN, "block": 24}),
    Case("hadamard.out", ops.hadamard.out, lambda like: (like(X),), {}, torch.empty_like),
    Case("hadamard.autograd", ops.hadamard.autograd, lambda like: (grad(like(X)), 24, SIGN, None, True)),
    Case(
        "bitplane_gemm",
        ops.bitplane_gemm.default,
        lambda like: (
            like(codes(2, M, K)),
            scales(M) if like is not empty else scales(0),
            None,
            "uint2",
            W3,
            S3,
            None,
            "int3:g32",
            K,
        ),
        {"bias": BIAS},
    ),
    Case(
        "bitplane_gemm raw",
        ops.bitplane_gemm.default,
        lambda like: (like(XI), None, None, "int8", W3, None, None, "int3", K),
        {"out_dtype": torch.int32},
    ),
    Case(
        "scaled_gemm",
        ops.scaled_gemm.default,
        lambda like: (like(XI), None, "int8", W4, W4_SCALE, "nvfp4", K),
        {"w_scale2": W4_SCALE2, "out_dtype": torch.bfloat16},
    ),
    Case("dequant_gemm", ops.dequant_gemm.default, lambda like: (like(X), W3, S3, None, "int3:g32"), {"bias": BIAS}),
    Case(
        "dequant_gemm mixed",
        ops.dequant_gemm.default,
        lambda like: (like(X.bfloat16()), W2, S2, Z2, "uint2:g16"),
        {"w_high": W2_HIGH, "high_groups": HIGH_GROUPS, **OUTLIERS},
    ),
    Case(
        "dequant_gemm table",
        ops.dequant_gemm.default,
        lambda like: (like(X), W3, S3, None, "table3:g32"),
        {"w_table": TABLE},
    ),
    Case(
        "dequant_gemm.autograd",
        ops.dequant_gemm.autograd,
        lambda like: (grad(like(X)), W2, S2, Z2, "uint2:g16"),
        {"w_high": W2_HIGH, "high_groups": HIGH_GROUPS, **OUTLIERS, "bias": grad(BIAS)},
    ),
    Case(
        "dequant_gemm_input_grad",
        ops.dequant_gemm_input_grad.default,
        lambda like: (like(DY.half()), W3, S3, None, "int3:g32", K),
    ),
    Case("gemm", ops.gemm.default, lambda like: (like(X), W3, S3, None, "int3:g32"), {"bias": BIAS}),
    Case(
        "gemm tiles",
        ops.gemm.default,
        lambda like: (like(X.view(2, 3, K).bfloat16()), W3_TILES, S3, None, "int3:g32@tile16"),
    ),
    Case("gemm dynamic", ops.gemm.default, lambda like: (like(X), W3, S3, None, "int3:g32"), {"x_format": "int8"}),
    Case("gemm codes", ops.gemm.default, lambda like: (like(XI), W3, S3, None, "int3:g32"), {"x_format": "int8"}),
    Case(
        "gemm.out",
        ops.gemm.out,
        lambda like: (like(X), W3, S3, None, "int3:g32"),
        {},
        lambda x: x.new_empty(x.size(0), N),
    ),
    Case(
        "gemm.autograd",
        ops.gemm.autograd,
        lambda like: (grad(like(X)), W3, S3, None, "int3:g32"),
        {"bias": grad(BIAS), "x_format": "int8"},
    ),
    Case(
        "grouped_gemm",
        ops.grouped_gemm.default,
        lambda like: (like(X.half()), WE, SE, None, OFFS if like is not empty else OFFS * 0, "int3:g32"),
        {"bias": BE},
    ),
    Case(
        "grouped_gemm.autograd",
        ops.grouped_gemm.autograd,
        lambda like: (grad(like(X)), WE, SE, None, OFFS if like is not empty else OFFS * 0, "int3:g32"),
        {"bias": grad(BE)},
    ),
    Case(
        "grouped_gemm_input_grad",
        ops.grouped_gemm_input_grad.default,
        lambda like: (like(DY.bfloat16()), WE, SE, None, OFFS if like is not empty else OFFS * 0, "int3:g32", K),
    ),
]


@pytest.mark.parametrize("layout", LIKE)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_opcheck(case: Case, layout: str):
    arguments = case.arguments(LIKE[layout])
    keywords = dict(case.keywords)
    if case.out is not None:
        keywords["out"] = case.out(arguments[0])
    torch.library.opcheck(case.op, arguments, keywords)


def test_every_overload_has_a_case():
    registered = {s.name.removeprefix("lowbit::") + (f".{s.overload_name}" if s.overload_name else ".default")
                  for s in torch._C._jit_get_all_schemas() if s.name.startswith("lowbit::")}  # fmt: skip
    checked = {str(case.op).removeprefix("lowbit.") for case in CASES}
    assert registered == checked
