"""Integer products around the borders that engines cut rows and columns at: bit for bit those of the reference."""

from dataclasses import replace

import lowbit._C as _C
import numpy as np
import pytest
import torch
from operands import Operand, operand

FAST = [name for name in _C.isa_list() if name != "ref"]
# segments that end within 64 columns, within a quad and beside it, shorter and longer than a panel; with zero points of
# either side, all terms that a sum begins with and joins by
CASES = [
    ("int8", None, "int4", None),
    ("int8", None, "int8:g32", None),
    ("int8", None, "int4:g37", "int"),
    ("uint8:g72", "int", "uint4:g24", "int"),
    ("uint8", "int", "uint3:g130", "float"),
    ("uint8:g1300", "int", "int8:g650", None),
]


def product(isa: str, x: Operand, w: Operand, k: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    before = _C.isa()
    _C.force_isa(isa)
    try:
        return torch.ops.lowbit.scaled_gemm(
            x.codes, x.scale, x.format, w.codes, w.scale, w.format, k, x_zero=x.zero, w_zero=w.zero, out_dtype=dtype
        )
    finally:
        _C.force_isa(before)


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_around_every_border(isa: str, case: tuple[str, str | None, str, str | None]) -> None:
    """Rows around those of a block, of a tile of 16 and of a task; of w around those of tiles and of panels."""
    x_format, x_zero, w_format, w_zero = case
    rng = np.random.default_rng(len(w_format))
    n, k, most = 134, 1403, 560
    w = operand(rng, w_format, n, k, layout="tile16", zero=w_zero)
    x = operand(rng, x_format, most, k, layout="plain", zero=x_zero)
    want = product("ref", x, w, k)
    for m in (15, 16, 17, 31, 32, 33, 47, 49, 64, 512, 529, most):
        assert x.scale is not None
        rows = replace(x, codes=x.codes[:m], scale=x.scale[:m], zero=None if x.zero is None else x.zero[:m])
        got = product(isa, rows, w, k)
        assert _C.last_kernel() == f"scaled_gemm:{isa}"
        assert torch.equal(got, want[:m]), m


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32], ids=str)
def test_long_rows(isa: str, dtype: torch.dtype) -> None:
    """Rows of x of which few fill what stays in cache: several tasks go through the same weights."""
    rng = np.random.default_rng(3)
    n, k, m = 40, 9000, 300
    w = operand(rng, "int4", n, k, scaled=dtype != torch.int32)
    x = operand(rng, "int8", m, k, scaled=dtype != torch.int32)
    assert torch.equal(product(isa, x, w, k, dtype), product("ref", x, w, k, dtype))


@pytest.mark.parametrize("isa", FAST)
def test_segments_whose_sums_may_leave_int32(isa: str) -> None:
    """(255 - 0) (255 - 0) K > 2^31: piece by piece in 64 bits, for blocks of more than one tile of rows."""
    rng = np.random.default_rng(4)
    n, k, m = 70, 36000, 37
    w = operand(rng, "uint8", n, k, layout="tile16", zero="int")
    x = operand(rng, "uint8", m, k, layout="plain", zero="int")
    assert torch.equal(product(isa, x, w, k), product("ref", x, w, k))


# what the transpose of a tile gives: code, code ^ sign, 2 code; and what takes a table
DECODED = ("uint4:g64", "int3:g64", "ternary", "bipolar2:g64", "float4_e2m1fn:g64")


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("w_format", DECODED)
@pytest.mark.parametrize("layout", ["canonical", "tile16"])
def test_few_rows_over_tiles_that_two_blocks_share(isa: str, w_format: str, layout: str) -> None:
    """The last block of a few rows of x is whole and takes tiles of the one before: what it writes are its own rows of
    w alone, with their biases, in every dtype of the output; the same as among many rows of x."""
    rng = np.random.default_rng(len(w_format))
    k = 333
    for n in (127, 128, 129, 200, 257):
        w = operand(rng, w_format, n, k, layout=layout)
        x = operand(rng, "int8", 9, k, layout="plain")
        bias = torch.from_numpy(rng.standard_normal(n)).float()
        assert x.scale is not None
        before = _C.isa()
        _C.force_isa(isa)
        try:
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                args = (w.codes, w.scale, None, w.format)
                many = torch.ops.lowbit.gemm(
                    x.codes, *args, x_scale=x.scale, x_format=x.format, bias=bias, out_dtype=dtype, k=k
                )
                for m in (1, 2, 3):
                    got = torch.full((m, n + 2), 7.0, dtype=dtype)
                    torch.ops.lowbit.gemm.out(
                        x.codes[:m],
                        *args,
                        x_scale=x.scale[:m],
                        x_format=x.format,
                        bias=bias,
                        k=k,
                        out=got[:, 1:-1],
                    )
                    assert torch.equal(got[:, 1:-1], many[:m]), (n, m, dtype)
                    assert (got[:, [0, -1]] == 7).all(), (n, m)
        finally:
            _C.force_isa(before)


@pytest.mark.parametrize("isa", FAST)
def test_raw_sums_of_few_rows_over_tiles_that_two_blocks_share(isa: str) -> None:
    rng = np.random.default_rng(5)
    n, k = 200, 150
    w, x = operand(rng, "int4", n, k, scaled=False), operand(rng, "int8", 9, k, scaled=False)
    many = product(isa, x, w, k, torch.int32)
    assert torch.equal(many, product("ref", x, w, k, torch.int32))
    for m in (1, 2, 3):
        assert torch.equal(product(isa, replace(x, codes=rows_of(x.codes, m)), w, k, torch.int32), many[:m])


def rows_of(codes: torch.Tensor, m: int) -> torch.Tensor:
    """The first rows of planes or of bytes."""
    return codes[:, :m] if codes.dim() == 3 else codes[:m]
