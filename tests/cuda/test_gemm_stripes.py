"""K of the wide loop shared by multiprocessors: no number of stripes changes a bit. Integers to the bits of the oracle,
floats to those of one multiprocessor, where nothing is shared."""

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
from cuda.test_gemm_narrow import rows_of
from emu import emulator
from operands import Operand, complex_operand, mixed, operand, with_outliers
from oracle import gemm as oracle
from torch import Tensor

N = 24
SMS = (6, 40)  # 2 to 4 stripes of few tiles, and as many as K has
COLUMNS = (2100, 2560)  # the last stripe is cut within a step, or the stripes are equal


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


def check_integers(x: Operand, w: Operand, k: int, rows: tuple[int, ...], arch: str | None = None) -> None:
    n = len(w.matrix.values)
    bias = np.linspace(-1, 1, n).astype(np.float32)
    want = oracle.integer_path(x.matrix, w.matrix, bias)
    for m in rows:
        for sms in SMS:
            given = rows_of(x, m)
            got = striped(
                lambda given=given, sms=sms: gemm(
                    "scaled_gemm", given, w, n, k, arch, bias=torch.from_numpy(bias), sms=sms
                )
            )
            assert_bits(got, want[:m])


INTEGER_PAIRS = [
    ("int8:row", "int4:row"),  # one segment: equal pieces of it
    ("int8:row", "int4:g1024"),  # pieces of some
    ("int8:row", "int4:g128"), ("int8:g64", "int4:g256"),  # whole ones
    ("int8:row", "int3:g192"),  # whole ones of three times a power of two
    ("int8:g64", "int4:g32"), ("int8:row", "float4_e2m1fn:g32"),  # of less than a step: walked
    ("int8:row", "int3:g24"),  # slots that are no columns
    ("uint8:row", "bipolar8:g64"),  # offsets of bytes on both sides
    ("int4:row", "int4:g64"),  # s4
]  # fmt: skip


@pytest.mark.parametrize("layout", ["canonical", "mma64"])
@pytest.mark.parametrize("formats", INTEGER_PAIRS, ids="-".join)
def test_stripes_of_integers_to_the_bit(formats: tuple[str, str], layout: str) -> None:
    rng = np.random.default_rng(0)
    for k, rows in zip(COLUMNS, ((17, 129), (64,)), strict=True):
        x_layout = "canonical" if formats[0] == "int4:row" else "plain"
        x = operand(rng, formats[0], rows[-1], k, layout=x_layout)
        check_integers(x, operand(rng, formats[1], N, k, layout=layout), k, rows)


@pytest.mark.parametrize("zeros", [("int", "int"), (None, "int"), (None, "float"), ("int", "float")], ids=str)
@pytest.mark.parametrize("group", ["row", "g32", "g128", "g1024"])
def test_zero_points_of_stripes_to_the_bit(group: str, zeros: tuple[str | None, str]) -> None:
    """In bytes, which no part of a sum that the last stripe has overflows, and of 32 bits."""
    rng = np.random.default_rng(1)
    k = COLUMNS[0]
    x = operand(rng, "uint8:row", 33, k, layout="plain", zero=zeros[0])
    w = operand(rng, f"uint4:{group}", N, k, layout="mma64", zero=zeros[1])
    small = [replace(o, zero=o.zero.to(torch.uint8)) if o.zero is not None and o.zero.dtype == torch.int32 else o
             for o in (x, w)]  # fmt: skip
    check_integers(*small, k, (33,))
    check_integers(x, w, k, (33,))


@pytest.mark.parametrize("group", ["row", "g64", "g24"])
def test_zero_points_anywhere(group: str) -> None:
    """Joined modulo 2^64."""
    rng = np.random.default_rng(2)
    k = COLUMNS[0]
    x = with_zeros(rng, operand(rng, "int8:row", 17, k, layout="plain", zero="int"), FAR)
    w = with_zeros(rng, operand(rng, f"uint4:{group}", N, k, layout="mma64", zero="int"), FAR)
    check_integers(x, w, k, (17,))
    check_integers(x, operand(rng, f"uint4:{group}", N, k, layout="mma64", zero="float"), k, (17,))


def test_raw_sums_of_stripes() -> None:
    rng = np.random.default_rng(3)
    k = COLUMNS[0]
    for group in ("row", "g128", "g32"):
        x, w = operand(rng, "uint8:row", 33, k, layout="plain"), operand(rng, f"uint4:{group}", N, k, layout="mma64")
        got = striped(lambda x=x, w=w: gemm("scaled_gemm", x, w, N, k, dtype=torch.int32, sms=SMS[1]))
        assert torch.equal(got.long(), torch.from_numpy(oracle.raw_sum(x.matrix, w.matrix)))


@pytest.mark.parametrize("planes", ["bipolar1", "uint2"])
def test_bit_planes(planes: str) -> None:
    """x in planes becomes bytes in front of the records in the workspace."""
    rng = np.random.default_rng(4)
    k = COLUMNS[0]
    x, w = operand(rng, "uint5:row", 33, k), operand(rng, f"{planes}:g64", N, k)
    want = oracle.integer_path(x.matrix, w.matrix)
    for sms in (1, *SMS):
        assert_bits(kernels.twice(lambda sms=sms: gemm("bitplane_gemm", x, w, N, k, sms=sms)), want)


# ---- floats


def check_floats(
    x: Operand | Tensor, w: Operand, k: int, arch: str | None = None, family: str = "dequant_gemm", **more: object
) -> None:
    n = len(w.matrix.values)
    for mma in kernels.MODELS:

        def run(sms: int, mma: str = mma) -> Tensor:
            return gemm(family, x, w, n, k, arch, mma=mma, sms=sms, **more)  # type: ignore[arg-type]

        want = run(1)
        for sms in SMS:
            assert kernels.same_bits(striped(lambda sms=sms: run(sms)), want)


