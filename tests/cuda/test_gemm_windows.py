"""Scales, zero points and bit planes that the wide loop of the GEMM takes by windows of a sector of each row
(csrc/cuda/tile/value_window.cuh, code_window.cuh): K so long that windows follow each other, rows whose strides the
windows allow and others, every dtype; and weights that become rows tile by tile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from compare import assert_bits
from cuda.bounds import assert_within, bound
from cuda.emulated import run
from cuda.gemms import gemm
from operands import Operand, mixed, operand
from oracle import gemm as oracle

M, N = 17, 131  # two tiles of w, of which the second has three rows
COLUMNS = [1280, 1000]  # rows of scales that are aligned to words for every dtype and group, and others


def with_zero(w: Operand, dtype: torch.dtype) -> Operand:
    assert w.zero is not None
    return replace(w, zero=w.zero.to(dtype))


@pytest.mark.parametrize("k", COLUMNS)
@pytest.mark.parametrize("scale", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("group", [8, 16, 24, 32, 64, 128, 256])
def test_scales_and_byte_zero_points(group: int, scale: torch.dtype, k: int) -> None:
    rng = np.random.default_rng(group)
    x = operand(rng, "int8:row", M, k, layout="plain")
    w = operand(rng, f"uint4:g{group}", N, k, layout="mma64", zero="int", scale_dtype=scale)
    w = with_zero(w, torch.int8 if group % 32 else torch.uint8)
    assert_bits(gemm("scaled_gemm", x, w, N, k), oracle.integer_path(x.matrix, w.matrix))


@pytest.mark.parametrize("k", COLUMNS)
@pytest.mark.parametrize("block", ["g32", "g64", "g128"])
@pytest.mark.parametrize("zero", ["int", "float"])
def test_both_operands_change_along_k(zero: str, block: str, k: int) -> None:
    rng = np.random.default_rng(1)
    x = operand(rng, "uint8:g64", M, k, layout="plain", zero="int", scale_dtype=torch.bfloat16)
    w = operand(rng, f"int4:{block}", N, k, layout="mma64", zero=zero)
    assert_bits(gemm("scaled_gemm", x, w, N, k), oracle.integer_path(x.matrix, w.matrix))


@pytest.mark.parametrize("format", ["mxint8", "nvint4", "int4:g32/float8_e5m2:g4"])
def test_coded_scales(format: str) -> None:
    rng = np.random.default_rng(2)
    for k in COLUMNS:
        x, w = operand(rng, "int8:row", M, k, layout="plain"), operand(rng, format, N, k, layout="mma64")
        assert_bits(gemm("scaled_gemm", x, w, N, k), oracle.integer_path(x.matrix, w.matrix))


@pytest.mark.parametrize("layout", ["canonical", "tile16", "mma64"])
@pytest.mark.parametrize(
    "element", ["int1", "uint2", "int3", "int4", "uint5", "int7", "uint8", "int8", "bipolar8", "ternary"]
)
def test_codes_become_rows(element: str, layout: str) -> None:
    """Planes, tiles, and mma64 where segments begin at columns that are no multiples of 16."""
    rng = np.random.default_rng(3)
    for k, block in ((1000, "row"), (333, "g100")):
        x, w = operand(rng, "int8:row", M, k, layout="plain"), operand(rng, f"{element}:{block}", N, k, layout=layout)
        assert_bits(gemm("scaled_gemm", x, w, N, k), oracle.integer_path(x.matrix, w.matrix))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layout", ["canonical", "mma64", "tile16"])
@pytest.mark.parametrize(("format", "zero"), [("nf4:g64", None), ("uint4:g64", torch.uint8), ("uint3:g32", torch.int32),
                                              ("float8_e4m3fn:g128", None), ("float8_e5m2:g16", None)])  # fmt: skip
def test_float_activations(format: str, zero: torch.dtype | None, layout: str, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(4)
    k = 600
    w = operand(rng, format, N, k, layout=layout, zero=None if zero is None else "int")
    if zero is not None:
        w = with_zero(w, zero)
    check_floats(rng, w, k, dtype)


@pytest.mark.parametrize("layout", ["canonical", "mma64"])
@pytest.mark.parametrize("high", [[1, 4, 5], [0, 2, 3, 6, 7, 8], []], ids=str)
def test_groups_of_two_widths_are_whole_steps(high: list[int], layout: str) -> None:
    rng = np.random.default_rng(5)
    w, more = mixed(rng, "uint2", N, 576, 64, high, layout)
    check_floats(rng, w, 576, torch.bfloat16, **more)


def check_floats(rng: np.random.Generator, w: Operand, k: int, dtype: torch.dtype, **more: Any) -> None:
    x = torch.from_numpy(rng.standard_normal((M, k)).astype(np.float32)).to(dtype)
    exact_x = oracle.dense(x.double().numpy())
    got = run(lambda ops: ops.dequant_gemm(x, w.codes, w.scale, w.zero, w.format, w_scale2=w.scale2, **more))
    allowed = bound(exact_x, w.matrix, arch="80", model="exact", out=got.dtype, x_dtype=dtype)
    assert_within(got, oracle.exact(exact_x, w.matrix), allowed)
