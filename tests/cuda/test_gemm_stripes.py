"""K of the wide loop shared by multiprocessors, which changes no bit: integers have those of the oracle, floats those
of the narrow loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from compare import assert_bits
from cuda import emulated, kernels
from cuda.gemms import gemm
from cuda.test_gemm_kernels import FAR, with_zeros
from emu import emulator
from operands import Operand, complex_operand, mixed, operand, parse, with_outliers
from oracle import gemm as oracle
from torch import Tensor

N = 24
COLUMNS = 1620  # four stripes, the last of which is cut within a step
MORE_COLUMNS = 4708  # of smaller parts, or faster multiplies, where it pays later: five


def grids(call: Callable[[], object]) -> list[tuple[str, int]]:
    """The kernels that a call launches and how many blocks share a tile."""
    emulator.clear()
    call()
    found = [(launch["kernel"], launch["grid"][1]) for launch in emulator.counts()]
    emulator.clear()
    return found


def striped(call: Callable[[], Tensor]) -> Tensor:
    """`call()`, twice with the same bits: a wide loop whose blocks share K, and the join of their parts."""
    results = []
    (loop, stripes), (join, _) = grids(lambda: results.append(kernels.twice(call)))[:2]
    assert "gemm_wide" in loop
    assert "join_stripes" in join
    assert stripes > 1
    return results[0]


def check_integers(x: Operand, w: Operand, k: int, arch: str | None = None) -> None:
    n = len(w.matrix.values)
    bias = np.linspace(-1, 1, n).astype(np.float32)
    got = striped(lambda: gemm("scaled_gemm", x, w, n, k, arch, bias=torch.from_numpy(bias)))
    assert_bits(got, oracle.integer_path(x.matrix, w.matrix, bias))


INTEGER_PAIRS = [
    ("int8:row", "int4:row", COLUMNS),  # one segment: equal pieces of it
    ("int8:row", "int4:g1024", COLUMNS),  # pieces of some
    ("int8:row", "int4:g128", COLUMNS), ("int8:g64", "int4:g256", COLUMNS),  # whole ones
    ("int8:row", "int3:g192", 3172),  # whole ones of three times a power of two
    ("int8:g64", "int4:g32", 6244), ("int8:row", "float4_e2m1fn:g32", MORE_COLUMNS),  # less than a step: walked
    ("int8:row", "int3:g24", MORE_COLUMNS),  # slots that are no columns
    ("uint8:row", "bipolar8:g64", COLUMNS),  # offsets of bytes on both sides
    ("int4:row", "int4:g64", MORE_COLUMNS),  # s4
]  # fmt: skip


def columns(w: str) -> int:
    return MORE_COLUMNS if 0 < parse(w).block[1] <= 40 else COLUMNS


@pytest.mark.parametrize("layout", ["canonical", "mma64"])
@pytest.mark.parametrize(("x_format", "w_format", "k"), INTEGER_PAIRS)
def test_integers_to_the_bit(x_format: str, w_format: str, k: int, layout: str) -> None:
    rng = np.random.default_rng(0)
    x = operand(rng, x_format, 17, k, layout="canonical" if x_format == "int4:row" else "plain")
    check_integers(x, operand(rng, w_format, N, k, layout=layout), k)


@pytest.mark.parametrize("m", [17, 33, 64, 129])
def test_rows(m: int) -> None:
    """Records hold the rows that there are, in eights; three tiles of rows and two of columns share the device."""
    rng = np.random.default_rng(1)
    for k, group in ((2048, "row"), (3172, "g128")):
        x = operand(rng, "int8:row", m, k, layout="plain")
        check_integers(x, operand(rng, f"int4:{group}", 130 if m == 129 else N, k, layout="mma64"), k)


@pytest.mark.parametrize("zeros", [("int", "int"), (None, "int"), (None, "float"), ("int", "float")], ids=str)
@pytest.mark.parametrize("group", ["row", "g32", "g128", "g1024"])
def test_zero_points_to_the_bit(group: str, zeros: tuple[str | None, str]) -> None:
    rng = np.random.default_rng(3)
    k = columns(f"uint4:{group}")
    operands = [
        operand(rng, "uint8:row", 17, k, layout="plain", zero=zeros[0]),
        operand(rng, f"uint4:{group}", N, k, layout="mma64", zero=zeros[1]),
    ]
    whole = [o.zero is not None and o.zero.dtype == torch.int32 for o in operands]
    x, w = (replace(o, zero=o.zero.to(torch.uint8)) if i else o for o, i in zip(operands, whole, strict=True))
    check_integers(x, w, k)


@pytest.mark.parametrize("group", ["row", "g128", "g24"])
def test_zero_points_anywhere(group: str) -> None:
    """int32 ones, joined modulo 2^64; then stripe 0 leaves its parts too."""
    rng = np.random.default_rng(4)
    k = columns(f"uint4:{group}")
    x = with_zeros(rng, operand(rng, "int8:row", 17, k, layout="plain", zero="int"), FAR)
    w = with_zeros(rng, operand(rng, f"uint4:{group}", N, k, layout="mma64", zero="int"), FAR)
    check_integers(x, w, k)
    check_integers(x, operand(rng, f"uint4:{group}", N, k, layout="mma64", zero="float"), k)


def test_raw_sums() -> None:
    rng = np.random.default_rng(5)
    for group in ("row", "g128", "g32"):
        x = operand(rng, "uint8:row", 17, COLUMNS, layout="plain")
        w = operand(rng, f"uint4:{group}", N, COLUMNS, layout="mma64")
        got = striped(lambda x=x, w=w: gemm("scaled_gemm", x, w, N, COLUMNS, dtype=torch.int32))
        assert torch.equal(got.long(), torch.from_numpy(oracle.raw_sum(x.matrix, w.matrix)))


def test_bit_planes() -> None:
    """x in planes becomes bytes, which lie in the workspace behind the records."""
    rng = np.random.default_rng(6)
    x, w = operand(rng, "uint5:row", 17, COLUMNS), operand(rng, "uint2:g64", N, COLUMNS)

    def call() -> Tensor:
        return gemm("bitplane_gemm", x, w, N, COLUMNS)

    assert any("join_stripes" in kernel for kernel, _ in grids(call))
    assert_bits(kernels.twice(call), oracle.integer_path(x.matrix, w.matrix))


# ---- floats


def check_floats(
    x: Operand | Tensor, w: Operand, k: int, arch: str | None = None, family: str = "dequant_gemm", **more: Any
) -> None:
    n = len(w.matrix.values)
    for mma in kernels.MODELS:
        alone = gemm(family, x, w, n, k, arch, mma=mma, alone=True, **more)
        few = [gemm(family, part, w, n, k, arch, mma=mma, **more) for part in (rows(x, 0, 16), rows(x, 16, 17))]
        got = striped(lambda mma=mma: gemm(family, x, w, n, k, arch, mma=mma, **more))
        assert kernels.same_bits(got, alone)
        assert kernels.same_bits(got, torch.cat(few))


def rows(x: Operand | Tensor, begin: int, end: int) -> Operand | Tensor:
    """Some rows; an operand's values are of single rows, or of all."""
    if isinstance(x, Tensor):
        return x[begin:end]
    scale = x.scale if x.scale is None or len(x.scale) == 1 else x.scale[begin:end]
    return replace(
        x, codes=x.codes[begin:end], scale=scale, matrix=replace(x.matrix, values=x.matrix.values[begin:end])
    )