FLOAT_WEIGHTS = ["int4:row", "int4:g128", "uint4:g64", "uint4:g16", "int8:g40", "nf4:g64", "mxfp4", "nvfp4",
                 "float8_e4m3fn:g1024"]  # fmt: skip


@pytest.mark.parametrize("layout", ["canonical", "mma64"])
@pytest.mark.parametrize("format", FLOAT_WEIGHTS)
def test_stripes_of_floats(format: str, layout: str) -> None:
    rng = np.random.default_rng(5)
    kinds = (torch.bfloat16, torch.float32) if layout == "mma64" else (torch.float16,)
    for m, k, dtype in zip((129, 33), COLUMNS, kinds, strict=False):
        w = operand(rng, format, N, k, layout=layout, zero="int" if format[0] == "u" else None)
        if w.zero is not None:
            w = replace(w, zero=w.zero.to(torch.uint8))
        x = torch.from_numpy(rng.standard_normal((m, k)).astype(np.float32)).to(dtype)
        check_floats(x, w, k)


def test_what_a_weight_brings_along() -> None:
    """Groups of two widths, outliers, a bias, complex weights, an output of 16 bits."""
    rng = np.random.default_rng(6)
    n, k = 20, 2112
    x = torch.from_numpy(rng.standard_normal((33, k)).astype(np.float32)).to(torch.bfloat16)
    bias = torch.linspace(-1, 1, n)
    for layout, group in (("canonical", 64), ("mma64", 64), ("canonical", 192)):
        w, extras = mixed(rng, "uint2", n, k, group, [0, 3, 4, 9], layout)
        w, outliers = with_outliers(rng, w, 100, torch.float16)
        check_floats(x, w, k, bias=bias, extras=extras | outliers, dtype=torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("block", ["row", "g64", "g40"])
def test_complex_weights(block: str, dtype: torch.dtype) -> None:
    """Stripes go through both halves of K."""
    rng = np.random.default_rng(10)
    w = complex_operand(rng, block, 10, COLUMNS[0] // 2, pair=True)
    x = torch.from_numpy(rng.standard_normal((33, COLUMNS[0])).astype(np.float32)).to(dtype)

    def call(library: Any) -> Tensor:
        return library.dequant_gemm(x, w.codes, w.scale, None, w.format)

    want = emulated.run(call, sms=1)
    for sms in SMS:
        assert any("join_stripes" in kernel for kernel in emulated.kernels(call, sms=sms))
        assert kernels.same_bits(emulated.run(call, sms=sms), want)


@pytest.mark.parametrize(("formats", "arch"), [
    (("float8_e4m3fn:row", "float8_e5m2:g128"), "89"), (("float8_e4m3fn:g64", "float8_e4m3fn:row"), "89"),
    (("mxfp8_e4m3", "mxfp8_e5m2"), "120f"), (("mxfp4", "mxfp4"), "120f"), (("nvfp4", "nvfp4"), "120f"),
    (("mxfp6_e2m3", "mxfp6_e2m3"), "120f"),
])  # fmt: skip
@pytest.mark.parametrize("layout", ["canonical", "mma64"])
def test_stripes_of_pairs_of_minifloats(formats: tuple[str, str], arch: str, layout: str) -> None:
    rng = np.random.default_rng(7)
    for m, k in ((33, 2112), (65, 3100)):
        check_floats(
            operand(rng, formats[0], m, k), operand(rng, formats[1], N, k, layout=layout), k, arch, "scaled_gemm"
        )


def test_every_architecture() -> None:
    rng = np.random.default_rng(8)
    k = COLUMNS[0]
    x, w = operand(rng, "int8:row", 33, k, layout="plain"), operand(rng, "int4:g128", N, k, layout="mma64")
    for arch in kernels.ARCHS:
        check_integers(x, w, k, (33,), arch)


# ---- segments that int32 does not hold


@pytest.mark.parametrize("format", ["int4:row", "uint4:row"])
def test_long_segments_of_many_rows(format: str) -> None:
    """Codes all alike: every product has the largest magnitude, their sum is beyond int32."""
    rng = np.random.default_rng(9)
    k = 131_072 + 70
    x, w = operand(rng, "int8:row", 17, 64), operand(rng, format, 3, 64, layout="mma64", zero="int")
    code = 15 if format[0] == "u" else 8
    packed = torch.ops.lowbit.pack(torch.full((3, k), code, dtype=torch.uint8), format.split(":")[0])
    zero = torch.zeros(3, 1, dtype=torch.uint8)
    w = replace(
        w,
        codes=torch.ops.lowbit.prepack(packed, format.split(":")[0], k, layout="mma64"),
        zero=zero if format[0] == "u" else None,
        matrix=replace(w.matrix, values=np.full((3, k), 15.0 if format[0] == "u" else -8.0), zero=None,
                       scale=np.repeat(w.matrix.scale[:, :1], k, 1)),
    )  # fmt: skip
    x = replace(
        x,
        format="int8:row@plain",
        codes=torch.full((17, k), 128, dtype=torch.uint8),
        matrix=replace(x.matrix, values=np.full((17, k), -128.0), scale=np.repeat(x.matrix.scale[:, :1], k, 1)),
    )
    got = gemm("scaled_gemm", x, w, 3, k, sms=1)
    assert_bits(got, oracle.integer_path(x.matrix, w.matrix))
