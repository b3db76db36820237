"""quantize, dequantize, embedding as ops: schema and fakes, strides, empty shapes, layouts, error sentences."""

import lowbit  # noqa: F401
import pytest
import torch

ops = torch.ops.lowbit

FORMATS = ["int8", "int4:g32", "ternary:g16", "bipolar2", "float8_e4m3fn:b2x16", "float6_e2m3fn:g8", "nf4:g64"]
CODED = ["mxfp4", "mxint8", "nvfp4", "uint2:g16/uint4:g16", "int4:g32/float8_e8m0fnu"]
ALL = FORMATS + CODED
CHECKS = ("test_schema", "test_faketensor")


def values(parts, format, k, **kwargs):
    codes, scale, zero, scale2 = (t if t.numel() else None for t in parts)
    return ops.dequantize(codes, scale, zero, format, k, scale2=scale2, **kwargs)


@pytest.mark.parametrize("format", ALL)
@pytest.mark.parametrize("layout", ["canonical", "plain", "tile16", "mma64"])
def test_opcheck(format, layout):
    x = torch.randn(2, 16, 37)[:, :, 1:]
    torch.library.opcheck(ops.quantize.default, (x, format), {"layout": layout}, test_utils=CHECKS)
    codes, scale, _, scale2 = ops.quantize(x, format, layout=layout)
    args = (codes, scale, None, f"{format}@{layout}", 36)
    kwargs = {"scale2": scale2 if scale2.numel() else None}
    torch.library.opcheck(ops.dequantize.default, args, kwargs, test_utils=CHECKS)


def test_opcheck_of_the_other_arguments():
    x, seed = torch.randn(5, 64), torch.tensor([1, 2])
    for args, kwargs in [
        ((x, "uint4:g16"), {"asymmetric": True, "scale_dtype": torch.bfloat16}),
        ((x, "int4:g16"), {"rounding": "stochastic", "seed": seed, "hadamard": 32}),
        ((x, "int4:g64"), {"scale": torch.ones(5, 1), "zero": torch.zeros(5, 1)}),
        ((x, "table2:g64"), {"table": torch.tensor([-1.0, 0.0, 0.5, 1.0])}),
        ((torch.randn(3, 4, dtype=torch.complex64), "complex2"), {}),
        ((torch.randn(3, 4, 2), "complex2:g2"), {}),
        ((x[:0], "int8"), {}),
    ]:
        torch.library.opcheck(ops.quantize.default, args, kwargs, test_utils=CHECKS)
    w, scale, _, _ = ops.quantize(x, "int4:g16")
    ids = torch.tensor([[0, 4, 2]])
    torch.library.opcheck(ops.embedding.default, (ids, w, scale, None, "int4:g16", 64), test_utils=CHECKS)
    w, scale, _, _ = ops.quantize(torch.randn(3, 4, 2), "complex2")
    torch.library.opcheck(ops.dequantize.default, (w, scale, None, "complex2", 4), test_utils=CHECKS)
    torch.library.opcheck(ops.embedding.default, (ids[:, :1], w, scale, None, "complex2", 4), test_utils=CHECKS)


@pytest.mark.parametrize("format", ALL)
def test_layouts_hold_the_same_values(isa, format):
    for rows in (5, 16):
        x = torch.randn(2, rows, 36)
        want = values(ops.quantize(x, format), format, 36)
        for layout in ("plain", "tile16"):
            if layout == "tile16" and "b2x16" in format and rows == 5:
                with pytest.raises(ValueError, match=r'multiple of 16 rows to be prepacked .* got 5; .* as in "g16"'):
                    ops.quantize(x, format, layout=layout)
                continue
            parts = ops.quantize(x, format, layout=layout)
            assert torch.equal(values(parts, f"{format}@{layout}", 36), want)
            assert torch.equal(ops.quantize(x, f"{format}@{layout}")[0], parts[0])


