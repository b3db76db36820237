"""scaled_gemm on CUDA: the bits of the CPU on integer paths; on float paths within the bound of the arithmetic under
both models of numerics, FP8 as it is where mma.sync multiplies it and as 16-bit floats elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cuda.bounds import BLOCK_SCALED, assert_within, block_scaled, bound
from cuda.emulated import ARCH, ARCHS, MODELS, kernels, run, same_bits
from cuda.kernels import CODE
from operands import NAMED, Operand, operand
from oracle import gemm
from torch import Tensor

INTEGER = ["int8", "int8:tensor", "int8:g128", "int4", "int4:g32", "uint4:g64", "mxint8", "nvint4", "mxfp4", "nvfp4",
           "float6_e2m3fn:g16"]  # fmt: skip
FLOAT8 = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fn:tensor", "float8_e4m3fn:g128", "float8_e4m3fn:b128x128",
          "mxfp8_e4m3", "mxfp8_e5m2"]  # fmt: skip
FLOAT = [*FLOAT8, "mxfp6_e2m3", "mxfp6_e3m2", "float8_e3m4:g48", "nf4:g64"]
NATIVE = ("89", "120f")  # where mma.sync multiplies FP8
SHAPES = [(1, 5, 7), (3, 17, 130), (17, 35, 257)]


def call(ops: Any, x: Operand, w: Operand, **more: Any) -> Tensor:
    return ops.scaled_gemm(
        x.codes, x.scale, x.format, w.codes, w.scale, w.format, w.matrix.values.shape[1],
        x_zero=x.zero, w_zero=w.zero, x_scale2=x.scale2, w_scale2=w.scale2, **more,
    )  # fmt: skip


def check_bits(x: Operand, w: Operand, arch: str = ARCH, **more: Any) -> None:
    if CODE.get(arch, arch) == "120f" and block_scaled(x.format, w.format):  # on a GPU: test_block_scales_of_sm_120
        check_near(x, w, more.pop("bias", None), arch, **more)
        return
    want = call(torch.ops.lowbit, x, w, **more)
    assert same_bits(run(lambda ops: call(ops, x, w, **more), arch), want)


def is_float8(x: Operand) -> bool:
    return x.format.startswith(("float8_e4m3fn", "float8_e5m2", "mxfp8"))


def check_near(
    x: Operand, w: Operand, bias: Tensor | None = None, arch: str = ARCH, models: tuple[str, ...] = MODELS, **more: Any
) -> None:
    b = None if bias is None else bias.double().numpy()
    want = gemm.exact(x.matrix, w.matrix, b)
    code = CODE.get(arch, arch)
    float8 = code in NATIVE and is_float8(x) and is_float8(w) and x.zero is None and w.zero is None
    blocks = block_scaled(x.format, w.format) if code == "120f" else None
    for model in models:
        for seed in (1, 2) if model == "hardware" else (1,):
            got = run(lambda ops: call(ops, x, w, bias=bias, **more), arch, mma=model, seed=seed)
            allowed = bound(x.matrix, w.matrix, b, arch=arch, model=model, out=got.dtype, float8=float8, blocks=blocks)
            assert_within(got, want, allowed)


# ---- integer paths


@pytest.mark.parametrize("w_format", INTEGER)
@pytest.mark.parametrize("x_format", INTEGER)
def test_integer_pairs(x_format: str, w_format: str) -> None:
    rng = np.random.default_rng(1)
    for i, (m, n, k) in enumerate(SHAPES[1:]):
        prepacked = (i + len(x_format) + len(w_format)) % 2 == 1 and not w_format.endswith("tensor")
        w = operand(rng, w_format, n, k, layout="mma64" if prepacked else "canonical")
        check_bits(operand(rng, x_format, m, k), w)


@pytest.mark.parametrize(
    "zeros", [("int", None), (None, "int"), ("int", "int"), (None, "float"), ("int", "float")], ids=str
)
@pytest.mark.parametrize("formats", [("int8", "uint4:g32"), ("uint8:g16", "uint2:g64"), ("uint8", "int8"),
                                     ("uint4:tensor", "float4_e2m1fn:g16")], ids="-".join)  # fmt: skip
def test_zero_points_on_either_side(formats: tuple[str, str], zeros: tuple[str | None, str | None]) -> None:
    rng = np.random.default_rng(2)
    for m, layout in [(7, "canonical"), (30, "mma64")]:
        x = operand(
            rng, formats[0], m, 200, zero=zeros[0], layout="plain" if formats[0].startswith("uint8") else "canonical"
        )
        w = operand(rng, formats[1], 19, 200, zero=zeros[1], layout=layout)
        check_bits(x, w, bias=torch.from_numpy(rng.standard_normal(19).astype(np.float32)))


@pytest.mark.parametrize("m", [0, 1, 3, 8, 17, 64, 129])
@pytest.mark.parametrize("formats", [("int8", "int4:g32"), ("nvfp4", "nvfp4"), ("uint8:g64", "int8:g64")], ids="-".join)
def test_rows(formats: tuple[str, str], m: int) -> None:
    rng = np.random.default_rng(m)
    check_bits(operand(rng, formats[0], m, 333), operand(rng, formats[1], 67, 333, layout="mma64"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_outputs_biases_and_scales_in_16_bits(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(3)
    for m in (3, 20):
        x, w = operand(rng, "int8:g32", m, 164), operand(rng, "int4:g16", 36, 164)
        bias = torch.from_numpy(rng.standard_normal(36).astype(np.float32)).to(dtype)
        check_bits(x, w, bias=bias, out_dtype=dtype)
        x, w = (operand(rng, name, rows, 164, scale_dtype=dtype) for name, rows in (("int8:g32", m), ("int4:g16", 36)))
        check_bits(x, w)


def test_raw_sums() -> None:
    rng = np.random.default_rng(4)
    for m in (5, 40):
        x, w = (operand(rng, name, rows, 130, scaled=False) for name, rows in (("uint8:g64", m), ("int3:g16", 18)))
        check_bits(x, w, out_dtype=torch.int32)


def test_long_sums_of_full_range_codes_are_exact() -> None:
    """Beyond 33,025 products of the largest codes an int32 overflows; beyond 131,071 one of signed bytes."""
    for m, k in ((17, 33_100), (2, 140_001)):
        x = torch.full((m, k), 255, dtype=torch.uint8)
        for name, code in [("bipolar8", 255), ("bipolar8", 0), ("uint8", 255), ("int8", 128)]:
            w = torch.full((1, k), code, dtype=torch.uint8)
            args = (x, None, "uint8", w, None, name, k)
            want = torch.ops.lowbit.scaled_gemm(*args)
            assert same_bits(run(lambda ops, args=args: ops.scaled_gemm(*args)), want)


@pytest.mark.parametrize("arch", ["89", "90", "120f"])
@pytest.mark.parametrize(
    "formats", [("int8", "int8"), ("int8", "uint4:g32"), ("nvfp4", "mxfp4"), ("mxint8", "nvint4")], ids="-".join
)
def test_integer_pairs_of_architectures(formats: tuple[str, str], arch: str) -> None:
    rng = np.random.default_rng(5)
    for m, layout in [(3, "mma64"), (33, "canonical")]:
        check_bits(operand(rng, formats[0], m, 200), operand(rng, formats[1], 37, 200, layout=layout), arch)


@pytest.mark.parametrize("arch", ["89", "90", "120f"])
@pytest.mark.parametrize("format", INTEGER)
def test_every_integer_format_on_architectures(format: str, arch: str) -> None:
    """On either side of int8 and of another, both loops."""
    rng = np.random.default_rng(14)
    other = INTEGER[INTEGER.index(format) - 1]
    for m, x_format, w_format in [(3, "int8:g64", format), (17, format, "int8:g64"), (17, format, other)]:
        check_bits(operand(rng, x_format, m, 75), operand(rng, w_format, 11, 75), arch)


# ---- float paths


@pytest.mark.parametrize("w_format", [*FLOAT, "int4:g32", "nvfp4"])
@pytest.mark.parametrize("x_format", FLOAT)
def test_float_pairs(x_format: str, w_format: str) -> None:
    rng = np.random.default_rng(6)
    m, n, k = SHAPES[(len(x_format) + len(w_format)) % 3]
    check_near(operand(rng, x_format, m, k), operand(rng, w_format, n, k))


@pytest.mark.parametrize("arch", ["89", "90", "120f"])
@pytest.mark.parametrize("w_format", FLOAT8)
@pytest.mark.parametrize("x_format", FLOAT8)
def test_float8_pairs_of_architectures(x_format: str, w_format: str, arch: str) -> None:
    rng = np.random.default_rng(7)
    m, n, k = (33, 40, 333) if (len(x_format) + len(w_format)) % 2 else (3, 21, 300)
    if w_format.endswith(("tensor", "b128x128")):
        n = 144  # rows that share scales fill their tiles
    x, w = operand(rng, x_format, m, k), operand(rng, w_format, n, k, layout="mma64")
    check_near(x, w, arch=arch)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("m", [0, 1, 3, 8, 17, 64, 129])
@pytest.mark.parametrize("format", ["int8", "float8_e4m3fn", "mxfp8_e4m3", "mxfp4", "nvfp4", "mxfp6_e3m2"])
def test_rows_of_every_engine(format: str, m: int, arch: str) -> None:
    rng = np.random.default_rng(m)
    n, k = (19, 45) if m % 2 else (9, 131)
    x, w = operand(rng, format, m, k), operand(rng, format, n, k, layout="mma64" if m % 2 else "canonical")
    if format == "int8" or (format in ("mxfp4", "nvfp4") and arch != "120f"):  # exact in bytes
        check_bits(x, w, arch)
    else:
        check_near(x, w, arch=arch)


@pytest.mark.parametrize("arch", ARCHS)
def test_float8_is_multiplied_as_it_is_where_that_is_native(arch: str) -> None:
    rng = np.random.default_rng(8)
    for m in (3, 20):
        x, w = operand(rng, "float8_e4m3fn", m, 128), operand(rng, "float8_e4m3fn:b128x128", 20, 128)
        names = kernels(lambda ops, x=x, w=w: call(ops, x, w), arch)
        assert len(names) == 1
        assert any("Float8Engine" in name for name in names) == (arch in NATIVE)


@pytest.mark.parametrize("m", [3, 33])
@pytest.mark.parametrize("layout", ["canonical", "mma64"])
@pytest.mark.parametrize("formats", [*((f, f) for f in BLOCK_SCALED), ("mxfp8_e4m3", "mxfp8_e5m2")], ids="-".join)
def test_block_scales_of_sm_120(formats: tuple[str, str], layout: str, m: int) -> None:
    """Codes are multiplied with the scales of their blocks, integer pairs too: fp32 sums, not the bits of the CPU."""
    rng = np.random.default_rng(13)
    for n, k in [(37, 333), (20, 64)]:
        x, w = operand(rng, formats[0], m, k), operand(rng, formats[1], n, k, layout=layout)
        names = kernels(lambda ops, x=x, w=w: call(ops, x, w), "120f")
        assert all("BlockScaled" in name for name in names)
        check_near(x, w, torch.from_numpy(rng.standard_normal(n).astype(np.float32)), arch="120f")


@pytest.mark.parametrize("layout", ["canonical", "mma64"])
def test_float8_sums_are_promoted(layout: str) -> None:
    """K = 8192 positive products on sm_89, whose tensor cores keep 13 bits of a sum: without fp32 sums of 128 columns
    the error is beyond the bound."""
    rng = np.random.default_rng(9)
    for m in (2, 20):
        x, w = operand(rng, "float8_e4m3fn", m, 8192), operand(rng, "float8_e4m3fn", 5, 8192)
        for side in (x, w):
            side.codes.bitwise_and_(0x7F)
            np.abs(side.matrix.values, out=side.matrix.values)
        if layout == "mma64":
            tiles = torch.ops.lowbit.prepack(w.codes, "float8_e4m3fn", 8192, layout=layout)
            w = Operand(**(vars(w) | {"codes": tiles, "format": w.format + "@mma64"}))
        check_near(x, w, arch="89")


@pytest.mark.parametrize("w_format", FLOAT)
def test_integer_codes_times_floats(w_format: str) -> None:
    rng = np.random.default_rng(6)
    check_near(operand(rng, "int8:g64", 17, 257), operand(rng, w_format, 35, 257))


def test_float_zero_point_of_x_takes_the_float_path() -> None:
    rng = np.random.default_rng(10)
    for m in (4, 20):
        check_near(operand(rng, "uint8:g32", m, 100, zero="float"), operand(rng, "int4:g32", 6, 100, zero="int"))


@pytest.mark.parametrize("arch", ["80", "89"])
@pytest.mark.parametrize("formats", [("int8:g64", "int4:g32"), ("mxfp8_e4m3", "mxfp4"),
                                     ("float8_e4m3fn:g128", "float8_e4m3fn:g128")], ids="-".join)  # fmt: skip
def test_a_row_alone_and_in_a_batch(formats: tuple[str, str], arch: str) -> None:
    rng = np.random.default_rng(11)
    x, w = (operand(rng, name, rows, 4300, layout=layout) for name, rows, layout in
            zip(formats, (65, 21), ("plain", "mma64"), strict=True))  # fmt: skip
    for model in MODELS:
        whole = run(lambda ops: call(ops, x, w), arch, mma=model)
        for rows in (slice(0, 1), slice(40, 49), slice(64, 65)):
            part = (x.codes[rows], x.scale[rows], x.format, w.codes, w.scale, w.format, 4300)
            for count in (1, 8):
                got = run(lambda ops, part=part: ops.scaled_gemm(*part), arch, mma=model, multiprocessors=count)
                assert same_bits(got, whole[rows])


def test_strides() -> None:
    rng = np.random.default_rng(12)
    x, w = operand(rng, "int8:g32", 40, 100, layout="plain"), operand(rng, "int8:g32", 30, 100, layout="plain")
    rows, columns = slice(3, 33, 3), slice(1, 30, 7)
    args = (x.codes[rows], x.scale[rows], x.format, w.codes[columns], w.scale[columns], w.format, 100)
    dense = tuple(a.contiguous() if isinstance(a, Tensor) else a for a in args)
    want = torch.ops.lowbit.scaled_gemm(*dense)
    assert same_bits(run(lambda ops: ops.scaled_gemm(*args)), want)
    spread = torch.zeros(10, 300, dtype=torch.uint8)
    spread[:, ::3] = x.codes[rows]
    assert same_bits(run(lambda ops: ops.scaled_gemm(spread[:, ::3], *dense[1:])), want)


def test_block_formats_are_all_covered() -> None:
    assert set(NAMED) <= {*INTEGER, *FLOAT}
