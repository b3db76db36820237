"""What the GEMM ops refuse, and in which words; strides and views of every argument; sizes of zero."""

from dataclasses import replace

import lowbit  # noqa: F401
import numpy as np
import pytest
import torch
from operands import operand

OPS = torch.ops.lowbit
K, N, M = 64, 6, 3


def floats(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal(shape).astype(np.float32))


X = floats(M, K)
XQ = operand(np.random.default_rng(2), "int8", M, K)
XP = operand(np.random.default_rng(2), "int8", M, K, layout="plain")
W = operand(np.random.default_rng(3), "int4:g32", N, K)
TILES = operand(np.random.default_rng(3), "int4:g32", N, K, layout="tile16")
NV = operand(np.random.default_rng(4), "nvfp4", N, K)
EXPERTS = replace(W, codes=torch.stack([W.codes] * 2), scale=torch.stack([W.scale] * 2))


def call(op: str, **change: object) -> torch.Tensor:
    """A correct call of `op` but for `change`; argument names are those of the schema."""
    weight = {"w": W.codes, "w_scale": W.scale, "w_zero": None, "w_format": W.format}
    codes = {"x": XQ.codes, "x_scale": XQ.scale, "x_format": "int8", "k": K}
    args = {
        "dequant_gemm": {"x": X, **weight},
        "dequant_gemm_input_grad": {"dy": floats(M, N), **weight, "k": K},
        "scaled_gemm": {**codes, **weight},
        "bitplane_gemm": {**codes, "x_zero": None, **weight},
        "gemm": {"x": X, **weight},
        "gemm.out": {"x": X, **weight, "out": torch.empty(M, N)},
        "grouped_gemm": {"x": X, **weight, "w": EXPERTS.codes, "w_scale": EXPERTS.scale,
                         "offs": torch.tensor([1, M], dtype=torch.int32)},
        "grouped_gemm_input_grad": {"dy": floats(M, N), **weight, "w": EXPERTS.codes, "w_scale": EXPERTS.scale, "k": K,
                                    "offs": torch.tensor([1, M], dtype=torch.int32)},
    }[op]  # fmt: skip
    packet, _, overload = op.partition(".")
    return getattr(getattr(OPS, packet), overload or "default")(**(args | change))


ALL = ["dequant_gemm", "dequant_gemm_input_grad", "scaled_gemm", "bitplane_gemm", "gemm", "gemm.out", "grouped_gemm",
       "grouped_gemm_input_grad"]  # fmt: skip
FORWARD = [op for op in ALL if "grad" not in op]
WITH_K = ["dequant_gemm_input_grad", "scaled_gemm", "bitplane_gemm", "grouped_gemm_input_grad"]


def refuses(op: str, sentence: str, **change: object) -> None:
    """The error is one sentence: rule, value and way out."""
    with pytest.raises(ValueError, match=sentence) as raised:
        call(op, **change)
    text = str(raised.value)
    assert text.startswith(op.split(".")[0] + ": ")
    assert " must " in text
    assert ", got " in text
    assert "; " in text
    assert "\n" not in text


@pytest.mark.parametrize("op", ALL)
def test_the_unchanged_call_is_right(op):
    call(op)


@pytest.mark.parametrize("op", ALL)
def test_format_names(op):
    refuses(op, r'w_format must name a known format, got "it4"; did you mean "int4"', w_format="it4:g32")
    refuses(op, r'w_format must have a block rule .* got "32"', w_format="int4:32")
    refuses(op, r'w_format must end in a known layout, got "@tile32"', w_format="int4:g32@tile32")
    if op in ("scaled_gemm", "bitplane_gemm"):
        refuses(op, r'x_format must name a known format, got "int9"', x_format="int9")


@pytest.mark.parametrize("op", ALL)
def test_weight_codes(op):
    lead = EXPERTS.codes.dim() - 3 if "grouped" in op else 0
    w = EXPERTS.codes if lead else W.codes
    refuses(op, r"w must have \d dimensions for format int4, got shape \[", w=w[..., 0])
    refuses(op, r"w must be int32 planes for format int4, got int64", w=w.long())
    refuses(op, r"w must have 4 planes for format int4, got shape", w=w.narrow(lead, 0, 3))
    refuses(op, r"w must have 2 words a row for K = 64 in format int4", w=w[..., :1])
    refuses(op, r"w must have 64 bytes a row for K = 64", w=torch.zeros(*w.shape[:lead], N, 60, dtype=torch.uint8),
            w_format="int4:g32@plain")  # fmt: skip
    if op != "bitplane_gemm":
        other = torch.zeros(*w.shape[:lead], N, K, dtype=torch.float8_e5m2)
        refuses(
            op, r"w must be uint8 codes for format float8_e4m3fn, got float8_e5m2", w=other, w_format="float8_e4m3fn"
        )


