"""The front door on CUDA: gemm and grouped_gemm through the binding, whole. The bits or the bounds of the families
behind them, activations that are quantized on the way, outputs of the caller, and refusals in the
words of the CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from cuda.bounds import assert_within, block_scaled, bound
from cuda.emulated import ARCH, ARCHS, MODELS, kernels, ops, run, same_bits
from cuda.kernels import on
from operands import Operand, operand
from oracle import gemm
from torch import Tensor

K, N, M = 100, 41, 70
OFFS = [[0, 5, 70], [70, 70, 70], [0, 0, 70], [1, 2, 70], [64, 64, 70]]


def floats(rng: np.random.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32)).to(dtype)


def call(library: Any, x: Tensor, w: Operand, **more: Any) -> Tensor:
    return library.gemm(x, w.codes, w.scale, w.zero, w.format, w_scale2=w.scale2, w_table=w.table, **more)


def check_bits(function: Any, arch: str = ARCH) -> None:
    assert same_bits(run(function, arch), function(torch.ops.lowbit))


# ---- gemm


@pytest.mark.parametrize("w_format", ["int4:g32", "uint3:g16", "nvfp4", "mxint8", "ternary"])
@pytest.mark.parametrize("x_format", ["int8", "uint8:g64", "int4:g32", "nvfp4", "mxint8"])
def test_activations_quantized_on_the_way(x_format: str, w_format: str) -> None:
    if ARCH == "120f" and block_scaled(x_format, w_format):
        pytest.skip("codes with block scales are multiplied as they are: not the bits of the CPU")
    rng = np.random.default_rng(1)
    w = operand(rng, w_format, N, K, layout="mma64", zero="int" if w_format[0] == "u" else None)
    for dtype, m in ((torch.bfloat16, 3), (torch.float32, 40)):
        x = floats(rng, m, K, dtype=dtype)
        check_bits(lambda library, x=x: call(library, x, w, x_format=x_format))


@pytest.mark.parametrize("x_format", ["float8_e4m3fn", "mxfp8_e4m3"])
@pytest.mark.parametrize("arch", ["80", "89"])
def test_activations_quantized_to_float8(arch: str, x_format: str) -> None:
    """The codes are the CPU's, the product that of scaled_gemm with these."""
    rng = np.random.default_rng(2)
    w, x = operand(rng, "float8_e4m3fn:b128x128", N, 300), floats(rng, 20, 300, dtype=torch.bfloat16)
    codes, scale, _, _ = torch.ops.lowbit.quantize(x, x_format)
    for model in MODELS:
        got = run(lambda library: call(library, x, w, x_format=x_format), arch, mma=model)
        want = run(
            lambda library: library.scaled_gemm(
                codes, scale, x_format, w.codes, w.scale, w.format, 300, out_dtype=torch.bfloat16
            ),
            arch,
            mma=model,
        )
        assert same_bits(got, want)


def test_given_scales_of_activations() -> None:
    rng = np.random.default_rng(3)
    w, x = operand(rng, "int4:g32", N, K), floats(rng, 20, K)
    scale, zero = torch.rand(20, 1) * 0.02 + 0.01, torch.randint(0, 255, (20, 1), dtype=torch.int32)
    check_bits(lambda library: call(library, x, w, x_format="int8", x_scale=scale))
    check_bits(lambda library: call(library, x, w, x_format="uint8", x_scale=scale, x_zero=zero))


@pytest.mark.parametrize("x_format", ["int8:g32", "uint4", "nvfp4"])
def test_codes_as_activations(x_format: str) -> None:
    rng = np.random.default_rng(4)
    w = operand(rng, "int4:g32", N, K, layout="mma64")
    for m in (0, 3, 40):
        x = operand(rng, x_format, m, K)
        more = {"x_scale": x.scale, "x_scale2": x.scale2, "x_format": x_format, "k": K}
        check_bits(lambda library, x=x, more=more: call(library, x.codes, w, **more))