@pytest.mark.parametrize("format", ALL)
@pytest.mark.parametrize("layout", ["canonical", "plain"])
def test_leading_dimensions_are_matrices_of_their_own(isa, format, layout):
    x = torch.randn(2, 3, 5, 36) * torch.tensor([1.0, 10.0, 100.0]).view(3, 1, 1)
    batch = ops.quantize(x, format, layout=layout)
    for i in range(2):
        for j in range(3):
            one = ops.quantize(x[i, j], format, layout=layout)
            for a, b in zip(batch, one, strict=True):
                assert b.numel() == 0 or torch.equal(a[i, j], b)
    got = values(batch, f"{format}@{layout}", 36)
    assert got.shape == x.shape
    assert torch.equal(got[1, 2], values(one, f"{format}@{layout}", 36))


@pytest.mark.parametrize("format", ["int8", "int4:g8", "mxfp4", "nvfp4"])
def test_any_stride(isa, format):
    x = torch.randn(3, 6, 40)
    want = ops.quantize(x, format)
    wide = torch.randn(3, 6, 80)
    wide[:, :, ::2] = x
    views = [
        wide[:, :, ::2],
        x.transpose(1, 2).contiguous().transpose(1, 2),
        x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    ]
    for view in views:
        assert all(torch.equal(a, b) for a, b in zip(ops.quantize(view, format), want, strict=True))
    row = torch.randn(1, 40)
    for a, b in zip(ops.quantize(row.expand(4, 40), format), ops.quantize(row.repeat(4, 1), format), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("format", ["int8", "int4:g8", "nvfp4", "float8_e4m3fn:b128x128"])
@pytest.mark.parametrize("shape", [(0, 36), (2, 0, 36), (0, 16, 36)])
def test_empty_batches(isa, format, shape):
    for layout in ("canonical", "plain", "tile16", "mma64"):
        parts = ops.quantize(torch.randn(shape), format, layout=layout)
        if layout == "canonical":
            assert ops.dequantize(parts[0], parts[1], None, format, 36,
                                  scale2=parts[3] if format == "nvfp4" else None).shape == shape  # fmt: skip


def test_embedding_takes_rows(isa):
    x = torch.randn(20, 50)
    ids = torch.tensor([[3, 0], [19, 3], [7, 7]])
    for format in ["int8", "int4:g16", "float6_e3m2fn:g8", "nf4:row", "mxfp4"]:
        for layout in ("canonical", "plain", "tile16", "mma64"):
            w, scale, _, _ = ops.quantize(x, format, layout=layout)
            want = ops.dequantize(w, scale, None, f"{format}@{layout}", 50)[ids]
            for kind in (torch.int64, torch.int32):
                assert torch.equal(ops.embedding(ids.to(kind), w, scale, None, f"{format}@{layout}", 50), want)
    assert ops.embedding(ids[:0], w, scale, None, f"mxfp4@{layout}", 50).shape == (0, 2, 50)
    assert ops.embedding(ids[0, 0], w, scale, None, f"mxfp4@{layout}", 50).shape == (50,)


def test_the_thread_count_does_not_matter(isa):
    x = torch.randn(300, 512)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append([*ops.quantize(x, "nvfp4"), *ops.quantize(x, "int4:b16x64")])
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


X = torch.randn(4, 64)
W = ops.quantize(X, "int4")[:2]
SEED = torch.tensor([1, 2])
ERRORS = [
    (lambda: ops.quantize(X, "int44"), r'format must name a known format, got "int44"; did you mean "int4"'),
    (lambda: ops.quantize(X.double(), "int4"), "x must be float32, bfloat16 or float16, got float64"),
    (lambda: ops.quantize(X[0], "int4"), r"x must be \[..., rows, K\], got shape \[64\]"),
    (lambda: ops.quantize(X[:, :0], "int4"), "x must have at least 1 column"),
    (lambda: ops.quantize(X, "int4", layout="tiles"), 'layout must be .*"tile16" or "mma64", got "tiles"'),
    (lambda: ops.quantize(X, "int4", scale_dtype=torch.int8), "scale_dtype must be float32, .* got int8"),
    (lambda: ops.quantize(X, "int4", rounding="up"), 'rounding must be "nearest" or "stochastic", got "up"'),
    (lambda: ops.quantize(X, "int4", rounding="stochastic"), "seed must be given for stochastic rounding, got None"),
    (lambda: ops.quantize(X, "int4", rounding="stochastic", seed=torch.tensor([1])), r"seed must be int64 \[2\]"),
    (lambda: ops.quantize(X, "int4", hadamard=48), "hadamard must be a power of two up to 4096 that divides K = 64"),
    (lambda: ops.quantize(X, "int4", hadamard=128), "hadamard must be a power of two up to 4096 that divides K = 64"),
    (lambda: ops.quantize(X, "int4", asymmetric=True), "asymmetric must be False for format int4, got True"),
    (lambda: ops.quantize(X, "table2"), "table must hold the 4 values of format table2, got None"),
    (lambda: ops.quantize(X, "table1", table=torch.tensor([1.0, 0.0])), "table must be finite and ascending, got 0"),
    (lambda: ops.quantize(X, "table1", table=torch.zeros(2)), "table must hold a value other than 0"),
    (lambda: ops.quantize(X, "int4:g8/int1"), "format must have a scale format with a positive value, got int1"),
    (lambda: ops.quantize(X, "int4:g8", zero=torch.zeros(4, 8)), "scale must be given together with zero"),
    (lambda: ops.quantize(X, "int4:g8", scale=torch.ones(4, 7)), r"scale must have shape \[4, 8\]"),
    (lambda: ops.quantize(X, "complex2"), r"x must be complex64 \[..., rows, K\] or floats \[..., rows, K, 2\]"),
    (lambda: ops.quantize(X.view(4, 32, 2), "complex2", rounding="stochastic", seed=SEED), "phase class"),
    (lambda: ops.dequantize(*W, None, "int4", 65), "must have 3 words a row for K = 65"),
    (lambda: ops.dequantize(*W, None, "int4", 0), "k must be at least 1, got 0"),
    (lambda: ops.embedding(torch.tensor([0, 4]), *W, None, "int4", 64), "ids must be in 0 .. 3, got 4 at pos"),
    (lambda: ops.embedding(torch.tensor([0.5]), *W, None, "int4", 64), "ids must be int64 or int32, got "),
]  # fmt: skip


@pytest.mark.parametrize(("call", "sentence"), ERRORS)
def test_errors(isa, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("format", ["int8", "int4:g16", "float8_e5m2:tensor", "mxfp4", "nvfp4", "nf4:b2x8", "complex2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_not_finite_is_refused_by_position(isa, bad, format, dtype):
    x = torch.randn(5, 70, 2).to(dtype) if format == "complex2" else torch.randn(5, 70).to(dtype)
    flat = x.view(5, -1)
    flat[3, 69] = flat[3, 44] = flat[4, 1] = bad
    with pytest.raises(ValueError, match=r"quantize: x must be finite, got -?(nan|inf) at row 3, column 44"):
        ops.quantize(x, format)
    if format == "int8":
        with pytest.raises(ValueError, match="row 3, column 44"):
            ops.quantize(x, format, layout="plain")
        with pytest.raises(ValueError, match="row 3, column 44"):
            ops.quantize(x, format, scale=torch.ones(5, 1))


def test_damaged_weights_are_refused_when_read(isa):
    codes = torch.zeros(3, 70, dtype=torch.uint8)
    codes[1, 66] = 2
    scale = torch.ones(3, 1)
    for layout, w in [("plain", codes), ("canonical", torch.stack([codes.new_zeros(3, 3).int()] * 2))]:
        if layout == "canonical":
            w[0, 1, 2] = 4  # the high bit of column 66
        with pytest.raises(ValueError, match="w must hold codes of ternary, got 2 at row 1, column 66"):
            ops.dequantize(w, scale, None, f"ternary@{layout}", 70)
        assert ops.embedding(torch.tensor([0, 2]), w, scale, None, f"ternary@{layout}", 70).count_nonzero() == 0
    w, scale, _, _ = ops.quantize(torch.randn(3, 70), "int4:g32")
    scale[2, 1] = float("nan")
    with pytest.raises(ValueError, match="scale must be finite, got nan for row 2, column 32"):
        ops.dequantize(w, scale, None, "int4:g32", 70)


def test_negative_values_saturate_in_unsigned_formats(isa):
    codes = ops.quantize(torch.tensor([[-1.0, 2.0]]), "uint4", layout="plain")[0]
    assert codes.tolist() == [[0, 15]]
