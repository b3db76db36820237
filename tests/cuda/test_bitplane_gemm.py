"""bitplane_gemm on CUDA: the bits of the CPU for every pair of widths, on both engines; which engine is taken."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from cuda.emulated import ARCH, ARCHS, kernels, launches, run, same_bits
from cuda.gemms import CGemm
from cuda.kernels import Call, KernelError, library, on, unwritten, workspace
from cuda.test_gemm_choice import quantized
from cuda.weights import Weight
from emu import emulator
from operands import Operand, complex_operand, operand
from torch import Tensor

KINDS = ["int", "uint", "bipolar"]
BINARY = "binary_gemm"  # the kernel of the binary engine


def call(ops: Any, x: Operand, w: Operand, **more: Any) -> Tensor:
    k = w.matrix.values.shape[1] // (2 if w.format.startswith("complex2") else 1)
    return ops.bitplane_gemm(x.codes, x.scale, x.zero, x.format, w.codes, w.scale, w.zero, w.format, k, **more)


def check(x: Operand, w: Operand, arch: str = ARCH, **more: Any) -> None:
    want = call(torch.ops.lowbit, x, w, **more)
    assert same_bits(run(lambda ops: call(ops, x, w, **more), arch), want)


def uses_binary(x: Operand, w: Operand, arch: str = ARCH) -> bool:
    names = kernels(lambda ops: call(ops, x, w), arch)
    binary = any(BINARY in name for name in names)
    assert len(names) == (1 if binary else 2)  # the other engine multiplies bytes, which planes of x are turned into
    return binary


# ---- the table

SMS = [80, 86, 87, 89, 90, 100, 103, 120, 121]


def test_table_of_engines() -> None:
    """b1 mma is one instruction from sm_80 to sm_90; from p q = 7 on int8 multiplies as fast, but for few rows memory
    decides; five planes of w and more are no binary product."""
    function = library().lowbit_cuda_bitplane_engine
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
    for sm in SMS:
        for p in range(1, 9):
            for q in range(1, 9):
                for m in (1, 8, 9, 129, 2**31):
                    binary = sm <= 90 and p <= 4 and (p * q <= 6 or m <= 8)
                    assert function(sm, p, q, m) == (0 if binary else 1), (sm, p, q, m)


@pytest.mark.parametrize("arch", ARCHS)
def test_the_table_is_obeyed(arch: str) -> None:
    rng = np.random.default_rng(1)
    for q, p, m in [(1, 1, 17), (3, 2, 17), (8, 4, 8), (8, 4, 9), (7, 1, 9), (1, 5, 1)]:
        x, w = operand(rng, f"int{q}", m, 96), operand(rng, f"uint{p}:g128", 5, 96)
        binary = arch != "120f" and p <= 4 and (p * q <= 6 or m <= 8)
        assert uses_binary(x, w, arch) == binary, (q, p, m)
        check(x, w, arch)


@pytest.mark.parametrize(
    ("m", "n", "k", "sentence"),
    [(4, 2**31 - 4096, 128, r"w must have at most 2147479551 rows and columns, got \[2147479552, 128\]; "),
     (2**31 - 4096, 1, 128, r"x must have at most 2147479551 rows and columns, got \[2147479552, 128\]; "),
     (4, 1, 2**31 - 128, r"x must have at most 2147479551 rows and columns, got \[4, 2147483520\]; "),
     # tiles of 32 rows of x by 64 of w
     (2**31 - 4097, 33 * 64, 128, r"out must have less than 2\^31 tiles on CUDA, got 2214588288; cut x by rows")],
)  # fmt: skip
def test_sizes(m: int, n: int, k: int, sentence: str) -> None:
    """The binary engine refuses what no kernel counts, before it launches anything."""
    x, w = quantized("int2:row", m, k), quantized("int1:g128", n, k)
    args = CGemm(xq=ctypes.pointer(x), w=w, m=m, n=n, k=k)
    assert library().lowbit_cuda_bitplane_engine_of(ctypes.byref(args), 80) == 0
    with on("80"), pytest.raises(KernelError, match="bitplane_gemm: " + sentence):
        Call(0).run("lowbit_cuda_bitplane_gemm", args)


# ---- the bits of the CPU


@pytest.mark.parametrize("q", range(1, 9))
@pytest.mark.parametrize("p", range(1, 9))
def test_every_pair_of_widths(p: int, q: int) -> None:
    rng = np.random.default_rng(100 * p + q)
    shapes = [(17, 7, 31), (1, 19, 201), (8, 35, 257)]
    for i, kind in enumerate(KINDS):
        other = KINDS[(i + p + q) % 3]
        m, n, k = shapes[i]
        x, w = operand(rng, f"{kind}{q}", m, k, scaled=False), operand(rng, f"{other}{p}", n, k, scaled=False)
        check(x, w, out_dtype=torch.int32)
        m, n, k = shapes[i - 1]
        x, w = operand(rng, f"{other}{q}", m, k), operand(rng, f"{kind}{p}:g{(32, 128)[q % 2]}", n, k)
        check(x, w)


@pytest.mark.parametrize("arch", ["89", "90", "120f"])
@pytest.mark.parametrize("p", range(1, 9))
def test_every_pair_of_widths_on_architectures(p: int, arch: str) -> None:
    rng = np.random.default_rng(p)
    for q in range(1, 9):
        kind, other = KINDS[(p + q) % 3], KINDS[q % 3]
        check(operand(rng, f"{kind}{q}", 3, 75), operand(rng, f"{other}{p}:g32", 11, 75), arch)


@pytest.mark.parametrize("arch", ["89", "90", "120f"])
@pytest.mark.parametrize("widths", [(1, 1), (2, 3), (4, 4), (8, 2), (3, 8)], ids=str)
def test_architectures(widths: tuple[int, int], arch: str) -> None:
    rng = np.random.default_rng(2)
    for m, kinds in [(3, ("int", "uint")), (65, ("uint", "bipolar"))]:
        x, w = operand(rng, f"{kinds[0]}{widths[0]}", m, 300), operand(rng, f"{kinds[1]}{widths[1]}:g128", 33, 300)
        check(x, w, arch)


@pytest.mark.parametrize("arch", ["89", "90", "120f"])
@pytest.mark.parametrize("m", [0, 1, 3, 8, 17, 64, 129])
def test_rows_on_architectures(m: int, arch: str) -> None:
    rng = np.random.default_rng(m)
    for x, w, k in (("int1", "uint1", 29), ("int4:g128", "bipolar2:g128", 333), ("uint8", "int3:g64", 131)):
        check(operand(rng, x, m, k), operand(rng, w, 19, k), arch)


@pytest.mark.parametrize("m", [0, 1, 3, 8, 17, 64, 129])
@pytest.mark.parametrize("widths", [("int1", "int1"), ("uint8", "int3:g64"), ("int4:g128", "bipolar2:g128"),
                                    ("int8", "uint8:g48")], ids="-".join)  # fmt: skip
def test_rows(widths: tuple[str, str], m: int) -> None:
    rng = np.random.default_rng(m)
    for n, k in [(1, 1), (67, 333), (130, 1030)] if m in (1, 17) else [(67, 333)]:
        check(operand(rng, widths[0], m, k), operand(rng, widths[1], n, k))


@pytest.mark.parametrize("formats", [("ternary", "ternary"), ("int8", "ternary:g48"), ("ternary:g16", "bipolar1"),
                                     ("int4:tensor", "uint2:b4x32"), ("int2:g128", "uint2:g256"),
                                     ("int8:g64", "uint2:g16"), ("uint2:g128", "uint3:g128")],
                         ids="-".join)  # fmt: skip
@pytest.mark.parametrize("zeros", [(None, None), ("int", None), (None, "int"), ("int", "int"), (None, "float"),
                                   ("int", "float")], ids=str)  # fmt: skip
def test_blocks_and_zero_points(formats: tuple[str, str], zeros: tuple[str | None, str | None]) -> None:
    rng = np.random.default_rng(3)
    for m, n, k in [(3, 17, 530), (33, 5, 300)]:
        x, w = operand(rng, formats[0], m, k, zero=zeros[0]), operand(rng, formats[1], n, k, zero=zeros[1])
        check(x, w, bias=torch.from_numpy(rng.standard_normal(n).astype(np.float32)))


@pytest.mark.parametrize("zeros", [("int", None), (None, "int"), ("int", "int")], ids=str)
def test_raw_sums_with_zero_points(zeros: tuple[str | None, str | None]) -> None:
    rng = np.random.default_rng(4)
    for formats in [("uint4:g16", "uint3:g32"), ("int2", "uint2"), ("uint8", "bipolar8")]:
        x = operand(rng, formats[0], 9, 277, zero=zeros[0], scaled=False)
        w = operand(rng, formats[1], 21, 277, zero=zeros[1], scaled=False)
        # int32 zero points may be anything, which no kernel reads before it starts: bytes bound the sum
        check(replace(x, zero=as_bytes(x.zero)), replace(w, zero=as_bytes(w.zero)), out_dtype=torch.int32)


def as_bytes(zero: Tensor | None) -> Tensor | None:
    return zero if zero is None else zero.to(torch.uint8 if zero.min() >= 0 else torch.int8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_outputs_and_biases(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(5)
    for w_format in ("uint2:g128", "uint8:g16"):
        x, w = operand(rng, "int3", 20, 260), operand(rng, w_format, 70, 260, zero="int")
        bias = torch.from_numpy(rng.standard_normal(70).astype(np.float32))
        for bias_dtype in (torch.float32, torch.bfloat16, torch.float16):
            check(x, w, bias=bias.to(bias_dtype), out_dtype=dtype)


@pytest.mark.parametrize("layouts", [("plain", "canonical"), ("canonical", "plain"), ("plain", "plain"),
                                     ("canonical", "tile16"), ("canonical", "mma64"), ("plain", "mma64")],
                         ids="-".join)  # fmt: skip
@pytest.mark.parametrize("formats", [("int8", "int2:g16"), ("uint4:g32", "bipolar3"), ("ternary", "ternary:g64"),
                                     ("uint8", "uint8:g32"), ("int2", "int1:g128"), ("bipolar8", "int7:g24"),
                                     ("int5", "uint6:g64"), ("uint8:g64", "int5:g64")], ids="-".join)  # fmt: skip
def test_layouts(formats: tuple[str, str], layouts: tuple[str, str]) -> None:
    rng = np.random.default_rng(6)
    for m, n, k in [(5, 21, 67), (33, 40, 320)]:
        x = operand(rng, formats[0], m, k, layout=layouts[0], zero="int" if formats[0].startswith("u") else None)
        w = operand(rng, formats[1], n, k, layout=layouts[1], zero="int" if formats[1].startswith("u") else None)
        check(x, w)


@pytest.mark.parametrize("x_format", ["int8", "int8:g16", "uint4:tensor", "ternary", "bipolar1"])
@pytest.mark.parametrize("pair", [False, True])
def test_complex_weights(pair: bool, x_format: str) -> None:
    rng = np.random.default_rng(7)
    for m, n, k, block in [(1, 1, 1, "tensor"), (3, 5, 40, "g16"), (20, 17, 64, "row")]:
        zero = "int" if x_format.startswith("uint") else None
        x, w = operand(rng, x_format, m, 2 * k, zero=zero), complex_operand(rng, block, n, k, pair=pair)
        check(x, w, bias=torch.from_numpy(rng.standard_normal(2 * n).astype(np.float32)))
    x, w = operand(rng, "int8", 3, 80, scaled=False), complex_operand(rng, "row", 6, 40, pair=False)
    raw = (x.codes, None, None, "int8", w.codes, None, None, "complex2", 40)
    want = torch.ops.lowbit.bitplane_gemm(*raw, out_dtype=torch.int32)
    assert same_bits(run(lambda ops: ops.bitplane_gemm(*raw, out_dtype=torch.int32)), want)


def test_the_largest_sums_are_exact() -> None:
    """Beyond 33,025 products of the largest codes no int32 holds the sum; planes count up to 255^2 K by themselves."""
    for k, formats in [(40_001, ("uint8", "bipolar8")), (140_003, ("int8", "int8")), (70_001, ("uint8", "uint4"))]:
        x, w = torch.full((2, k), 255, dtype=torch.uint8), torch.full((3, k), 255, dtype=torch.uint8)
        w[1] = 0

        def product(ops: Any, x: Tensor = x, w: Tensor = w, formats: tuple[str, str] = formats, k: int = k) -> Tensor:
            return ops.bitplane_gemm(
                ops_pack(x, formats[0]), None, None, formats[0], ops_pack(w, formats[1]), None, None, formats[1], k
            )

        assert same_bits(run(product), product(torch.ops.lowbit))


def ops_pack(codes: Tensor, format: str) -> Tensor:
    bits = int(format[-1])
    return torch.ops.lowbit.pack(codes & (1 << bits) - 1, format)


def test_strides() -> None:
    rng = np.random.default_rng(8)
    x, w = operand(rng, "int4", 40, 300), operand(rng, "uint2:g128", 50, 300, zero="int")
    k = 300
    rows, columns = slice(3, 33, 3), slice(1, 50, 7)
    args = (x.codes[:, rows], x.scale[rows], None, "int4", w.codes[:, columns], w.scale[columns], w.zero[columns],
            "uint2:g128", k)  # fmt: skip
    dense = tuple(a.contiguous() if isinstance(a, Tensor) else a for a in args)
    want = torch.ops.lowbit.bitplane_gemm(*dense)
    assert same_bits(run(lambda ops: ops.bitplane_gemm(*args)), want)
    wide = torch.zeros(2, 50, 15, dtype=torch.int32)  # rows that no 16 bytes are aligned to
    wide[:, :, 3:13] = w.codes
    odd = (*dense[:4], wide[:, columns, 3:13], *dense[5:])
    assert same_bits(run(lambda ops: ops.bitplane_gemm(*odd)), want)


def shares_of_k(product: Callable[[Any], Tensor], multiprocessors: int) -> int:
    return max(launch["grid"][1] for launch in launches(product, multiprocessors=multiprocessors))


@pytest.mark.parametrize("formats", [("int2", "uint3:g128"), ("int8", "uint5:g32")], ids="-".join)
def test_a_row_alone_and_in_a_batch(formats: tuple[str, str]) -> None:
    """On any number of multiprocessors; the engines for few and for many rows agree."""
    rng = np.random.default_rng(9)
    x, w = operand(rng, formats[0], 65, 4300), operand(rng, formats[1], 20, 4300, zero="int")
    whole = run(lambda ops: call(ops, x, w))
    for rows in (slice(0, 1), slice(40, 49), slice(64, 65)):
        part = (x.codes[:, rows], x.scale[rows], None, x.format, w.codes, w.scale, w.zero, w.format, 4300)
        product = lambda ops, part=part: ops.bitplane_gemm(*part)  # noqa: E731
        for count in (1, 8):
            assert same_bits(run(product, multiprocessors=count), whole[rows])


@pytest.mark.parametrize("formats", [("int2", "uint3:g128"), ("int8", "uint5:g32")], ids="-".join)
def test_multiprocessors_share_k(formats: tuple[str, str]) -> None:
    """One row: more multiprocessors, more shares."""
    rng = np.random.default_rng(9)
    x, w = operand(rng, formats[0], 1, 4300), operand(rng, formats[1], 20, 4300, zero="int")
    assert shares_of_k(lambda ops: call(ops, x, w), 1) < shares_of_k(lambda ops: call(ops, x, w), 8)


# ---- the binary engine's tiles and how its blocks share K


class CBinaryPlan(ctypes.Structure):
    _fields_ = [("tiles", ctypes.c_int), ("blocks", ctypes.c_int64), ("splits", ctypes.c_int32),
                ("share", ctypes.c_int32), ("pieces", ctypes.c_int64), ("workspace_bytes", ctypes.c_int64)]  # fmt: skip


def binary_plan(m: int, n: int, k: int, planes: int, segment: int, sms: int) -> CBinaryPlan:
    plan, function = CBinaryPlan(), library().lowbit_cuda_binary_plan
    sizes = (ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int, ctypes.c_int64, ctypes.c_int)
    function.argtypes = [*sizes, ctypes.POINTER(CBinaryPlan)]
    function.restype = None
    function(m, n, k, planes, segment, sms, ctypes.byref(plan))
    return plan


@pytest.mark.parametrize("planes", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("m", [1, 2, 3, 8, 9, 64, 65, 2**31 - 1])
def test_plan(m: int, planes: int) -> None:
    """Tiles no wider than the columns ask for; K is shared where blocks are few, and pieces end where segments and
    shares do."""
    for n, k, segment in [(1, 1, 1), (64, 512, 512), (65, 4300, 128), (4096, 4096, 4096), (300, 100_000, 384),
                          (64, 2**31 - 1, 2**31 - 1), (2**31 - 1, 1024, 128)]:  # fmt: skip
        for sms in (1, 8, 132):
            plan = binary_plan(m, n, k, planes, segment, sms)
            columns = min(m * planes, 64)
            assert 8 * plan.tiles >= columns
            assert plan.tiles == 1 or 8 * plan.tiles < 2 * columns
            rows = 8 * plan.tiles // planes
            assert plan.blocks == -(-n // 64) * -(-m // rows)
            steps = -(-k // 512)
            assert (plan.splits - 1) * plan.share < steps <= plan.splits * plan.share
            assert plan.splits == 1 or plan.share >= 2
            assert plan.splits * plan.blocks <= max(2 * sms, plan.blocks)
            if 4 * plan.blocks <= 2 * sms and steps >= 16:
                assert plan.splits >= 4
            if k <= 100_000:
                ends = {*range(segment, k, segment), *range(512 * plan.share, k, 512 * plan.share)}
                assert plan.pieces == len(ends) + 1
            if plan.splits == 1:
                assert plan.workspace_bytes == 0
            else:
                least = 4 * plan.blocks * (1 + plan.pieces * (64 * rows + 64 + -(-rows // 8) * 8))
                assert least <= plan.workspace_bytes < least + 256


@pytest.mark.parametrize(("m", "q", "p"), [(1, 1, 1), (1, 8, 1), (8, 1, 2), (9, 1, 1), (5, 3, 2), (16, 2, 3),
                                           (33, 1, 4), (5, 8, 4), (65, 1, 1), (64, 3, 2)])  # fmt: skip
def test_nothing_is_multiplied_for_rows_that_are_not_there(m: int, q: int, p: int) -> None:
    rng = np.random.default_rng(10)
    x, w = operand(rng, f"uint{q}", m, 512), operand(rng, f"uint{p}", 64, 512)
    (launch,) = launches(lambda ops: call(ops, x, w), multiprocessors=1)
    rows = next(t for t in (1, 2, 4, 8) if 8 * t >= min(m * q, 64)) * 8 // q
    full, last = divmod(m, rows)
    # eight columns by themselves, more of them in pairs of instructions
    tiles = [1 if m * q <= 8 else 2 * -(-r * q // 16) for r in [rows] * full + [last] * (last > 0)]
    assert sum(launch["tensor"].values()) == 4 * 2 * p * sum(tiles)
    check(x, w)


SPLITS = {1030: 1, 2125: 2, 3200: 3, 5197: 4, 9001: 9}  # blocks of at least two steps, and enough of them


@pytest.mark.parametrize("block", ["row", "g128", "g384", "g640", "g1024", "g2048"])
@pytest.mark.parametrize("zeros", [(None, None), ("int", "int"), ("int", "float")], ids=str)
def test_blocks_share_k(block: str, zeros: tuple[str | None, str | None]) -> None:
    """Whether shares end where segments do or within them, by however many blocks."""
    rng = np.random.default_rng(11)
    for m, n, (x_format, w_format), lengths in [(1, 70, ("uint8", "uint3"), (1030, 2125, 5197, 9001)),
                                                (9, 20, ("bipolar2", "int2"), (3200, 9001)),
                                                (70, 65, ("uint1", "bipolar4"), (2125, 5197))]:  # fmt: skip
        for k in lengths:
            x = operand(rng, f"{x_format}:{block if m == 9 else 'row'}", m, k, zero=zeros[0])
            w = operand(rng, f"{w_format}:{block}", n, k, zero=zeros[1])
            bias = torch.from_numpy(rng.standard_normal(n).astype(np.float32))

            def product(ops: Any, x: Operand = x, w: Operand = w, bias: Tensor = bias) -> Tensor:
                return call(ops, x, w, bias=bias)

            assert launches(product)[-1]["grid"][1] == SPLITS[k]
            assert same_bits(run(product), product(torch.ops.lowbit)), (m, k)


def test_raw_sums_of_shared_k() -> None:
    rng = np.random.default_rng(12)
    for m, formats in [(2, ("uint4:g128", "uint3:g128")), (3, ("int8", "bipolar2"))]:
        x = operand(rng, formats[0], m, 5000, zero="int" if m == 2 else None, scaled=False)
        w = operand(rng, formats[1], 70, 5000, zero="int" if m == 2 else None, scaled=False)
        x, w = replace(x, zero=as_bytes(x.zero)), replace(w, zero=as_bytes(w.zero))
        product = lambda ops, x=x, w=w: call(ops, x, w, out_dtype=torch.int32)  # noqa: E731
        assert same_bits(run(product, multiprocessors=8), product(torch.ops.lowbit))


def test_raw_sums_share_k() -> None:
    rng = np.random.default_rng(12)
    for m, formats in [(2, ("uint4:g128", "uint3:g128")), (3, ("int8", "bipolar2"))]:
        x = operand(rng, formats[0], m, 5000, scaled=False)
        w = operand(rng, formats[1], 70, 5000, scaled=False)
        assert shares_of_k(lambda ops, x=x, w=w: call(ops, x, w, out_dtype=torch.int32), 8) > 1


def test_planes_far_apart() -> None:
    """Rows and planes more than 2^31 words apart, in a sparse mapping."""
    rng = np.random.default_rng(13)
    far = 2**31 + 64
    x, w = operand(rng, "int2", 3, 512), operand(rng, "uint2", 2, 512)
    weight, codes, out = Weight(w, 2, 512), Weight(x, 3, 512), unwritten(torch.empty(3, 2))
    words = w.codes.numpy()
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000)
    memory = mmap.mmap(-1, 4 * (3 * far + 64), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    whole = np.frombuffer(memory, np.int32)
    lines = {(i, r): whole[(i + 2 * r) * far :][:16] for i in range(2) for r in range(2)}
    for (i, r), line in lines.items():
        line[:] = words[i, r]
    weight.c.codes.data, weight.c.codes.plane_stride, weight.c.codes.row_stride = whole.ctypes.data, far, 2 * far
    args = CGemm(w=weight.c, xq=ctypes.pointer(codes.c), m=3, n=2, k=512, out=out.matrix())
    with emulator.mapped(*lines.values()), on("80"):
        assert not Call(workspace("lowbit_cuda_bitplane_gemm_workspace", args)).run("lowbit_cuda_bitplane_gemm", args)
    assert same_bits(out.get(), call(torch.ops.lowbit, x, w))