@pytest.mark.parametrize("m", [3, 40])
def test_prepacked_weights_at_any_address(m: int) -> None:
    """Views that begin where no 16 bytes do are copied for the kernels, experts too."""
    rng = np.random.default_rng(11)
    w, x = operand(rng, "int4:g32", N, K, layout="mma64"), floats(rng, m, K, dtype=torch.bfloat16)

    def moved(t: Tensor, by: int) -> Tensor:
        view = torch.zeros(t.numel() + by, dtype=torch.uint8)[by:].view(t.shape)
        return view.copy_(t)

    scales, offs = torch.stack([w.scale] * 2), torch.tensor([1, m], dtype=torch.int32)
    for by in (1, 8):
        odd = replace(w, codes=moved(w.codes, by))
        check_bits(lambda library, odd=odd: call(library, x, odd, x_format="int8"))
        assert same_bits(run(lambda library, odd=odd: call(library, x, odd)), run(lambda library: call(library, x, w)))
        stack = torch.stack([w.codes] * 2)
        got = run(
            lambda library, stack=stack, by=by: library.grouped_gemm(
                x, moved(stack, by), scales, None, offs, w.format, x_format="int8"
            )
        )
        assert same_bits(got, call(torch.ops.lowbit, x, w, x_format="int8"))


def test_each_family_is_reached() -> None:
    rng = np.random.default_rng(5)
    w = operand(rng, "int2", N, 128)
    planes, x = operand(rng, "int2", 3, 128), floats(rng, 3, 128)
    families = [
        ("binary_gemm", lambda library: call(library, planes.codes, w, x_scale=planes.scale, x_format="int2", k=128)),
        ("FloatEngine", lambda library: call(library, x, w)),
        ("Int8Engine", lambda library: call(library, x, w, x_format="int8")),
    ]
    for engine, function in families:
        assert any(engine in name for name in kernels(function)), engine


def test_an_output_of_the_caller() -> None:
    rng = np.random.default_rng(6)
    w, x = operand(rng, "int4:g32", N, K), floats(rng, 6, K)
    for given in (torch.full((6, N), 7.0), torch.full((N, 6), 7.0).T, torch.full((12, 2 * N), 7.0)[::2, ::2]):
        want = call(torch.ops.lowbit, x, w, x_format="int8")

        def write(library: Any, given: Tensor = given) -> Tensor:
            given.fill_(7.0)
            library.gemm.out(x, w.codes, w.scale, None, w.format, x_format="int8", out=given)
            return given.clone()

        assert same_bits(run(write).contiguous(), want)
    wide = torch.full((12, 2 * N), 7.0)
    run(lambda library: (library.gemm.out(x, w.codes, w.scale, None, w.format, out=wide[::2, ::2]), wide.clone())[1])
    assert (wide[1::2] == 7).all()
    assert (wide[:, 1::2] == 7).all()


# ---- experts


def experts(rng: np.random.Generator, format: str, layout: str = "canonical", zero: str | None = None) -> tuple:
    each = [operand(rng, format, N, K, layout=layout, zero=zero) for _ in range(3)]

    def stacked(name: str) -> Tensor | None:
        parts = [getattr(w, name) for w in each]
        return None if parts[0] is None else torch.stack(parts)

    return each, replace(each[0], **{name: stacked(name) for name in ("codes", "scale", "zero", "scale2")})


def grouped(library: Any, x: Tensor, w: Operand, offs: list[int], **more: Any) -> Tensor:
    ends = torch.tensor(offs, dtype=torch.int32)
    return library.grouped_gemm(x, w.codes, w.scale, w.zero, ends, w.format, w_scale2=w.scale2, **more)


