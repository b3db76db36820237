"""Products by counts of bit planes: bit for bit those of the reference, and chosen by the table alone."""

from dataclasses import replace
from itertools import product as pairs_of

import lowbit._C as _C
import numpy as np
import pytest
import torch
from operands import Operand, operand

W = ("int1", "uint1", "bipolar1", "int2", "uint2", "bipolar2", "ternary")
X = (*W, "int3", "uint3", "bipolar3", "int4", "uint4", "bipolar4")
BITS = {f["name"]: f["bits"] for f in _C.element_formats()}
MANY = 2**40
COUNTING = [name for name in _C.isa_list() if _C.popcount_rows(name, 1, 1)[1] > 0]


def gemm(
    isa: str, x: Operand, w: Operand, k: int, bias: torch.Tensor | None = None, dtype: torch.dtype | None = None
) -> tuple[torch.Tensor, bool]:
    """The product, and whether planes were counted."""
    before = _C.isa()
    _C.force_isa(isa)
    try:
        out = torch.ops.lowbit.scaled_gemm(
            x.codes,
            x.scale,
            x.format,
            w.codes,
            w.scale,
            w.format,
            k,
            x_zero=x.zero,
            w_zero=w.zero,
            bias=bias,
            out_dtype=dtype,
        )
        name = _C.last_kernel()
        assert name.removesuffix(":popcount") == f"scaled_gemm:{isa}"
        return out, name.endswith(":popcount")
    finally:
        _C.force_isa(before)


def rows_of(x: Operand, m: int) -> Operand:
    return replace(
        x,
        codes=x.codes[:m],
        scale=None if x.scale is None else x.scale[:m],
        zero=None if x.zero is None else x.zero[:m],
    )


@pytest.mark.parametrize("isa", COUNTING)
@pytest.mark.parametrize(("w_name", "x_name"), list(pairs_of(W, X)))
def test_every_pair_of_codes(isa: str, w_name: str, x_name: str) -> None:
    """Weights straight from tiles (few rows), by panels; whole words of columns and a last one with nothing behind it;
    one scale a row, and groups that end within a word and within a quad, of either side."""
    rng = np.random.default_rng(len(w_name) + len(x_name))
    n = 150  # one block of eight tiles, and a panel of two with an odd row
    least, most = _C.popcount_rows(isa, BITS[w_name], BITS[x_name])
    for k, w_rule, x_rule, layout in [
        (347, "row", "row", "tile16"),
        (320, "g32", "row", "tile16"),
        (210, "g37", "g70", "tile16"),
        (1100, "g550", "row", "canonical"),
        (75, "g20", "row", "canonical"),
        (130, "row", "g64", "plain"),
        (130, "g50", "row", "mma64"),
    ]:
        w = operand(rng, f"{w_name}:{w_rule}", n, k, layout=layout)
        x = operand(rng, f"{x_name}:{x_rule}", 20, k, layout="plain" if k % 2 else "canonical")
        want, _ = gemm("ref", x, w, k)
        for m in (1, 2, 3, 5, 8, 20):
            if x.format.endswith("plain") or m == 20:
                got, counted = gemm(isa, rows_of(x, m), w, k)
                assert counted == (least <= m <= most)
                assert torch.equal(got, want[:m]), (m, w.format, x.format)


def narrow(a: Operand) -> Operand:
    """With integer zero points of 8 bits."""
    integer = a.zero is not None and a.zero.dtype == torch.int32
    return replace(a, zero=a.zero.to(torch.int8)) if integer and a.zero is not None else a


ZEROS = [(None, "int"), ("int", None), ("int", "int"), (None, "float"), ("int", "float")]


@pytest.mark.parametrize("isa", COUNTING)
@pytest.mark.parametrize(("x_zero", "w_zero"), ZEROS)
@pytest.mark.parametrize("w_name", ["uint1", "bipolar1", "int2", "uint2"])
@pytest.mark.parametrize("x_name", ["uint1", "bipolar1", "int2"])
def test_zero_points(isa: str, w_name: str, x_name: str, x_zero: str | None, w_zero: str | None) -> None:
    rng = np.random.default_rng(5)
    n, k = 140, 300
    least, most = _C.popcount_rows(isa, BITS[w_name], BITS[x_name])
    for rule, layout, dtype in [
        ("row", "tile16", torch.float32),
        ("g37", "tile16", torch.bfloat16),
        ("g64", "canonical", torch.float16),
    ]:
        w = narrow(operand(rng, f"{w_name}:{rule}", n, k, layout=layout, zero=w_zero))
        x = narrow(operand(rng, f"{x_name}:row", 13, k, layout="plain", zero=x_zero))
        bias = torch.randn(n)
        for m in (1, 13):
            got, counted = gemm(isa, rows_of(x, m), w, k, bias, dtype)
            assert counted == (least <= m <= most)
            assert torch.equal(got, gemm("ref", rows_of(x, m), w, k, bias, dtype)[0])


