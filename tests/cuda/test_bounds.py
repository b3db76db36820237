"""The bounds of the float paths can fail: twice the bound is refused, and so is what a wrong kernel would give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cuda.bounds import assert_within, bound, terms
from cuda.emulated import MODELS, run
from operands import operand
from oracle import gemm


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["int4:g32", "nf4:g64", "float8_e4m3fn"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_twice_the_bound_fails(dtype: torch.dtype, name: str, model: str) -> None:
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.standard_normal((4, 300)).astype(np.float32)).to(dtype)
    w = operand(rng, name, 9, 300)
    exact_x = gemm.dense(x.double().numpy())
    want = gemm.exact(exact_x, w.matrix)
    allowed = bound(exact_x, w.matrix, arch="80", model=model, out=torch.float32, x_dtype=dtype)
    got = run(lambda ops: ops.dequant_gemm(x, w.codes, w.scale, None, name, out_dtype=torch.float32), mma=model)
    assert_within(got, want, allowed)
    for row, column, sign in [(0, 0, 1), (3, 8, -1)]:
        wrong = torch.from_numpy(want).float()
        wrong[row, column] += 2 * sign * allowed[row, column]
        with pytest.raises(AssertionError, match="beyond"):
            assert_within(wrong, want, allowed)


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
    allowed = bound(exact_x, w.matrix, arch="80", model="hardware", out=torch.float32, x_dtype=dtype)
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