@pytest.mark.parametrize("op", ALL)
def test_values_of_blocks(op):
    scale = EXPERTS.scale if "grouped" in op else W.scale
    refuses(op, r"w_scale must have shape \[.*6, 2\] for 6 x 64", w_scale=torch.cat([scale, scale], -1))
    refuses(op, r"w_scale must have shape", w_scale=scale[..., :5, :])
    refuses(op, r"w_scale must have shape", w_scale=scale[..., 0])
    refuses(op, r"w_scale must be float32, bfloat16 or float16, got float64", w_scale=scale.double())
    refuses(op, r"w_zero must be .*int32, int8 or uint8, got int64", w_zero=torch.zeros(scale.shape, dtype=torch.int64))
    refuses(op, r'w_scale must be given for format "int4:g32/uint4"', w_format="int4:g32/uint4", w_scale=None)
    if op != "bitplane_gemm":
        refuses(op, r'w_scale2 must be None for format "int4:g32"', w_scale2=torch.ones(1))
    if op == "dequant_gemm":
        refuses(op, r"w_scale2 must be given", w=NV.codes, w_scale=NV.scale, w_format="nvfp4")


@pytest.mark.parametrize("op", ["dequant_gemm", "gemm"])
def test_tables(op):
    w = operand(np.random.default_rng(5), "table3:g32", N, K)
    good = {"w": w.codes, "w_scale": w.scale, "w_format": w.format}
    call(op, **good, w_table=w.table)
    refuses(op, r"w_table must hold the 8 values of format table3, got None", **good)
    refuses(op, r"w_table must be float32 with 8 values, got float32 \[7\]", **good, w_table=w.table[:7])
    refuses(op, r"w_table must be float32 with 8 values, got float64", **good, w_table=w.table.double())
    refuses(op, r"w_table must be None for format int4", w_table=w.table)
    refuses("scaled_gemm", r"w_format must be an integer, float or nf4 format", **good)


@pytest.mark.parametrize("op", FORWARD)
def test_bias(op):
    shape = (2, N) if op == "grouped_gemm" else (N,)
    call(op, bias=torch.zeros(shape, dtype=torch.bfloat16))
    refuses(op, r"bias must have shape \[.*6\], got \[7\]", bias=torch.zeros(7))
    refuses(op, r"bias must have shape", bias=torch.zeros(()))
    refuses(op, r"bias must be float32, bfloat16 or float16, got int32", bias=torch.zeros(shape, dtype=torch.int32))


@pytest.mark.parametrize("op", ALL)
def test_dtypes(op):
    if "scaled" not in op and "bitplane" not in op:
        x = "dy" if "grad" in op else "x"
        refuses(op, rf"({x} must be float32, bfloat16 or float16|x_format must be given)", **{x: floats(M, K).double()})
    if op != "gemm.out":
        refuses(op, r"out_dtype must be float32, bfloat16 or float16, got float64", out_dtype=torch.float64)
    if op not in ("gemm.out", "bitplane_gemm", "scaled_gemm"):
        refuses(op, r"out_dtype must be float32, bfloat16 or float16, got int32", out_dtype=torch.int32)


@pytest.mark.parametrize("op", WITH_K)
def test_k(op):
    for k in (0, -1):
        refuses(op, rf"k must be at least 1, got {k}", k=k)
    refuses(op, r"must have \d+ words a row for K = 65", k=65)


@pytest.mark.parametrize("op", ["dequant_gemm", "gemm", "gemm.out", "grouped_gemm"])
def test_columns_of_float_activations(op):
    refuses(op, r"w must have 3 words a row for K = 65", x=floats(M, 65))
    refuses(op, r"x must have at least one column, got shape \[3, 0\]", x=torch.empty(M, 0))
    if op != "grouped_gemm":
        refuses(op, r"x must have at least 1 dimension, got a scalar", x=torch.tensor(1.0))
    refuses(op, r"x must have 2 K columns", x=floats(M, 65), w_format="complex2")