@pytest.mark.parametrize("layout", ["canonical", "mma64"])
@pytest.mark.parametrize("offs", OFFS, ids=str)
def test_experts_with_integer_activations(offs: list[int], layout: str) -> None:
    rng = np.random.default_rng(7)
    x = floats(rng, M, K, dtype=torch.bfloat16)
    for format in ("int4:g32", "uint4:row", "nvfp4"):
        _, w = experts(rng, format, layout, zero="int" if format[0] == "u" else None)
        for x_format, bias in (("int8", floats(rng, 3, N)), ("nvfp4" if format == "nvfp4" else "int8:g64", None)):
            check_bits(lambda library, w=w, f=x_format, b=bias: grouped(library, x, w, offs, x_format=f, bias=b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("format", ["int4:g32", "nf4:g64", "nvfp4", "float8_e4m3fn"])
def test_experts_with_float_activations(format: str, dtype: torch.dtype) -> None:
    """Within the bound, and every row has the bits of its expert's own gemm."""
    rng = np.random.default_rng(8)
    each, w = experts(rng, format, "mma64")
    x = floats(rng, M, K, dtype=dtype)
    for offs in OFFS[:2]:
        for model in MODELS:
            got = run(lambda library, offs=offs: grouped(library, x, w, offs), mma=model)
            for expert, (begin, end) in enumerate(zip([0, *offs], offs, strict=False)):
                rows, one = x[begin:end], each[expert]
                exact_x = gemm.dense(rows.double().numpy())
                allowed = bound(exact_x, one.matrix, arch=ARCH, model=model, out=got.dtype, x_dtype=dtype)
                assert_within(got[begin:end], gemm.exact(exact_x, one.matrix), allowed)
                alone = run(lambda library, rows=rows, one=one: call(library, rows, one), mma=model)
                assert same_bits(got[begin:end], alone)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(
    ("format", "x_format"),
    [("mxfp4", "mxfp4"), ("nvfp4", "nvfp4"), ("float8_e4m3fn", "float8_e4m3fn"), ("int4:g32", None), ("nf4:g64", None)],
)
def test_experts_of_every_engine(format: str, x_format: str | None, arch: str) -> None:
    """Strided rows, experts without any: each expert has the bits of its own gemm, which other tests hold to bounds."""
    rng = np.random.default_rng(13)
    each, w = experts(rng, format, "mma64")
    x = floats(rng, M, 2 * K, dtype=torch.bfloat16)[:, ::2]
    scale, more = None, {}
    if x_format is not None:  # once: nvfp4 has a scale of the whole
        x, scale, _, scale2 = torch.ops.lowbit.quantize(x, x_format)
        more = {"x_format": x_format, "x_scale2": scale2 if scale2.numel() else None, "k": K}

    def rows(begin: int, end: int) -> dict[str, Any]:
        return more | ({} if scale is None else {"x_scale": scale[begin:end]})

    for offs in ([0, 5, 70], [33, 33, 70]):
        for model in MODELS:
            got = run(lambda library, offs=offs: grouped(library, x, w, offs, **rows(0, M)), arch, mma=model)
            for one, (begin, end) in zip(each, zip([0, *offs], offs, strict=False), strict=True):
                own = rows(begin, end)
                alone = run(
                    lambda library, r=x[begin:end], one=one, own=own: call(library, r, one, **own), arch, mma=model
                )
                assert same_bits(got[begin:end], alone)


@pytest.mark.parametrize("offs", [[2, 1, 70], [-1, 3, 70], [1, 2, 3], [1, 4, 90], [90, 3, 2]], ids=str)
def test_wrong_ends_of_experts_lead_nowhere(offs: list[int]) -> None:
    """No op waits to read them on CUDA: whatever they are, nothing outside the tensors is touched."""
    rng = np.random.default_rng(12)
    _, w = experts(rng, "int4:g32")
    library = ops()
    with on():
        grouped(library, floats(rng, M, K), w, offs)


@pytest.mark.parametrize("arch", ["89", "90", "120f"])
def test_experts_on_architectures(arch: str) -> None:
    rng = np.random.default_rng(9)
    _, w = experts(rng, "int4:g32", "mma64")
    x = floats(rng, M, K)
    check_bits(lambda library: grouped(library, x, w, [3, 3, 70], x_format="int8"), arch)


def test_no_rows_and_no_outputs() -> None:
    rng = np.random.default_rng(10)
    _, w = experts(rng, "int4:g32")
    assert run(lambda library: grouped(library, torch.empty(0, K), w, [0, 0, 0])).shape == (0, N)
    none = replace(w, codes=w.codes[:, :, :0], scale=w.scale[:, :0])
    assert run(lambda library: grouped(library, torch.zeros(5, K), none, [1, 2, 5])).shape == (5, 0)
    one = operand(rng, "int4:g32", N, K)
    assert run(lambda library: call(library, torch.empty(2, 0, K), one)).shape == (2, 0, N)


# ---- what is refused

RNG = np.random.default_rng(11)
X, W = floats(RNG, 3, 64), operand(RNG, "int4:g32", 6, 64)
XQ, EXPERTS = operand(RNG, "int8", 3, 64), torch.stack([W.codes] * 2)
WEIGHT = {"w": W.codes, "w_scale": W.scale, "w_zero": None, "w_format": W.format}
CODES = {"x": XQ.codes, "x_scale": XQ.scale, "x_format": "int8", "k": 64}
GOOD: dict[str, dict[str, Any]] = {
    "dequant_gemm": {"x": X, **WEIGHT},
    "scaled_gemm": {**CODES, **WEIGHT},
    "bitplane_gemm": {**CODES, "x_zero": None, **WEIGHT},
    "gemm": {"x": X, **WEIGHT},
    "grouped_gemm": {"x": X, **WEIGHT, "w": EXPERTS, "w_scale": torch.stack([W.scale] * 2),
                     "offs": torch.tensor([1, 3], dtype=torch.int32)},
}  # fmt: skip
BAD: list[tuple[str, dict[str, Any]]] = [
    *((op, change) for op in GOOD for change in (
        {"w_format": "it4:g32"}, {"w_format": "int4:32"}, {"w_format": "int4:g32@tile32"}, {"w": W.codes[0]},
        {"w": W.codes.long()}, {"w": W.codes[:3]}, {"w": W.codes[..., :1]}, {"w_scale": W.scale[:5]},
        {"w_scale": W.scale.double()}, {"w_zero": torch.zeros(W.scale.shape, dtype=torch.int64)},
        {"bias": torch.zeros(7)}, {"bias": torch.zeros(6, dtype=torch.int32)}, {"out_dtype": torch.float64},
        {"w_format": "int4:g32/uint4", "w_scale": None})),
    *((op, {"k": k}) for op in ("scaled_gemm", "bitplane_gemm") for k in (0, -1, 65)),
    *((op, change) for op in ("scaled_gemm", "bitplane_gemm") for change in (
        {"x": XQ.codes[0]}, {"x_scale": torch.ones(4)}, {"x_format": "complex2"}, {"x_format": "int9"},
        {"out_dtype": torch.int32},
        {"x_scale": None, "w_scale": None, "out_dtype": torch.int32, "bias": torch.zeros(6)})),
    ("bitplane_gemm", {"w_format": "nf4"}), ("bitplane_gemm", {"x_zero": torch.zeros(3)}),
    *((op, change) for op in ("dequant_gemm", "gemm") for change in (
        {"x": X[:, :31]}, {"x": torch.empty(3, 0)}, {"x": torch.tensor(1.0)}, {"w_scale2": torch.ones(1)},
        {"w_format": "complex2"}, {"w_table": torch.zeros(16)}, {"w_format": "table4:g32"})),
    ("dequant_gemm", {"w_high": W.codes}),
    ("dequant_gemm", {"outlier_offsets": torch.zeros(7, dtype=torch.int32)}),
    *(("gemm", change) for change in (
        {"x": XQ.codes}, {"x_scale": torch.ones(3)}, {"x": XQ.codes, "x_format": "int8", "x_scale": XQ.scale},
        {"k": 65}, {"x_format": "table4"}, {"x_format": "uint8", "x_zero": torch.zeros(3)})),
    ("grouped_gemm", {"offs": torch.tensor([1, 2, 3], dtype=torch.int32)}),
    ("grouped_gemm", {"offs": torch.tensor([1, 3])}), ("grouped_gemm", {"x": X[None]}),
    ("grouped_gemm", {"x_format": "int8:b2x32"}), ("grouped_gemm", {"bias": torch.zeros(6)}),
]  # fmt: skip


def refusal(library: Any, op: str, change: dict[str, Any]) -> str:
    with pytest.raises(ValueError, match=f"^{op}: .* must ") as raised:
        getattr(library, op).default(**(GOOD[op] | change))
    return str(raised.value)


@pytest.mark.parametrize("op", GOOD)
def test_the_unchanged_call_is_right(op: str) -> None:
    run(lambda library: getattr(library, op).default(**GOOD[op]))


@pytest.mark.parametrize(("op", "change"), BAD, ids=[f"{op}-{'-'.join(change)}" for op, change in BAD])
def test_refusals_are_those_of_the_cpu(op: str, change: dict[str, Any]) -> None:
    assert refusal(ops(), op, change) == refusal(torch.ops.lowbit, op, change)
