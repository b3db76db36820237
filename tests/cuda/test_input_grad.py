"""dX = dY W on CUDA, on the emulator: within the bound of csrc/cuda/input_grad.h of the exact sum, for every format and
layout, odd shapes, strides, both models of tensor cores; and the bits do not depend on M."""

import mmap

import numpy as np
import pytest
import torch
from cuda import kernels
from cuda.bounds import assert_twice_is_refused, assert_within
from cuda.kernels import MODELS
from cuda.weights import CGrouped, Weight
from emu import emulator
from operands import complex_operand, operand, with_outliers
from oracle.gemm import Matrix
from ref.test_dequant_gemm import mixed
from torch import Tensor

SHAPES = [(1, 1, 1), (3, 5, 7), (17, 40, 131), (129, 33, 64), (64, 70, 300), (8, 16, 128)]


def exact_values(w: Matrix) -> np.ndarray:
    """fl(scale * fl(value - zero)) + outliers, as float64."""
    v = w.values.astype(np.float32)
    if w.zero is not None:
        v = v - w.zero.astype(np.float32)
    if w.scale is not None:
        v = w.scale.astype(np.float32) * v
    for row, col, value in w.outliers or []:
        v[row, col] = v[row, col] + np.float32(value)
    return v.astype(np.float64)