@pytest.mark.parametrize("op", ["dequant_gemm_input_grad", "grouped_gemm_input_grad"])
def test_columns_of_gradients(op):
    refuses(op, r"dy must have 6 columns, one per output of the weight, got 7", dy=floats(M, 7))


@pytest.mark.parametrize("op", ["scaled_gemm", "bitplane_gemm"])
def test_activation_codes(op):
    refuses(op, r"x must be planes \[\.\.\., bits, M, ceil\(K / 32\)\]", x=XQ.codes[0])
    refuses(op, r"x must be codes \[\.\.\., K\]", x=torch.zeros((), dtype=torch.int8))
    refuses(op, r"x must have 64 bytes a row", x=XP.codes[:, :60])
    refuses(op, r"x must be uint8 codes for format int8, got float32|x must be", x=X)
    refuses(op, r"x_scale must have shape \[3, 1\]", x_scale=torch.ones(4))
    refuses(op, r"x_format must be a real format in the canonical or plain layout", x_format="int8@tile16")
    refuses(op, r"x_format must be a real format", x_format="complex2")


def test_formats_of_bitplane_gemm():
    op = "bitplane_gemm"
    refuses(op, r"w_format must be an integer, bipolar, ternary or \(w\) complex format, got \"nf4\"", w_format="nf4")
    refuses(op, r"x_zero must hold integers, got floats", x_zero=torch.zeros(M))


@pytest.mark.parametrize("op", ["bitplane_gemm", "scaled_gemm"])
def test_raw_sums(op):
    raw = {"x_scale": None, "w_scale": None, "out_dtype": torch.int32}
    call(op, **raw)
    refuses(op, r"x_scale, w_scale and bias must be None for out_dtype=torch.int32", **(raw | {"w_scale": W.scale}))
    refuses(op, r"x_scale, w_scale and bias must be None", **raw, bias=torch.zeros(N))
    refuses(op, r"w_zero must hold integers for out_dtype=torch.int32, got floats", **raw, w_zero=torch.zeros(N, 2))
    refuses(
        op, r"k must be at most 7 for out_dtype=torch.int32", **raw, w_zero=torch.tensor([2_100_000], dtype=torch.int32)
    )


def test_complex_weights_have_no_zero_point_and_two_scales():
    w = torch.zeros(2, N, 2, dtype=torch.int32)
    good = {"w": w, "w_format": "complex2", "w_scale": torch.ones(2, N, 1), "x": floats(M, 2 * K)}
    call("dequant_gemm", **good)
    refuses("dequant_gemm", r"w_zero must be None for complex2", **good, w_zero=torch.zeros(1))
    refuses("dequant_gemm", r"w_scale must be \[rows, groups\], or \[2, rows, groups\]",
            **(good | {"w_scale": torch.ones(3, N, 1)}))  # fmt: skip
    refuses("dequant_gemm", r"w_high and outliers must be None for complex2", **good, w_high=w,
            high_groups=torch.zeros(1, dtype=torch.int32))  # fmt: skip


def test_front_door():
    refuses("gemm", r"x_format must be given when x holds codes", x=XP.codes)
    refuses("gemm", r"x_format must be given with x_scale", x_scale=torch.ones(M))
    refuses("gemm", r"k must be given when x is packed", x=XQ.codes, x_format="int8", x_scale=XQ.scale)
    refuses("gemm", r"k must be the number of columns of x, 64, got 65", k=65)
    refuses("gemm", r"x_format must be an integer, float or nf4 format when x is float", x_format="table4")
    refuses("gemm", r"x_zero and x_scale2 must come with x_scale", x_format="uint8", x_zero=torch.zeros(M))
    refuses("gemm", r"x must be finite", x=X * torch.inf, x_format="int8")


def test_out_is_checked_before_anything_is_written():
    out = torch.full((M, N), 7.0)
    refuses("gemm.out", r"out must have shape \[3, 6\], got \[6, 3\]", out=out.T)
    refuses("gemm.out", r"out must have shape", out=torch.empty(M, N, 1))
    refuses("gemm.out", r"out must be float32, bfloat16 or float16, got float64", out=out.double())
    refuses(
        "gemm.out", r"out_dtype must be the dtype of out, got bfloat16 for float32", out=out, out_dtype=torch.bfloat16
    )
    refuses("gemm.out", r"out must not overlap itself", out=torch.empty(1, N).expand(M, N))
    shared = torch.zeros(M, K + N)
    refuses("gemm.out", r"out must not share memory with x", x=shared[:, :K], out=shared[:, K - 2 : K + N - 2])
    refuses("gemm.out", r"out must not share memory with bias", out=out, bias=out[0])
    refuses("gemm.out", r"w_scale must have shape", out=out, w_scale=torch.ones(9))
    assert (out == 7).all()