@pytest.mark.parametrize("isa", COUNTING)
@pytest.mark.parametrize(
    "pair", [("bipolar1", "bipolar1"), ("ternary", "bipolar2"), ("uint2", "uint2"), ("int1", "int4")]
)
def test_sums_at_their_largest(isa: str, pair: tuple[str, str]) -> None:
    """Every product of the greatest magnitude, over several panels; the raw sums."""
    n, k = 130, 9001
    values = {f["name"]: f["values"] for f in _C.element_formats()}
    w_name, x_name = pair
    rows = []
    for name, count in ((x_name, 7), (w_name, n)):
        legal = [-1.0, 0.0, 1.0] if name == "ternary" else list(values[name])
        ends = [values[name].index(min(legal)), values[name].index(max(legal))]
        rows.append(
            torch.tensor(ends, dtype=torch.uint8)[torch.arange(count) % 2][:, None].expand(count, k).contiguous()
        )
    dense = [
        torch.tensor(values[name], dtype=torch.float64)[codes.long()]
        for name, codes in zip((x_name, w_name), rows, strict=True)
    ]
    op = torch.ops.lowbit
    before = _C.isa()
    _C.force_isa(isa)
    try:
        w, ones = op.pack(rows[1], w_name), torch.ones(n, 1)
        for codes, scale, layout in ((w, None, ""), (op.prepack(w, w_name, k), ones, "@tile16")):
            for m in (1, 7):
                got = op.scaled_gemm(
                    rows[0][:m], None, f"{x_name}:row@plain", codes, scale, f"{w_name}:row{layout}", k,
                    out_dtype=torch.int32 if scale is None else torch.float32,
                )  # fmt: skip
                least, most = _C.popcount_rows(isa, BITS[w_name], BITS[x_name])
                counts = least <= m <= most
                assert _C.last_kernel() == f"scaled_gemm:{isa}" + (":popcount" if counts else "")
                assert torch.equal(got.double(), dense[0][:m] @ dense[1].T)
    finally:
        _C.force_isa(before)


@pytest.mark.parametrize("isa", [name for name in _C.isa_list() if name != "ref"])
@pytest.mark.parametrize(("p", "q"), list(pairs_of(range(1, 5), range(1, 5))))
def test_both_sides_of_every_border(isa: str, p: int, q: int) -> None:
    """The table says which engine runs, and the bits of a row do not depend on it."""
    rng = np.random.default_rng(p + 8 * q)
    n, k, (least, most) = 33, 100, _C.popcount_rows(isa, p, q)
    rows = 600 if most > MANY else most + 1
    w = operand(rng, f"uint{p}:g64", n, k, layout="tile16")
    x = operand(rng, f"int{q}:row", rows, k, layout="plain")
    below, counted = gemm(isa, rows_of(x, max(rows - 1, 1)), w, k)
    assert counted == (most > 0)
    whole, counted = gemm(isa, x, w, k)
    assert counted == (most > MANY)
    assert torch.equal(below, whole[: len(below)])
    few, counted = gemm(isa, rows_of(x, min(max(least - 1, 1), rows)), w, k)
    assert counted == (least == 1 and most > 0)
    assert torch.equal(few, whole[: len(few)])
    assert torch.equal(whole, gemm("ref", x, w, k)[0])


@pytest.mark.parametrize("isa", COUNTING)
def test_what_is_not_counted(isa: str) -> None:
    """Zero points of 32 bits, with which a sum may leave int32; activations of more planes; floats of few bits."""
    rng = np.random.default_rng(2)
    n, k = 20, 96
    w = narrow(operand(rng, "uint1:row", n, k, layout="tile16", zero="int"))
    x = operand(rng, "uint1:row", 2, k, layout="plain")
    assert gemm(isa, x, w, k)[1]
    assert w.zero is not None
    wide = replace(w, zero=w.zero.to(torch.int32) * 2_000_000_000)
    got, counted = gemm(isa, x, wide, k)
    assert not counted
    assert torch.equal(got, gemm("ref", x, wide, k)[0])
    for name in ("int5", "int8", "float4_e2m1fn"):
        assert not gemm(isa, operand(rng, f"{name}:row", 2, k), w, k)[1]