def bound(magnitude: np.ndarray, n: int, dtype: torch.dtype) -> np.ndarray:
    depth = 2 if dtype == torch.bfloat16 else 3
    multiplies = -(-n // 16) * depth * (depth + 1) // 2
    return (2.0 ** (-13 if depth == 2 else -20) + 12 * multiplies * 2.0**-23) * magnitude


def half_unit(values: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    bits, least = {torch.float32: (24, -149), torch.bfloat16: (8, -133), torch.float16: (11, -24)}[dtype]
    _, exponent = np.frexp(values)
    return 0.5 * np.exp2(np.maximum(exponent - bits, least))


def gradients(rng: np.random.Generator, m: int, n: int, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(rng.standard_normal((m, n)).astype(np.float32)).to(dtype)


def input_grad(dy: Tensor, w, k: int, like: Tensor, extras=None, **more: object) -> Tensor:
    rows = w.matrix.values.shape[0]
    weight_rows, weight_cols = (rows // 2, k // 2) if w.format.startswith("complex") else (rows, k)
    weight = Weight(w, weight_rows, weight_cols, extras)
    given, out = kernels.Device(dy), kernels.unwritten(like) if like.is_contiguous() else kernels.Device(like)
    args = CGrouped(x=given.matrix(), w=weight.c, m=dy.shape[0], n=rows, k=weight_cols, out=out.matrix())
    for name, value in more.items():
        setattr(args, name, value)
    assert not kernels.Call(0).run("lowbit_cuda_dequant_gemm_input_grad", args)
    return out.get()


def check(dy: Tensor, w, out_dtype: torch.dtype = torch.float32, extras=None, refuse: bool = False) -> Tensor:
    n, k = w.matrix.values.shape
    got = input_grad(dy, w, k, torch.empty(dy.shape[0], k, dtype=out_dtype), extras)
    values, rows = exact_values(w.matrix), dy.double().numpy()
    want, magnitude = rows @ values, np.abs(rows) @ np.abs(values)
    allowed = bound(magnitude, n, out_dtype)
    allowed += half_unit(np.abs(want) + allowed, out_dtype) if out_dtype != torch.float32 else 0.0
    (assert_twice_is_refused if refuse else assert_within)(got, want, allowed)
    return got


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("arch", kernels.ARCHS)
def test_shapes(arch, model):
    rng = np.random.default_rng(0)
    with kernels.on(arch, mma=model):
        for m, n, k in SHAPES:
            check(gradients(rng, m, n, torch.float32), operand(rng, "int4:g32", n, k))
        assert input_grad(torch.empty(0, 9), operand(rng, "int4:g32", 9, 40), 40, torch.empty(0, 40)).shape == (0, 40)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("out_dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(dtype, out_dtype):
    rng = np.random.default_rng(1)
    with kernels.on(mma="hardware"):
        check(gradients(rng, 19, 45, dtype), operand(rng, "uint4:g16", 45, 90, zero="int"), out_dtype)
        check(gradients(rng, 19, 45, dtype), operand(rng, "int4:row", 45, 90, scale_dtype=torch.bfloat16), out_dtype)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("out_dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_twice_the_bound_is_refused(out_dtype, model):
    rng = np.random.default_rng(11)
    with kernels.on(mma=model):
        for n in (5, 200):
            dy = gradients(rng, 7, n, torch.float32)
            check(dy, operand(rng, "uint4:g16", n, 60, zero="float"), out_dtype, refuse=True)


@pytest.mark.parametrize("out_dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_bound_is_far_below_one_term(out_dtype):
    """A kernel that cuts dY to one bfloat16 is beyond it in most outputs."""
    rng = np.random.default_rng(12)
    dy, w = gradients(rng, 4, 64, torch.float32), operand(rng, "int4:g32", 64, 60)
    values, rows = exact_values(w.matrix), dy.double().numpy()
    cut = (dy.numpy().view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)
    allowed = bound(np.abs(rows) @ np.abs(values), 64, out_dtype)
    assert (np.abs((cut - rows) @ values) > allowed).mean() > 0.5


@pytest.mark.parametrize("layout", ["canonical", "plain", "tile16", "mma64"])
@pytest.mark.parametrize(
    "format",
    ["int1:g16", "uint2:g24", "int3:row", "bipolar4:g32", "ternary:tensor", "uint5:g16", "int6", "uint7:g64",
     "int8:g16", "nf4:g16", "table3:g32", "float4_e2m1fn:g16", "float6_e3m2fn:g32", "float8_e4m3fn:b16x16",
     "float7_e3m3fn", "float4_e3m0fn"],
)  # fmt: skip
def test_formats_and_layouts(format, layout):
    n = 48 if format.endswith((":tensor", "x16")) else 37  # rows that share scales fill their tiles
    rng = np.random.default_rng(2)
    with kernels.on():
        made = [operand(np.random.default_rng(3), format, n, 85, layout=it) for it in ("canonical", layout)]
        dy = gradients(rng, 6, n, torch.float32)
        want, got = (check(dy, w) for w in made)
        assert torch.equal(got, want)  # the layout changes nothing


@pytest.mark.parametrize(
    ("format", "zero"),
    [("nvfp4", None), ("mxfp6_e3m2", None), ("mxint8", None), ("uint2:g16/uint4:g16", "float"),
     ("int4:g32/float8_e4m3fn", None), ("uint4:g12", "float"), ("uint8:row", "int"), ("int4:b4x32", "int")],
)  # fmt: skip
def test_scales_and_zero_points(format, zero):
    rng = np.random.default_rng(4)
    with kernels.on():
        for n, k in [(20, 48), (33, 97)]:
            check(gradients(rng, 5, n, torch.bfloat16), operand(rng, format, n, k, zero=zero))


@pytest.mark.parametrize("pair", [False, True])
def test_complex(pair):
    rng = np.random.default_rng(5)
    with kernels.on():
        check(gradients(rng, 5, 2 * 9, torch.float32), complex_operand(rng, "g8", 9, 21, pair=pair))


@pytest.mark.parametrize("layout", ["canonical", "plain", "tile16", "mma64"])
@pytest.mark.parametrize(("group", "high"), [(16, [1, 2]), (16, [0, 3]), (24, [2])])
def test_mixed_widths(group, high, layout):
    rng = np.random.default_rng(9)
    with kernels.on():
        w, extras = mixed(rng, "uint2", 21, 57, group, high, layout)
        check(gradients(rng, 4, 21, torch.float16), w, extras=extras)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_outliers(dtype):
    rng = np.random.default_rng(6)
    with kernels.on():
        w, extras = with_outliers(rng, operand(rng, "int3:g16", 40, 150), 300, dtype)
        check(gradients(rng, 9, 40, torch.bfloat16), w, extras=extras)


def test_strides():
    rng = np.random.default_rng(7)
    w = operand(rng, "int4:g32", 40, 70)
    dy = gradients(rng, 21, 40, torch.float32)
    with kernels.on():
        want = check(dy, w)
        transposed = dy.t().contiguous().t()
        cut = torch.nn.functional.pad(dy, (3, 2))[:, 3:43]
        for view in (transposed, cut):
            assert torch.equal(input_grad(view, w, 70, torch.empty(21, 70)), want)
        for like in (torch.empty(70, 21).t(), torch.empty(21, 75)[:, 1:71]):
            assert torch.equal(input_grad(dy, w, 70, like), want)
        broadcast = dy[:1].expand(4, -1)
        assert torch.equal(input_grad(broadcast, w, 70, torch.empty(4, 70)), want[:1].expand(4, -1))


def test_rows_far_apart():
    rng = np.random.default_rng(10)
    w, dy = operand(rng, "int4:g32", 40, 64), gradients(rng, 2, 40, torch.bfloat16)
    stride = 2**31 + 64
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    memory = mmap.mmap(-1, 2 * stride + 4096, flags=flags)
    whole = np.frombuffer(memory, np.uint8)
    rows = [whole[2 * stride * r : 2 * stride * r + 80] for r in range(2)]
    for r in range(2):
        rows[r][:] = dy[r].view(torch.uint8).numpy()
    with kernels.on():
        want = check(dy, w)
        with emulator.mapped(*rows):
            far = kernels.CMatrix(whole.ctypes.data, kernels.DTYPES[dy.dtype], 2, 40, stride, 1)
            assert torch.equal(input_grad(dy, w, 64, torch.empty(2, 64), x=far), want)


def test_the_same_bits_for_every_m_and_run():
    rng = np.random.default_rng(8)
    w = operand(rng, "uint4:g16", 50, 140, zero="int")
    dy = gradients(rng, 150, 50, torch.float32)
    with kernels.on(mma="hardware"):
        whole = input_grad(dy, w, 140, torch.empty(150, 140))
        for a, b in [(0, 1), (5, 22), (120, 150)]:
            assert torch.equal(input_grad(dy[a:b], w, 140, torch.empty(b - a, 140)), whole[a:b])
    with kernels.on(seed=5, mma="hardware"):
        assert torch.equal(input_grad(dy, w, 140, torch.empty(150, 140)), whole)