def test_dequant_gemm_extras():
    op = "dequant_gemm"
    low = operand(np.random.default_rng(6), "uint2:g16", N, K - 16, scaled=False)
    high = operand(np.random.default_rng(6), "uint4:g16", N, 16, scaled=False)
    good = {"w": low.codes, "w_format": "uint2:g16", "w_scale": torch.ones(N, 4), "w_high": high.codes,
            "high_groups": torch.tensor([2], dtype=torch.int32)}  # fmt: skip
    call(op, **good)
    refuses(op, r"w_high and high_groups must be given together", **(good | {"high_groups": None}))
    refuses(op, r"high_groups must be ascending group numbers below 4, got 4", **(good | {
        "high_groups": torch.tensor([4], dtype=torch.int32)}))  # fmt: skip
    for wrong in ([2, 2], [2, 1], [-1]):
        refuses(
            op, r"high_groups must be ascending", **(good | {"high_groups": torch.tensor(wrong, dtype=torch.int32)})
        )
    refuses(op, r"high_groups must be int32 with 1 dimension, got int64", **(good | {"high_groups": torch.tensor([2])}))
    refuses(op, r"w_high must have \d dimensions for format uint4", **(good | {"w_high": high.codes[0]}))
    refuses(op, r"w_high must have the rows of w, got 5 for 6", **(good | {"w_high": high.codes[:, :5]}))
    refuses(op, r"w_format must be an integer of at most 4 bits in groups along K when w_high is given, got uint2",
            **(good | {"w_format": "uint2"}))  # fmt: skip
    refuses(op, r"w_format must be an integer of at most 4 bits", **(good | {"w_format": "uint5:g16"}))

    offsets = torch.tensor([0, 1, 1, 1, 1, 1, 2], dtype=torch.int32)
    outliers = {"outlier_offsets": offsets, "outlier_cols": torch.tensor([0, 63], dtype=torch.int32),
                "outlier_values": torch.ones(2, dtype=torch.bfloat16)}  # fmt: skip
    call(op, **outliers)
    refuses(op, r"must be given together", **(outliers | {"outlier_cols": None}))
    refuses(op, r"outliers must be offsets \[7\], cols and values of one length", **(outliers | {
        "outlier_values": torch.ones(3)}))  # fmt: skip
    refuses(op, r"outlier_cols must be columns below K = 64, got 64", **(outliers | {
        "outlier_cols": torch.tensor([0, 64], dtype=torch.int32)}))  # fmt: skip
    for wrong in ([1, 1, 1, 1, 1, 1, 2], [0, 2, 1, 1, 1, 1, 2], [0, 1, 1, 1, 1, 1, 3]):
        refuses(op, r"outlier_offsets must ascend from 0 to the number of outliers 2", **(outliers | {
            "outlier_offsets": torch.tensor(wrong, dtype=torch.int32)}))  # fmt: skip


@pytest.mark.parametrize("op", ["grouped_gemm", "grouped_gemm_input_grad"])
def test_experts(op):
    def offs(*ends: int) -> dict:
        return {"offs": torch.tensor(ends, dtype=torch.int32)}

    refuses(op, r"offs must be int32 \[2\], one end per expert, got int64 \[2\]", offs=torch.tensor([1, M]))
    refuses(op, r"offs must be int32 \[2\]", **offs(1, 2, 3))
    for wrong in ((2, 1), (-1, 3), (1, 2), (1, 4), (4, 3)):
        refuses(op, r"offs must ascend from 0 to the 3 rows of x", **offs(*wrong))
    refuses(op, r"w must have 4 dimensions", w=W.codes)
    refuses(op, r"w_scale, _scale2 and _zero must have 2 experts", w_scale=torch.stack([W.scale] * 3))
    refuses(op, r"must be \[rows, columns\] with the rows sorted by expert", **{
        "dy" if "grad" in op else "x": floats(1, M, N if "grad" in op else K)})  # fmt: skip
    refuses(op, r"w must have at least one expert", w=EXPERTS.codes[:0], w_scale=EXPERTS.scale[:0], **offs())
    if op == "grouped_gemm":
        refuses(op, r"bias must have shape \[2, 6\]", bias=torch.zeros(N))
        refuses(op, r"x_format must have scales for single rows or for the tensor", x_format="int8:b2x32")