def activations(rng: np.random.Generator, m: int, k: int, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(rng.standard_normal((m, k)).astype(np.float32)).to(dtype)


FLOAT_WEIGHTS = [
    ("int4:row", torch.bfloat16), ("int4:g128", torch.bfloat16), ("uint4:g64", torch.float16),
    ("uint4:g16", torch.bfloat16), ("int8:g40", torch.bfloat16), ("nf4:g64", torch.float32), ("mxfp4", torch.float16),
    ("nvfp4", torch.bfloat16), ("float8_e4m3fn:g1024", torch.float32),
]  # fmt: skip


@pytest.mark.parametrize("layout", ["canonical", "mma64"])
@pytest.mark.parametrize(("format", "dtype"), FLOAT_WEIGHTS, ids=lambda v: str(v))
def test_floats(format: str, dtype: torch.dtype, layout: str) -> None:
    rng = np.random.default_rng(7)
    k = columns(format)
    w = operand(rng, format, N, k, layout=layout, zero="int" if format[0] == "u" else None)
    if w.zero is not None:
        w = replace(w, zero=w.zero.to(torch.uint8))
    check_floats(activations(rng, 17, k, dtype), w, k)


@pytest.mark.parametrize(("layout", "group"), [("canonical", 64), ("mma64", 64), ("canonical", 192)])
def test_two_widths_and_outliers(layout: str, group: int) -> None:
    """And a bias, and an output of 16 bits. Windows of codes are those of no stripe."""
    rng = np.random.default_rng(8)
    w, extras = mixed(rng, "uint2", N, 1632, group, [0, 3, 4, 8], layout)
    w, outliers = with_outliers(rng, w, 100, torch.float16)
    x, bias = activations(rng, 17, 1632, torch.bfloat16), torch.linspace(-1, 1, N)
    check_floats(x, w, 1632, bias=bias, extras=extras | outliers, dtype=torch.bfloat16)


COMPLEX = [("row", 1620, torch.bfloat16), ("g64", 1620, torch.bfloat16), ("g40", 3172, torch.bfloat16),
           ("g40", 1620, torch.float32)]  # fmt: skip


@pytest.mark.parametrize(("block", "k", "dtype"), COMPLEX, ids=str)
def test_complex_weights(block: str, k: int, dtype: torch.dtype) -> None:
    """Stripes go through both halves of K."""
    rng = np.random.default_rng(10)
    w = complex_operand(rng, block, 10, k, pair=True)
    x = activations(rng, 17, 2 * k, dtype)

    def call(library: Any, x: Tensor = x) -> Tensor:
        return library.dequant_gemm(x, w.codes, w.scale, None, w.format)

    few = [emulated.run(lambda library, part=part: call(library, part)) for part in (x[:16], x[16:])]
    assert any("join_stripes" in kernel for kernel in emulated.kernels(call))
    assert kernels.same_bits(emulated.run(call), torch.cat(few))


@pytest.mark.parametrize(("formats", "arch"), [
    (("float8_e4m3fn:row", "float8_e5m2:g128"), "89"), (("float8_e4m3fn:g64", "float8_e4m3fn:row"), "89"),
    (("mxfp8_e4m3", "mxfp8_e5m2"), "120f"), (("mxfp4", "mxfp4"), "120f"), (("nvfp4", "nvfp4"), "120f"),
    (("mxfp6_e2m3", "mxfp6_e2m3"), "120f"),
])  # fmt: skip
@pytest.mark.parametrize("layout", ["canonical", "mma64"])
def test_pairs_of_minifloats(formats: tuple[str, str], arch: str, layout: str) -> None:
    rng = np.random.default_rng(9)
    k = 3100
    check_floats(operand(rng, formats[0], 17, k), operand(rng, formats[1], N, k, layout=layout), k, arch, "scaled_gemm")


@pytest.mark.parametrize("arch", kernels.ARCHS)
def test_architectures(arch: str) -> None:
    rng = np.random.default_rng(10)
    x, w = operand(rng, "int8:row", 17, COLUMNS, layout="plain"), operand(rng, "int4:g128", N, COLUMNS, layout="mma64")
    check_integers(x, w, COLUMNS, arch)
    check_floats(activations(rng, 17, COLUMNS, torch.bfloat16), w, COLUMNS, arch)


# ---- segments that int32 does not hold


def alike(format: str, rows: int, k: int, code: int, value: float, zero: int | None = None) -> Operand:
    """A matrix whose codes are all the same, one scale a row."""
    name = format.split(":")[0]
    codes = torch.full((rows, k), code, dtype=torch.uint8)
    if format.endswith("@mma64"):
        codes = torch.ops.lowbit.prepack(torch.ops.lowbit.pack(codes, name), name, k, layout="mma64")
    scale = torch.linspace(0.5, 1, rows)[:, None].contiguous()
    matrix = oracle.Matrix(
        np.full((rows, k), value), 0, scale.numpy().repeat(k, 1), None if zero is None else np.full((rows, k), zero)
    )
    zeros = None if zero is None else torch.full((rows, 1), zero, dtype=torch.uint8)
    return Operand(format, codes, scale, zeros, None, None, matrix)


LONG = 65_900  # products of 255 * 128; from 65,793 on their sum is beyond int32


def test_long_segments() -> None:
    """Zero points of w 255 and codes 0, x -128: every product has the largest magnitude. Two parts, joined in int64."""
    x, w = alike("int8:row@plain", 17, LONG, 128, -128.0), alike("uint4:row@mma64", 3, LONG, 0, 0.0, 255)
    assert np.abs(oracle.raw_sum(x.matrix, w.matrix)).min() > 2**31
    results: list[Tensor] = []
    launches = grids(lambda: results.append(gemm("scaled_gemm", x, w, 3, LONG)))
    assert ["gemm_wide" in launches[0][0], "join_stripes" in launches[1][0]] == [True, True]
    assert_bits(results[0], oracle.integer_path(x.matrix, w.matrix))
