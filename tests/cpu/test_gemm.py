"""The front door: which family serves what, activations quantized on the way, batches, out; and many experts."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lowbit  # noqa: F401
import lowbit._C as _C
import numpy as np
import pytest
import torch
from compare import assert_bits, assert_near
from operands import Operand, complex_operand, operand
from oracle import gemm

OPS = torch.ops.lowbit
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
WEIGHTS = ["int4:g32", "uint3:row", "float8_e4m3fn:b16x32", "nf4:g64", "mxfp4", "nvfp4", "table3:g16", "ternary:tensor"]


def floats(rng: np.random.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32)).to(dtype)


def run(x: torch.Tensor, w: Operand, **more: object) -> torch.Tensor:
    return OPS.gemm(x, w.codes, w.scale, w.zero, w.format, w_scale2=w.scale2, w_table=w.table, **more)


def codes(x: Operand) -> dict:
    return {"x_scale": x.scale, "x_format": x.format, "x_zero": x.zero, "x_scale2": x.scale2}


def some(t: torch.Tensor) -> torch.Tensor | None:
    return t if t.numel() else None


@pytest.mark.parametrize(
    ("x_format", "planes", "w_format", "family"),
    [
        (None, False, "int4:g32", "dequant_gemm"),
        (None, False, "complex2", "dequant_gemm"),
        ("int8", False, "int4:g32", "scaled_gemm"),
        ("int8", False, "int3", "scaled_gemm"),
        ("int8", False, "uint2:g32", "bitplane_gemm"),
        ("uint4", False, "ternary", "bitplane_gemm"),
        ("int8", True, "int4:g32", "bitplane_gemm"),
        ("ternary:g64", True, "bipolar1", "bitplane_gemm"),
        ("int8", True, "nf4", "scaled_gemm"),
        ("int8", False, "complex2", "bitplane_gemm"),
        ("float8_e4m3fn", False, "complex2", "scaled_gemm"),
        ("float3_e2m0fn", True, "int4", "scaled_gemm"),
        ("nvfp4", False, "nvfp4", "scaled_gemm"),
        ("mxfp8_e4m3", True, "int2", "scaled_gemm"),
    ],
)
def test_family(x_format, planes, w_format, family):
    assert _C.gemm_family(x_format, planes, w_format) == family


@pytest.mark.parametrize("layout", ["plain", "canonical"])
@pytest.mark.parametrize("w_format", ["uint2:g32", "ternary"])
def test_float_zero_points_of_x_beside_weights_of_two_bits(isa, layout, w_format):
    gen = torch.Generator().manual_seed(3)
    weight, x = torch.randn(20, 70, generator=gen), torch.randn(5, 70, generator=gen)
    w, w_scale, _, _ = OPS.quantize(weight, w_format)
    codes, x_scale, _, _ = OPS.quantize(x, "int8", layout=layout)
    zero = torch.randn(5, 1, generator=gen)
    got = OPS.gemm(codes, w, w_scale, None, w_format, x_scale=x_scale, x_format="int8", x_zero=zero, k=70)
    values = OPS.dequantize(codes, None, None, "int8", 70).double() - zero.double()
    factors = OPS.dequantize(w, w_scale, None, w_format, 70).double()
    want = (values * x_scale.double()) @ factors.T
    # 70 products and a join of two terms for each of 3 groups, each rounded by at most 2^-24 of what it adds up
    bound = 80 * 2.0**-24 * ((values.abs() + zero.abs()) * x_scale) @ factors.abs().T
    assert bool(((got - want).abs() <= bound).all())


@pytest.mark.parametrize("w_format", WEIGHTS)
def test_float_activations_are_those_of_dequant_gemm(isa, w_format):
    rng = np.random.default_rng(1)
    w = operand(rng, w_format, 35, 70)
    for dtype in DTYPES:
        x, bias = floats(rng, 4, 70, dtype=dtype), floats(rng, 35)
        got = run(x, w, bias=bias)
        assert _C.last_kernel().startswith("dequant_gemm:")
        assert got.dtype == dtype
        assert_near(got, gemm.dense(x.double().numpy()), w.matrix, bias.double().numpy())


@pytest.mark.parametrize("x_format", ["int8", "int8:g32", "uint4:g16", "mxfp8_e4m3", "nvfp4", "mxint8"])
@pytest.mark.parametrize("w_format", WEIGHTS)
def test_codes_as_activations(isa, x_format, w_format):
    rng = np.random.default_rng(2)
    zero = "int" if x_format.startswith("uint") else None
    x, w = operand(rng, x_format, 4, 70, zero=zero), operand(rng, w_format, 18, 70)
    bias = floats(rng, 18)
    got = run(x.codes, w, bias=bias, k=70, **codes(x))
    assert got.dtype == torch.float32
    if x.matrix.shift is not None and w.matrix.shift is not None:
        assert_bits(got, gemm.integer_path(x.matrix, w.matrix, bias.numpy()))
    else:
        assert_near(got, x.matrix, w.matrix, bias.double().numpy())


@pytest.mark.parametrize("x_format", ["int8", "int8:g32", "int8:tensor", "int4:g16", "uint8", "uint8:g32",
                                      "ternary:g32", "float8_e4m3fn", "float8_e4m3fn:g128", "mxfp8_e4m3", "mxfp4",
                                      "nvfp4", "nvint4", "mxint8", "nf4:g16", "int4:g8/uint4:g4"])  # fmt: skip
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_quantizing_on_the_way_is_quantize_then_multiply(isa, x_format, dtype):
    """To the last bit, unsigned formats with zero points."""
    rng = np.random.default_rng(3)
    for m, n, k in [(1, 5, 40), (7, 18, 131)]:
        x, w = floats(rng, m, k, dtype=dtype), operand(rng, "int4:g32", n, k)
        bias = floats(rng, n)
        q = OPS.quantize(x, x_format, asymmetric=x_format.startswith("uint"))
        want = OPS.scaled_gemm(
            q[0], q[1], x_format, w.codes, w.scale, w.format, k,
            x_zero=some(q[2]), x_scale2=some(q[3]), bias=bias, out_dtype=dtype,
        )  # fmt: skip
        got = run(x, w, x_format=x_format, bias=bias)
        assert _C.last_kernel().startswith("scaled_gemm:")
        assert got.dtype == dtype
        assert torch.equal(got, want)


@pytest.mark.parametrize("x_format", ["int8", "int8:tensor", "int8:g32", "uint8:g32", "float8_e4m3fn:tensor"])
def test_given_scales_are_used_as_they_are(isa, x_format):
    rng = np.random.default_rng(4)
    x, w = floats(rng, 6, 70), operand(rng, "int4:g32", 18, 70)
    made = operand(rng, x_format, 6, 70, zero="int" if x_format.startswith("uint") else None)
    given = {"scale": made.scale, "zero": None if made.zero is None else made.zero.to(torch.uint8)}
    q = OPS.quantize(x, x_format, **given)
    want = OPS.scaled_gemm(q[0], made.scale, x_format, w.codes, w.scale, w.format, 70, x_zero=given["zero"])
    got = run(x, w, x_format=x_format, x_scale=made.scale, x_zero=given["zero"])
    assert torch.equal(got, want)


@pytest.mark.parametrize("x_format", [None, "int8", "int8:g32", "nvfp4"])
def test_leading_dimensions_and_strides(isa, x_format):
    rng = np.random.default_rng(5)
    w = operand(rng, "int4:g32", 18, 64)
    x = floats(rng, 2, 3, 5, 64)
    want = run(x.reshape(30, 64), w, x_format=x_format)
    views = {
        "whole": x,
        "transposed": x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
        "every second": torch.repeat_interleave(x, 2, -1)[..., ::2],
        "swapped": x.transpose(1, 2).contiguous().transpose(1, 2),
    }
    for name, view in views.items():
        assert torch.equal(view, x)
        got = run(view, w, x_format=x_format)
        assert got.shape == (2, 3, 5, 18), name
        assert torch.equal(got.reshape(30, 18), want), name
    assert torch.equal(run(x[0, 0, 0], w), run(x[0, 0, :1], w)[0])
    same = x[0, 0, :1].expand(4, 64)
    assert torch.equal(run(same, w), run(same.contiguous(), w))


@pytest.mark.parametrize(
    "x_format", ["int8", "int8:g32", "int4:g16", "float8_e4m3fn:g16", "mxfp4", "int5:g16/uint4:g2"]
)
def test_leading_dimensions_of_codes(isa, x_format):
    """Planes [..., bits, M, words], others [..., M, bytes], scales with the same leading dimensions."""
    rng = np.random.default_rng(6)
    x, w = operand(rng, x_format, 30, 64), operand(rng, "int4:g32", 18, 64)
    want = run(x.codes, w, k=64, **codes(x))

    def batched(t: torch.Tensor) -> torch.Tensor:
        if t.dtype == torch.int32:
            return t.unflatten(1, (2, 3, 5)).permute(1, 2, 0, 3, 4)
        return t.unflatten(0, (2, 3, 5))

    got = run(batched(x.codes), w, k=64, **{**codes(x), "x_scale": batched(x.scale)})
    assert got.shape == (2, 3, 5, 18)
    assert torch.equal(got.reshape(30, 18), want)


@pytest.mark.parametrize("empty", ["rows", "outputs", "batch"])
@pytest.mark.parametrize("x_format", [None, "int8", "nvfp4"])
def test_empty(isa, empty, x_format):
    rng = np.random.default_rng(7)
    n = 0 if empty == "outputs" else 18
    shape = {"rows": (0, 40), "outputs": (3, 40), "batch": (2, 0, 3, 40)}[empty]
    w = operand(rng, "int4:g32", n, 40)
    got = run(torch.empty(shape), w, x_format=x_format, bias=torch.zeros(n))
    assert got.shape == (*shape[:-1], n)


def test_complex_weights_through_the_front_door(isa):
    rng = np.random.default_rng(8)
    w, x = complex_operand(rng, "row", 6, 40, pair=True), operand(rng, "int8", 3, 80)
    got = run(x.codes, w, **codes(x), k=40)
    assert _C.last_kernel().startswith("bitplane_gemm:")
    assert_bits(got, gemm.integer_path(x.matrix, w.matrix))
    dense = floats(rng, 3, 80)
    assert_near(run(dense, w), gemm.dense(dense.double().numpy()), w.matrix)
    assert run(dense, w, x_format="int8").shape == (3, 12)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("x_format", [None, "int8"])
def test_out(isa, dtype, x_format):
    rng = np.random.default_rng(9)
    w, x = operand(rng, "int4:g32", 18, 64), floats(rng, 2, 3, 64)
    want = run(x, w, x_format=x_format, out_dtype=dtype)
    strided = torch.full((2, 3, 40), 7.0, dtype=dtype)
    for out in (torch.empty(2, 3, 18, dtype=dtype), strided[..., 3:39:2]):
        OPS.gemm.out(x, w.codes, w.scale, w.zero, w.format, x_format=x_format, out=out)
        assert torch.equal(out, want)
    assert (strided[..., 4:39:2] == 7).all()
    assert (strided[..., :3] == 7).all()


def experts(rng: np.random.Generator, w_format: str, n: int, k: int, count: int, zero: str | None = None):
    """One operand an expert, and all of them stacked."""
    each = [operand(rng, w_format, n, k, zero=zero) for _ in range(count)]
    if each[0].table is not None:  # one table for all
        each = [
            replace(
                w, table=each[0].table, matrix=replace(w.matrix, values=each[0].table.double().numpy()[_codes(w, k)])
            )
            for w in each
        ]

    def stack(name: str) -> torch.Tensor | None:
        parts = [getattr(w, name) for w in each]
        return None if parts[0] is None else torch.stack(parts)

    return each, replace(
        each[0], codes=stack("codes"), scale=stack("scale"), zero=stack("zero"), scale2=stack("scale2")
    )


def _codes(w: Operand, k: int) -> np.ndarray:
    return OPS.unpack(w.codes, w.format.split(":")[0], k).long().numpy()


def grouped(x: torch.Tensor, w: Operand, ends: list[int], **more: object) -> torch.Tensor:
    offs = torch.tensor(ends, dtype=torch.int32)
    return OPS.grouped_gemm(x, w.codes, w.scale, w.zero, offs, w.format, w_scale2=w.scale2, w_table=w.table, **more)


ENDS = [[3, 3, 10, 11], [0, 0, 0, 11], [11, 11, 11, 11], [1, 5, 9, 11]]


@pytest.mark.parametrize("x_format", [None, "int8", "uint8:g32", "mxfp8_e4m3"])
@pytest.mark.parametrize("w_format", [*WEIGHTS, "uint2:g16/uint4:g16", "int4:b5x32"])
def test_experts_are_separate_products(isa, w_format, x_format):
    """Bit for bit what gemm gives for the rows of each expert, with more rows than one tile of the cut has."""
    rng = np.random.default_rng(10)
    zero = "int" if w_format.startswith("uint3") else None
    for n, cuts in ((18, ENDS), (530, ENDS[:1])):
        each, w = experts(rng, w_format, n, 70, 4, zero)
        x, bias = floats(rng, 11, 70), floats(rng, 4, n)
        for ends in cuts:
            got = grouped(x, w, ends, x_format=x_format, bias=bias)
            assert got.shape == (11, n)
            begin = 0
            for e, end in enumerate(ends):
                want = run(x[begin:end], each[e], x_format=x_format, bias=bias[e])
                assert torch.equal(got[begin:end], want), (n, ends, e)
                begin = end


@pytest.mark.parametrize("x_format", [None, "int8", "float8_e4m3fn:g128"])
@pytest.mark.parametrize(
    "w_format",
    ["float8_e4m3fn:b128x128", "int4:tensor", "uint3:b5x32", "nf4:b48x64", "nvfp4",
     "float4_e2m1fn:b4x16/float8_e4m3fn:tensor", "uint2:b8x16/uint4:b3x2"],
)  # fmt: skip
def test_prepacked_weights_with_scales_of_several_rows(isa, w_format, x_format):
    """Bit for bit what canonical codes give, and what the reference has within half a percent. Rows that share a scale
    end within tiles and beyond them."""
    rng = np.random.default_rng(11)
    zero = "int" if w_format.startswith("uint3") else None
    for n, k, m in ((16, 70, 1), (272, 300, 3), (144, 513, 40)):
        each, w = experts(rng, w_format, n, k, 2, zero)
        element = w_format.partition(":")[0]
        x, bias = floats(rng, m, k), floats(rng, 2, n)
        for layout in ("tile16", "mma64"):
            one = replace(
                each[0], codes=OPS.prepack(each[0].codes, element, k, layout=layout), format=f"{w_format}@{layout}"
            )
            got = run(x, one, x_format=x_format, bias=bias[0])
            assert torch.equal(got, run(x, each[0], x_format=x_format, bias=bias[0])), (n, layout)
            _C.force_isa("ref")
            want = run(x, each[0], x_format=x_format, bias=bias[0])
            _C.force_isa(isa)
            assert (got - want).norm() < 0.005 * want.norm(), (n, layout)
            both = replace(w, codes=OPS.prepack(w.codes, element, k, layout=layout), format=f"{w_format}@{layout}")
            ends = [m // 2, m]
            assert torch.equal(
                grouped(x, both, ends, x_format=x_format, bias=bias), grouped(x, w, ends, x_format=x_format, bias=bias)
            ), (n, layout)


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("x_format", [None, "int8"])
def test_experts_of_complex_weights(isa, x_format, pair):
    rng = np.random.default_rng(17)
    each = [complex_operand(rng, "g16", 300, 40, pair=pair) for _ in range(4)]
    w = replace(each[0], codes=torch.stack([e.codes for e in each]), scale=torch.stack([e.scale for e in each]))
    x, bias = floats(rng, 11, 80), floats(rng, 4, 600)
    got = grouped(x, w, ENDS[0], x_format=x_format, bias=bias)
    begin = 0
    for e, end in enumerate(ENDS[0]):
        assert torch.equal(got[begin:end], run(x[begin:end], each[e], x_format=x_format, bias=bias[e]))
        begin = end


@pytest.mark.parametrize("x_format", [None, "int8"])
@pytest.mark.parametrize("w_format", ["int4:g32", "nvfp4", "uint2:g16/uint4:g16"])
def test_prepacked_experts(isa, w_format, x_format):
    rng = np.random.default_rng(18)
    _, w = experts(rng, w_format, 530, 70, 4)
    element = {"nvfp4": "float4_e2m1fn"}.get(w_format, w_format.split(":")[0])
    tiles = replace(w, codes=torch.stack([OPS.prepack(c, element, 70) for c in w.codes]), format=w_format + "@tile16")
    x = floats(rng, 11, 70)
    got = grouped(x, tiles, ENDS[0], x_format=x_format)
    begin = 0
    for e, end in enumerate(ENDS[0]):
        one = replace(
            tiles, codes=tiles.codes[e], scale=tiles.scale[e], scale2=None if w.scale2 is None else w.scale2[e]
        )
        assert torch.equal(got[begin:end], run(x[begin:end], one, x_format=x_format))
        begin = end


def test_experts_with_codes_as_activations(isa):
    rng = np.random.default_rng(11)
    each, w = experts(rng, "int4:g32", 300, 64, 4)
    for x_format in ("int8:g16", "int8:tensor", "uint5:g16", "mxfp4"):
        x = operand(rng, x_format, 11, 64, zero="int" if x_format.startswith("uint") else None)
        got = grouped(x.codes, w, ENDS[0], k=64, **codes(x))
        begin = 0
        for e, end in enumerate(ENDS[0]):
            rows = slice(begin, end)
            part = replace(x.matrix, values=x.matrix.values[rows], scale=x.matrix.scale[rows],
                           zero=None if x.matrix.zero is None else x.matrix.zero[rows])  # fmt: skip
            assert_bits(got[rows], gemm.integer_path(part, each[e].matrix))
            begin = end


def test_one_scale_for_all_experts(isa):
    rng = np.random.default_rng(12)
    _, w = experts(rng, "int4:tensor", 18, 64, 4)
    x = floats(rng, 11, 64)
    one = replace(w, scale=torch.tensor([0.5]))
    many = replace(w, scale=torch.full((4,), 0.5))
    assert torch.equal(grouped(x, one, ENDS[0]), grouped(x, many, ENDS[0]))


@pytest.mark.parametrize("w_format", ["int4:g32", "nvfp4", "table3:g16"])
def test_gradient_of_experts(isa, w_format):
    rng = np.random.default_rng(13)
    for k in (70, 600):
        each, w = experts(rng, w_format, 18, k, 4)
        for rows, ends in [(11, e) for e in ENDS] + [(150, [70, 70, 149, 150])]:
            dy = floats(rng, rows, 18)
            got = OPS.grouped_gemm_input_grad(
                dy, w.codes, w.scale, w.zero, torch.tensor(ends, dtype=torch.int32), w.format, k,
                w_scale2=w.scale2, w_table=w.table,
            )  # fmt: skip
            begin = 0
            for e, end in enumerate(ends):
                want = OPS.dequant_gemm_input_grad(
                    dy[begin:end], each[e].codes, each[e].scale, None, w.format, k,
                    w_scale2=each[e].scale2, w_table=w.table,
                )  # fmt: skip
                assert torch.equal(got[begin:end], want)
                begin = end


@pytest.mark.parametrize("x_format", [None, "int8"])
def test_no_rows_and_no_experts(isa, x_format):
    rng = np.random.default_rng(14)
    _, w = experts(rng, "int4:g32", 18, 64, 4)
    assert grouped(torch.empty(0, 64), w, [0, 0, 0, 0], x_format=x_format).shape == (0, 18)
    none = replace(w, codes=w.codes[:0], scale=w.scale[:0])
    assert grouped(torch.empty(0, 64), none, [], x_format=x_format).shape == (0, 18)


@pytest.mark.parametrize("x_format", [None, "int8:g32", "float8_e4m3fn"])
@pytest.mark.parametrize("w_format", ["int4:g32", "mxfp4", "nf4"])
def test_the_number_of_threads_changes_nothing(isa, w_format, x_format):
    rng = np.random.default_rng(15)
    w, x, dy = operand(rng, w_format, 270, 160), floats(rng, 37, 160), floats(rng, 37, 270)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        gradient = OPS.dequant_gemm_input_grad(dy, w.codes, w.scale, None, w.format, 160)
        results.append((run(x, w, x_format=x_format), gradient))
    torch.set_num_threads(before)
    for product, gradient in results[1:]:
        assert torch.equal(product, results[0][0])
        assert torch.equal(gradient, results[0][1])


def peak_growth(call: Callable[[], object]) -> int:
    """Bytes by which the resident memory of this process exceeds, during the call, what it was before."""

    def status(field: str) -> int:
        return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1))

    call()  # pages of code, thread stacks
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: proc(5)
    before = status("VmRSS")
    call()
    return status("VmHWM") - before


@pytest.mark.parametrize("layout", ["canonical", "tile16"])
@pytest.mark.parametrize("x_format", [None, "int8", "mxfp8_e4m3"])
def test_no_copy_of_the_weight_is_made(isa, x_format, layout):
    """2048 x 4096 codes are 32 MiB in fp32, 16 in bf16, 8 in int8: a call may take 4 beside its result."""
    rng = np.random.default_rng(16)
    packed = torch.from_numpy(rng.integers(-(2**31), 2**31, (4, 2048, 128)).astype(np.int32))
    w = packed if layout == "canonical" else OPS.prepack(packed, "int4", 4096)
    w_format = "int4:g128" + ("" if layout == "canonical" else "@tile16")
    scale, x, dy = torch.ones(2048, 32), floats(rng, 4, 4096), floats(rng, 4, 2048)
    assert peak_growth(lambda: OPS.gemm(x, w, scale, None, w_format, x_format=x_format)) < 4 << 20
    if x_format is None:
        assert peak_growth(lambda: OPS.dequant_gemm_input_grad(dy, w, scale, None, w_format, 4096)) < 4 << 20