def test_prepacked_weights():
    good = {"w": TILES.codes, "w_format": "int4:g32@tile16"}
    call("gemm", **good)
    refuses("gemm", r"w_scale must be \[rows, groups\] when w is prepacked", **good, w_scale=None)
    refuses("gemm", r"w_scale must have the rows of the prepacked w, got 17 rows for 1 tiles", **good,
            w_scale=torch.ones(17, 2))  # fmt: skip
    refuses("gemm", r"w must be \[rows / 16, 16, 32\] for K = 64", **(good | {"w": TILES.codes[:, :15]}))
    # one scale for several rows does not tell how many there are: all that the tiles hold
    refuses("gemm", r"w_scale must .*\[8, 2\]", **(good | {"w_format": "int4:b2x32@tile16"}))
    several = good | {"w_format": "int4:b2x32@tile16", "w_scale": torch.ones(8, 2)}
    assert call("gemm", **several).shape[-1] == 16
    refuses("gemm", r"bias must have shape \[16\]", **several, bias=torch.zeros(N))


def strided(t: torch.Tensor) -> torch.Tensor:
    """The same values, no two of them side by side, rows in reverse order of memory where possible."""
    wide = torch.repeat_interleave(t, 3, -1)
    return wide.transpose(0, -1).contiguous().transpose(0, -1)[..., ::3]


@pytest.mark.parametrize("op", FORWARD)
def test_strides_of_every_argument(op):
    bias = floats(2, N) if op == "grouped_gemm" else floats(N)
    names = [a.name for a in getattr(OPS, op.split(".")[0]).default._schema.arguments]
    base = {"bias": bias}
    zero = torch.zeros_like(EXPERTS.scale if op == "grouped_gemm" else W.scale).int() + 3
    base["w_zero"] = zero
    want = call(op, **base)
    for name in names:
        given = {"x": XQ.codes if op in ("scaled_gemm", "bitplane_gemm") else X,
                 "w": EXPERTS.codes if op == "grouped_gemm" else W.codes,
                 "w_scale": EXPERTS.scale if op == "grouped_gemm" else W.scale, "w_zero": zero, "bias": bias,
                 "offs": torch.tensor([1, M], dtype=torch.int32)}.get(name)  # fmt: skip
        if given is None:
            continue
        view = strided(given)
        assert torch.equal(view, given)
        assert not view.is_contiguous()
        got = call(op, **(base | {name: view}))
        assert op == "gemm.out" or torch.equal(got, want), name


def test_storage_offsets_and_expanded_scales():
    memory = torch.zeros(4, N + 2, 5, dtype=torch.int32)
    memory[:, 1:-1, 2:4] = W.codes
    want = call("gemm")
    assert torch.equal(call("gemm", w=memory[:, 1:-1, 2:4]), want)
    row = W.scale[:1].expand(N, 2)
    assert torch.equal(call("gemm", w_scale=row), call("gemm", w_scale=row.contiguous()))


@pytest.mark.parametrize("op", FORWARD)
def test_no_rows_and_no_outputs(op):
    codes = op in ("scaled_gemm", "bitplane_gemm")
    none = {"x": XQ.codes[:, :0], "x_scale": XQ.scale[:0]} if codes else {"x": X[:0]}
    if op == "grouped_gemm":
        none["offs"] = torch.zeros(2, dtype=torch.int32)
    if op == "gemm.out":
        none["out"] = torch.empty(0, N)
    got = call(op, **none)
    assert op == "gemm.out" or got.shape == (0, N)
    w, scale = (EXPERTS.codes, EXPERTS.scale) if op == "grouped_gemm" else (W.codes, W.scale)
    change = {"w": w[..., :0, :], "w_scale": scale[..., :0, :]}
    got = call(op, **change, **({"out": torch.empty(M, 0)} if op == "gemm.out" else {}))
    assert op == "gemm.out" or got.shape == (M, 0)


def test_gradients_of_no_rows_and_no_outputs():
    assert call("dequant_gemm_input_grad", dy=torch.empty(2, 0, N)).shape == (2, 0, K)
    got = call("dequant_gemm_input_grad", dy=torch.empty(M, 0), w=W.codes[:, :0], w_scale=W.scale[:0])
    assert torch.equal(got, torch.zeros(M, K))
