"""quantize and dequantize on CUDA: the bits of the CPU, for every format and block rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lowbit._C as _C
import pytest
import torch
from cuda.kernels import (
    ARCH,
    ARCHS,
    Call,
    CDequantize,
    CQuantize,
    CValues,
    CWeight,
    Device,
    KernelError,
    on,
    same_bits,
    twice,
    unwritten,
    workspace,
)
from lowbit import ops
from torch import Tensor


@pytest.fixture(autouse=True)
def reference() -> Iterator[None]:
    before = _C.isa()
    _C.force_isa("ref")
    yield
    _C.force_isa(before)


def values(rows: int, cols: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Values of many magnitudes, ties among them, zeros, both signs."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, cols, generator=g) * torch.exp2(torch.randint(-6, 7, (rows, 1), generator=g).float())
    x = torch.where(torch.rand(rows, cols, generator=g) < 0.2, (x * 8).round() / 8, x)
    return torch.where(torch.rand(rows, cols, generator=g) < 0.05, torch.zeros(()), x).to(dtype)


def table_of(format: str) -> Tensor | None:
    if not format.startswith("table"):
        return None
    n = 2 ** int(format[5])
    return torch.sort(torch.randn(n, generator=torch.Generator().manual_seed(n))).values


def quantize(
    x: Tensor, format: str, arch: str = ARCH, *, device_seed: bool = False, run: int | None = None, **options: Any
) -> tuple[list[Tensor], set[str]]:
    """As ops.quantize of one matrix, on the emulated device; and the findings."""
    like = ops.quantize(x, format, **options)  # shapes and dtypes
    given = options.get("scale") is not None
    rows, cols = x.shape[0], x.shape[1]
    seed = options.get("seed")
    device = Device(x.flatten(1) if x.dim() == 3 else x)
    codes = unwritten(like[0])
    scale, zero, scale2 = (
        (Device(options[n]) if options.get(n) is not None else None) if given else (unwritten(t) if t.numel() else None)
        for n, t in zip(("scale", "zero", "scale2"), like[1:], strict=True)
    )
    table = Device(options["table"]) if options.get("table") is not None else None
    none = CValues(None, 0)
    args = CQuantize(
        device.matrix(),
        format.encode(),
        table.pointer if table else None,
        codes.pointer,
        scale.values() if scale else none,
        scale2.values() if scale2 else none,
        zero.values() if zero else none,
        rows,
        cols,
        given,
        options.get("asymmetric", False),
        options.get("rounding") == "stochastic",
        *((seed.tolist() if not device_seed else (0, 0)) if seed is not None else (0, 0)),
        0,
        options.get("hadamard", 0),
        options.get("layout") == "plain",
    )
    if scale and like[1].dtype not in (torch.float32, torch.bfloat16, torch.float16) and not given:
        args.scale = CValues(scale.pointer, 0)
    call = Call(
        workspace("lowbit_cuda_quantize_workspace", args), seed.tolist() if device_seed and seed is not None else None
    )
    with on(arch, run):
        found = call.run("lowbit_cuda_quantize", args)
    return [
        codes.get(),
        *(t.get() if t and not given else like[i + 1] for i, t in enumerate((scale, zero, scale2))),
    ], found


def assert_same(got: list[Tensor], want: tuple[Tensor, ...]) -> None:
    for name, a, b in zip(("codes", "scale", "zero", "scale2"), got, want, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert same_bits(a, b), name


def check(x: Tensor, format: str, arch: str = ARCH, **options: Any) -> None:
    table = table_of(format)
    if table is not None:
        options["table"] = table
    device_seed = options.pop("device_seed", False)
    got, found = quantize(x, format, arch, device_seed=device_seed, **options)
    assert not found
    assert_same(got, ops.quantize(x, format, **options))


NAMES = [f["name"] for f in _C.element_formats() if f["kind"] != "complex"]
SEED = torch.tensor([7, 2**40])


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("name", NAMES)
def test_every_element_format(name: str, rounding: str) -> None:
    options: dict[str, Any] = {"rounding": rounding, "seed": SEED if rounding == "stochastic" else None}
    check(values(5, 77, torch.float32), name, **options)
    check(values(3, 96, torch.bfloat16, 1), f"{name}:g32", layout="plain", **options)


@pytest.mark.parametrize("arch", ["89", "90", "120f"])
@pytest.mark.parametrize("name", NAMES)
def test_every_element_format_on_architectures(name: str, arch: str) -> None:
    """There and back."""
    x, table = values(3, 77, torch.float32), table_of(name)
    check(x, name, arch, rounding="stochastic", seed=SEED)
    codes, scale, _, _ = ops.quantize(x, f"{name}:g16", table=table)
    got, found = dequantize(codes, f"{name}:g16", 77, 3, torch.bfloat16, arch, scale=scale, table=table)
    assert not found
    want = ops.dequantize(codes, scale, None, f"{name}:g16", 77, table=table, out_dtype=torch.bfloat16)
    assert torch.equal(got.nan_to_num(7.0), want.nan_to_num(7.0))


BLOCKS = ["tensor", "row", "g8", "g16", "g64", "g256", "g24", "g7", "g288", "b4x8", "b128x128", "b3x5"]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("element", ["int4", "float8_e4m3fn", "uint3"])
def test_every_block_rule(element: str, block: str) -> None:
    for rows, cols in ((1, 1), (9, 300), (33, 576)):
        check(values(rows, cols, torch.float16, rows), f"{element}:{block}", asymmetric=element == "uint3")


@pytest.mark.parametrize(
    "format",
    [
        "mxfp8_e4m3",
        "mxfp8_e5m2",
        "mxfp6_e2m3",
        "mxfp6_e3m2",
        "mxfp4",
        "mxint8",
        "nvfp4",
        "nvint4",
        "uint2:g16/uint4:g16",
        "int4:g32/float8_e4m3fn",
        "int3:g16/float6_e3m2fn:row",
        "int4:b4x16/float4_e2m1fn:tensor",
        "uint4:g8/nf4:g4",
        "int5:row/int4:tensor",
    ],
)
def test_coded_scales(format: str) -> None:
    for rows, cols in ((5, 200), (4, 1000)):
        check(values(rows, cols, torch.bfloat16, cols), format)


@pytest.mark.parametrize("rows", [1, 3, 8, 17, 64, 129])
def test_rows(rows: int) -> None:
    for cols in (1, 31, 65):
        for format in ("int4:g32", "int8", "float8_e4m3fn:tensor", "mxfp4"):
            check(values(rows, cols, torch.bfloat16, rows), format)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("rows", [0, 1, 3, 8, 17, 64, 129])
def test_rows_on_architectures(rows: int, arch: str) -> None:
    options = {"rounding": "stochastic", "seed": SEED} if rows % 2 else {}
    # whoever calls sees to the scale of the whole of nothing
    for format in ("uint3:row", "mxfp6_e3m2", "float8_e5m2:tensor" if rows else "float8_e5m2:row"):
        check(values(rows, 67, torch.bfloat16, rows), format, arch, **options)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_fused_hadamard_of_short_blocks(size: int, rounding: str) -> None:
    options: dict[str, Any] = {"rounding": rounding, "seed": SEED if rounding == "stochastic" else None}
    for arch, format in zip(("80", "89", "90", "120f"), ("int4:g32", "nvfp4", "mxfp4", "int8:row"), strict=True):
        check(values(9, 256, torch.bfloat16, size), format, arch, hadamard=size, **options)


def test_the_same_bits_in_any_order_of_blocks() -> None:
    x = values(40, 600, torch.float32)
    for format in ("int4:g32", "int8:tensor", "nvfp4"):
        runs = [quantize(x, format, run=seed, rounding="stochastic", seed=SEED)[0] for seed in (1, 2, 3)]
        for run in runs[1:]:
            assert_same(run, tuple(runs[0]))


@pytest.mark.parametrize("arch", ["89", "90", "120f"])
def test_architectures(arch: str) -> None:
    check(values(9, 300, torch.float16), "int4:g32", arch)
    check(values(9, 300, torch.float32), "nvfp4", arch, rounding="stochastic", seed=SEED)


@pytest.mark.parametrize("size", [1, 2, 4, 16, 128, 256, 512, 2048, 4096])
def test_fused_hadamard(size: int) -> None:
    cols = max(size, 64) * (1 if size > 1000 else 3)
    for format in ("int8:row", "mxfp4", "int4:tensor"):
        check(values(3, cols, torch.bfloat16, size), format, hadamard=size)


def test_long_rows() -> None:
    check(values(2, 30000, torch.bfloat16), "int8", rounding="stochastic", seed=SEED)


@pytest.mark.parametrize("scale_dtype", [torch.bfloat16, torch.float16])
def test_scale_dtype(scale_dtype: torch.dtype) -> None:
    for format in ("int4:g32", "int4:tensor", "nvfp4", "int8:b4x8"):
        check(values(5, 130, torch.float32), format, scale_dtype=scale_dtype)


def test_strides() -> None:
    wide = values(12, 200, torch.bfloat16)
    check(wide[1:8, 3:150], "int4:g16")
    check(wide.T, "uint8:row", asymmetric=True)
    check(wide[::2, ::3], "float6_e3m2fn:tensor")


def test_seed_on_the_device() -> None:
    check(values(5, 77, torch.float32), "int4:g16", rounding="stochastic", seed=SEED, device_seed=True)


def test_given_scales() -> None:
    x = values(9, 100, torch.float32)
    for format in ("int4:g16", "uint4:row", "float8_e4m3fn:tensor", "nvfp4", "int6:g7"):
        want = ops.quantize(x, format, asymmetric=format.startswith("uint"))
        given = {n: t for n, t in zip(("scale", "zero", "scale2"), want[1:], strict=True) if t.numel()}
        check(x * 1.25, format, asymmetric=format.startswith("uint"), **given)


def test_complex() -> None:
    x = torch.view_as_real(torch.complex(values(6, 70, torch.float32), values(6, 70, torch.float32, 1)))
    for block in ("row", "tensor", "g32", "b4x8"):
        check(x, f"complex2:{block}")


def test_no_rows() -> None:
    got, found = quantize(torch.zeros(0, 64), "int4:g32")
    assert not found
    assert got[0].numel() == 0


def test_findings() -> None:
    for format in ("int4:g32", "int4:tensor", "int8:row"):
        x = values(4, 320, torch.float32)
        like = quantize(x, format)
        assert not like[1]
        x[2, 33] = float("nan")
        _, found = _unchecked(x, format)
        assert "non_finite" in found, format
    huge = torch.full((2, 64), 3e38)
    assert "scale_overflow" in _unchecked(huge, "int1:g32", torch.float16)[1]


def _unchecked(x: Tensor, format: str, scale_dtype: torch.dtype = torch.float32) -> tuple[None, set[str]]:
    like = ops.quantize(torch.zeros_like(x), format, scale_dtype=scale_dtype)
    device, codes, scale, none = Device(x), unwritten(like[0]), unwritten(like[1]), CValues(None, 0)
    args = CQuantize(
        device.matrix(), format.encode(), None, codes.pointer, scale.values(), none, none, *x.shape, *[0] * 8
    )
    with on():
        return None, Call(workspace("lowbit_cuda_quantize_workspace", args)).run("lowbit_cuda_quantize", args)


def test_refusals() -> None:
    x = values(4, 64, torch.float32)
    like = ops.quantize(x, "int4:tensor")
    codes, scale, none = unwritten(like[0]), unwritten(like[1]), CValues(None, 0)
    device = Device(x)
    args = CQuantize(device.matrix(), b"int4:tensor", None, codes.pointer, scale.values(), none, none, 4, 64, *[0] * 8)
    call = Call(0)
    with on(), pytest.raises(KernelError, match="quantize: workspace must have"):
        call.run("lowbit_cuda_quantize", args)


def dequantize(
    codes: Tensor,
    format: str,
    k: int,
    rows: int,
    dtype: torch.dtype,
    arch: str,
    *,
    ids: Tensor | None = None,
    **parts: Tensor | None,
) -> tuple[Tensor, set[str]]:
    on_device = {n: Device(t) for n, t in parts.items() if t is not None and t.numel()}
    complex_ = format.startswith("complex")
    w = Device(codes)
    row_ids = Device(ids) if ids is not None else None
    like = torch.empty(len(ids) if ids is not None else rows, 2 * k if complex_ else k, dtype=dtype)

    def values_of(name: str) -> CValues:
        if name not in on_device:
            return CValues(None, 0)
        is_value = on_device[name].like.dtype in DTYPE_VALUES
        return on_device[name].values() if is_value else CValues(on_device[name].pointer, 0)

    scale = values_of("scale")
    imaginary = CValues(None, 0)
    if complex_ and "scale" in on_device:
        half = on_device["scale"].like.numel() // 2 * on_device["scale"].like.element_size()
        imaginary = CValues(on_device["scale"].pointer + half, scale.dtype)
    table = on_device.get("table")
    weight = CWeight(
        format.encode(),
        table.pointer if table else None,
        w.pointer,
        scale,
        values_of("scale2"),
        imaginary,
        values_of("zero"),
        rows,
        k,
        codes.dtype in (torch.int8, torch.uint8) and codes.shape[-1] == k,
    )

    def call() -> tuple[Tensor, set[str]]:
        out = unwritten(like)
        args = CDequantize(
            weight, row_ids.pointer if row_ids else None, out.matrix(), None, None, None, 0, None, None, None, 0, 0, 0
        )
        found = Call(0).run("lowbit_cuda_dequantize", args)
        return out.get(), found

    with on(arch):
        return twice(call)


DTYPE_VALUES = (torch.float32, torch.bfloat16, torch.float16, torch.uint8, torch.int32)


@pytest.mark.parametrize("name", NAMES)
def test_dequantize_every_format(name: str) -> None:
    x = values(6, 77, torch.float32)
    table = table_of(name)
    for format, dtype in ((f"{name}:g16", torch.float32), (name, torch.bfloat16)):
        codes, scale, _, _ = ops.quantize(x, format, table=table)
        got, found = dequantize(codes, format, 77, 6, dtype, ARCH, scale=scale, table=table)
        assert not found
        want = ops.dequantize(codes, scale, None, format, 77, table=table, out_dtype=dtype)
        assert torch.equal(got.nan_to_num(7.0), want.nan_to_num(7.0))


@pytest.mark.parametrize("format", ["nvfp4", "mxint8", "uint4:g7", "uint2:g16/uint4:g16", "int4:b4x16", "complex2:g32"])
def test_dequantize_scales(format: str) -> None:
    x = values(9, 100, torch.float32)
    asymmetric = format.startswith("uint4")
    if format.startswith("complex"):
        x = torch.view_as_real(torch.complex(x, values(9, 100, torch.float32, 1)))
    codes, scale, zero, scale2 = ops.quantize(x, format, asymmetric=asymmetric)
    ids = torch.tensor([3, 3, 0, 8])
    for rows in (None, ids):
        got, found = dequantize(
            codes, format, 100, 9, torch.float32, "90", ids=rows, scale=scale, zero=zero, scale2=scale2
        )
        assert not found
        want = ops.dequantize(
            codes, scale, zero if asymmetric else None, format, 100, scale2=scale2 if scale2.numel() else None
        )
        want = want if rows is None else want[rows]
        assert torch.equal(got.reshape(want.shape), want)
