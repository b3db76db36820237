"""Every finite code of every weight format through every engine and layout: a product with the unit vectors gives the
values back, for few rows of x (weights decoded where they are used) and for many (weights decoded to a panel)."""

import lowbit  # noqa: F401
import lowbit._C as _C
import pytest
import torch

OPS = torch.ops.lowbit
FAST = [name for name in _C.isa_list() if name != "ref"]
RECORDS = {f["name"]: f for f in _C.element_formats() if f["kind"] not in ("complex", "codebook")}
# the layout of bytes is the plain one already
CASES = [
    (n, t)
    for n in RECORDS
    for t in ("canonical", "plain", "tile16")
    if t != "plain" or RECORDS[n]["layout"] == "planes"
]
ROWS, COLS = 144, 256  # nine tiles: blocks that share some, or panels; 256 codes to a row


def weight(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes [ROWS, COLS], every legal one in every row at another place, and their values."""
    values = torch.tensor(RECORDS[name]["values"], dtype=torch.float64)
    legal = torch.nonzero(values.isfinite() & ~((values == -2) & torch.tensor(name == "ternary"))).flatten()
    at = (torch.arange(COLS)[None, :] + 5 * torch.arange(ROWS)[:, None]) % len(legal)
    return legal[at].to(torch.uint8), values[legal[at]]


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("w_format", ["int4:g32", "int8:row", "uint3:g18", "nf4:g64", "float8_e4m3fn:row", "int7:g100"])
def test_bf16_sums_have_the_same_bits_by_dot_and_by_fma(isa: str, w_format: str) -> None:
    g = torch.Generator().manual_seed(1)
    n, k = 150, 777
    dense = torch.randn(n, k, generator=g)
    codes, scale, zero, _ = OPS.quantize(dense, w_format, asymmetric=w_format.startswith("uint"))
    scale = scale.reshape(n, -1)
    tiles = OPS.prepack(codes, w_format, k)
    isa_before, dot_before = _C.isa(), _C.bf16_dot()
    _C.force_isa(isa)
    try:
        for rows in (1, 3, 7, 40):
            x = torch.randn(rows, k, generator=g).bfloat16()
            for w, spec in ((codes, w_format), (tiles, f"{w_format}@tile16")):
                results = []
                for dot in (True, False):
                    _C.force_bf16_dot(dot)
                    zeros = zero if zero.numel() else None
                    results.append(OPS.gemm(x, w, scale, zeros, spec, out_dtype=torch.float32))
                assert torch.equal(*results), (rows, spec)
    finally:
        _C.force_isa(isa_before)
        _C.force_bf16_dot(dot_before)


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize(("name", "layout"), CASES)
def test_unit_vectors_give_the_values(isa: str, name: str, layout: str) -> None:
    codes, values = weight(name)
    packed = OPS.pack(codes, name)
    w = {"canonical": packed, "plain": codes, "tile16": OPS.prepack(packed, name, COLS)}[layout]
    w_format = f"{name}:row" + ("" if layout == "canonical" else f"@{layout}")
    scale = torch.ones(ROWS, 1)
    # a bf16 dot reads denormals as zeros
    normal = values.abs().masked_fill(values == 0, 1).min() >= 2.0**-126
    unit = torch.eye(COLS)
    before = _C.isa()
    _C.force_isa(isa)
    try:
        for x in [unit, unit.bfloat16()] if normal else [unit]:
            for rows in (x[:3], x):
                got = OPS.gemm(rows, w, scale, None, w_format, out_dtype=torch.float32)
                assert _C.last_kernel() == f"dequant_gemm:{isa}"
                assert torch.equal(got.double(), values.T[: len(rows)]), (x.dtype, len(rows))
        if RECORDS[name]["int8_shift"] >= 0:
            for rows in (unit[:3], unit):
                x = rows.to(torch.int8)
                got = OPS.scaled_gemm(x, torch.ones(len(x), 1), "int8:row@plain", w, scale, w_format, COLS)
                assert torch.equal(got.double(), values.T[: len(rows)]), ("int8", len(rows))
    finally:
        _C.force_isa(before)


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("name", [n for n, f in RECORDS.items() if f["kind"] == "float" and f["bits"] == 8])
@pytest.mark.parametrize("rows", [1, 2, 3, 20])
def test_every_code_of_8_bits_special_ones_too(isa: str, name: str, rows: int) -> None:
    """One column, so that nothing is multiplied by zero: infinities and NaN come out as they are."""
    codes = torch.arange(256, dtype=torch.uint8)[:, None]
    values = torch.tensor(RECORDS[name]["values"], dtype=torch.float64)
    w = OPS.prepack(OPS.pack(codes, name), name, 1)
    factors = 2.0 ** -torch.arange(rows)[:, None]
    before = _C.isa()
    _C.force_isa(isa)
    try:
        for dtype in (torch.float32, torch.bfloat16):
            x = factors.to(dtype)
            got = OPS.gemm(x, w, torch.ones(256, 1), None, f"{name}:row@tile16", out_dtype=torch.float32).double()
            want = values * factors.double()
            normal = ~(want.abs() < 2.0**-126)  # others may be read as zeros
            assert torch.equal(got.isnan(), want.isnan())
            assert torch.equal(got[normal & ~want.isnan()], want[normal & ~want.isnan()])
    finally:
        _C.force_isa(before)
