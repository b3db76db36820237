"""The bounds of the float paths can fail: in every branch of bounds.py an element of a result that is off by twice its
bound is refused, and so is what a wrong kernel would give."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from cuda.bounds import BLOCK_SCALED, assert_twice_is_refused, block_scaled, bound, engine, terms
from cuda.emulated import ARCH, MODELS, run
from cuda.test_dequant_gemm import call as dequant_gemm
from cuda.test_scaled_gemm import call as scaled_gemm
from cuda.test_scaled_gemm import is_float8
from operands import Operand, operand, with_outliers
from oracle import gemm
from torch import Tensor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Case(NamedTuple):
    """A product, and the engine that bounds.py must take for it: what it multiplies, pairs of terms, and whether some
    are left out."""

    x: str  # a format, or the dtype of float activations
    w: str
    multiplies: str
    pairs: int
    left_out: bool = False
    x_zero: str | None = None
    w_zero: str | None = None
    out: str = "fp32"
    arch: str = ARCH
    more: bool = False  # outliers, or a bias


CASES = [
    Case("bf16", "int4:g32", "bf16", 1),
    Case("bf16", "int4:g32", "bf16", 1, out="bf16"),
    Case("fp16", "int4:g32", "f16", 1, out="fp16"),
    Case("fp16", "int4:g32", "f16", 1, out="fp16", more=True),
    Case("fp16", "uint4:g32", "f16", 2, w_zero="int"),
    Case("fp16", "nf4:g64", "bf16", 5, left_out=True),
    Case("fp32", "int4:g32", "bf16", 3),
    Case("fp32", "int4:g32", "bf16", 3, more=True),
    Case("fp32", "nf4:g64", "bf16", 6, left_out=True),
    Case("bf16", "uint4:g32", "bf16", 3, w_zero="float"),
    Case("fp32", "float8_e4m3fn", "bf16", 3),
    Case("int8:g64", "nf4:g64", "bf16", 3),
    Case("uint8:g32", "int4:g32", "bf16", 3, x_zero="float"),
    Case("mxfp8_e4m3", "mxfp4", "bf16", 1),
    Case("float8_e4m3fn", "float8_e4m3fn:g128", "f8", 1, arch="89"),
    Case("float8_e5m2", "float8_e4m3fn:g128", "f8", 1, arch="120f", out="bf16"),
    *(Case(name, name, engine.operand, 1, arch="120f") for name, engine in BLOCK_SCALED.items()),
    Case("mxfp8_e4m3", "mxfp8_e5m2", "mxf8f6f4", 1, arch="120f", more=True),
]  # fmt: skip


def product(case: Case, model: str) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """The result, the exact product and the bound."""
    rng = np.random.default_rng(1)
    w, more = operand(rng, case.w, 9, 300, zero=case.w_zero), {}
    bias = torch.from_numpy(rng.standard_normal(9).astype(np.float32)) if case.more else None
    if case.x in DTYPES and case.more:
        w, more = with_outliers(rng, w, 40, torch.float16)
    kind: dict[str, Any] = {"blocks": block_scaled(case.x, case.w) if case.arch == "120f" else None}
    if case.x in DTYPES:
        x = torch.from_numpy(rng.standard_normal((4, 300)).astype(np.float32)).to(DTYPES[case.x])
        matrix, kind = gemm.dense(x.double().numpy()), kind | {"x_dtype": x.dtype}
    else:
        x = operand(rng, case.x, 4, 300, zero=case.x_zero)
        matrix, kind = x.matrix, kind | {"float8": case.arch in ("89", "120f") and is_float8(x) and is_float8(w)}
    taken = kind["blocks"] or engine(matrix, w.matrix, kind.get("x_dtype"), kind.get("float8", False))
    assert (taken.operand, taken.pairs, taken.left_out > 0) == (case.multiplies, case.pairs, case.left_out)

    def call(ops: Any) -> Tensor:
        function = scaled_gemm if isinstance(x, Operand) else dequant_gemm
        return function(ops, x, w, bias=bias, out_dtype=DTYPES[case.out], **more)

    got = run(call, case.arch, mma=model)
    added = None if bias is None else bias.double().numpy()
    allowed = bound(matrix, w.matrix, added, arch=case.arch, model=model, out=got.dtype, **kind)
    return got, gemm.exact(matrix, w.matrix, added), allowed


def title(case: Case) -> str:
    zeros = f"{case.x_zero or ''}{case.w_zero or ''}"
    return "-".join(filter(None, (case.x, case.w, zeros, case.out, case.arch, "more" * case.more)))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("case", CASES, ids=title)
def test_twice_the_bound_is_refused(case: Case, model: str) -> None:
    assert_twice_is_refused(*product(case, model))


@pytest.mark.parametrize("name", ["int4:g32", "nf4:g64", "float8_e4m3fn"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_bounds_are_far_below_a_lost_column(dtype: torch.dtype, name: str) -> None:
    """A kernel that leaves out one typical product of 300 is beyond them in most outputs; so is one that rounds x to
    bfloat16."""
    rng = np.random.default_rng(2)
    x = torch.from_numpy(rng.standard_normal((4, 300)).astype(np.float32)).to(dtype)
    w = operand(rng, name, 9, 300)
    exact_x = gemm.dense(x.double().numpy())
    want = gemm.exact(exact_x, w.matrix)
    allowed = bound(exact_x, w.matrix, arch=ARCH, model="hardware", out=torch.float32, x_dtype=dtype)
    without = x.double().numpy()
    without[:, 150] = 0
    assert (np.abs(gemm.exact(gemm.dense(without), w.matrix) - want) > allowed).mean() > 0.5
    if dtype != torch.bfloat16:
        rounded = gemm.exact(gemm.dense(x.bfloat16().double().numpy()), w.matrix)
        assert (np.abs(rounded - want) > allowed).mean() > 0.5


def test_terms_of_values() -> None:
    assert terms(np.array([0.0, 1.0, -255.0, 2.0**-100])) == 1
    assert terms(np.array([257.0])) == terms(np.array([-65535.0])) == 2
    assert terms(np.array([2.0**23 + 2.0**15 + 1.0])) == 3
