"""dequant_gemm on CUDA against the exact product, within the bound of its arithmetic under both models of numerics:
every weight format and activation type, in every layout; and the same bits for a row alone, in a batch, for any number
of multiprocessors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cuda.bounds import assert_within, bound
from cuda.emulated import ARCH, MODELS, kernels, launches, run, same_bits
from operands import NAMED, Operand, complex_operand, mixed, operand, with_outliers
from oracle import formats, gemm
from torch import Tensor

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ELEMENTS = [name for name in formats.NAMES if name not in ("complex2", "float8_e8m0fnu")]
LAYOUTS = ["canonical", "mma64"]
SEEDS = (1, 2)


def activations(rng: np.random.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32)).to(dtype)


def call(ops: Any, x: Tensor, w: Operand, **more: Any) -> Tensor:
    return ops.dequant_gemm(x, w.codes, w.scale, w.zero, w.format, w_scale2=w.scale2, w_table=w.table, **more)


def check(
    x: Tensor,
    w: Operand,
    bias: Tensor | None = None,
    *,
    arch: str = ARCH,
    models: tuple[str, ...] = MODELS,
    **more: Any,
) -> list[Tensor]:
    """Results under each model; the hardware-like one adds in an order of its own for every seed."""
    exact_x, b = gemm.dense(x.double().numpy()), None if bias is None else bias.double().numpy()
    want = gemm.exact(exact_x, w.matrix, b)
    results = []
    for model in models:
        for seed in SEEDS if model == "hardware" else SEEDS[:1]:
            got = run(lambda ops: call(ops, x, w, bias=bias, **more), arch, mma=model, seed=seed)
            allowed = bound(exact_x, w.matrix, b, arch=arch, model=model, out=got.dtype, x_dtype=x.dtype)
            assert_within(got, want, allowed)
            results.append(got)
    return results


# ---- formats


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("element", ELEMENTS)
def test_every_element_format(element: str, layout: str) -> None:
    rng = np.random.default_rng(1)
    shapes = [(1, 5, 37), (3, 17, 130), (17, 33, 64)]
    for i, (dtype, block) in enumerate(zip(DTYPES, ["row", "g16", "g64"], strict=True)):
        m, n, k = shapes[(i + len(element)) % 3]
        check(activations(rng, m, k, dtype=dtype), operand(rng, f"{element}:{block}", n, k, layout=layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [*NAMED, "uint2:g16/uint4:g16", "int4:g32/float8_e4m3fn:tensor", "int3:g8/uint6",
                                  "uint4:g16/nf4:b2x4"])  # fmt: skip
def test_coded_scales(name: str, layout: str) -> None:
    rng = np.random.default_rng(2)
    for m, n, k, dtype in [(1, 3, 16, torch.bfloat16), (4, 18, 100, torch.float32), (20, 7, 513, torch.float16)]:
        check(activations(rng, m, k, dtype=dtype), operand(rng, name, n, k, layout=layout))


@pytest.mark.parametrize("zero", [None, "int", "float"])
@pytest.mark.parametrize("block", ["tensor", "row", "g16", "g40", "g128", "b8x24"])
def test_blocks_and_zero_points(block: str, zero: str | None) -> None:
    rng = np.random.default_rng(3)
    for (m, n, k), element in zip(
        [(1, 1, 1), (5, 9, 50), (33, 40, 297)], ("uint4", "int3", "float6_e2m3fn"), strict=True
    ):
        for layout in LAYOUTS:
            shared = block[0] in "bt" and layout in ("tile16", "mma64")
            rows = -(-n // 16) * 16 if shared else n  # tiles do not tell how many rows share a scale
            check(activations(rng, m, k), operand(rng, f"{element}:{block}", rows, k, zero=zero, layout=layout))
    w = operand(rng, f"uint4:{block}", 21, 130, zero=zero)
    check(activations(rng, 4, 130, dtype=torch.float16), w)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
@pytest.mark.parametrize(
    "element", ["uint1", "uint2", "uint3", "uint4", "uint5", "uint6", "uint7", "uint8", "int4", "int8"]
)
def test_zero_points_in_bytes(element: str, dtype: torch.dtype) -> None:
    """They are subtracted in registers from prepacked weights: every width of those, the extremes among them."""
    rng = np.random.default_rng(4)
    for m, x_dtype in [(2, torch.float16), (18, torch.bfloat16)]:
        w = operand(rng, f"{element}:g32", 19, 130, zero="int", layout="mma64")
        values = rng.integers(-128 if dtype == torch.int8 else 0, 128 if dtype == torch.int8 else 256, w.zero.shape)
        values.flat[:2] = (-128, 127) if dtype == torch.int8 else (0, 255)
        columns = np.arange(130) // 32
        matrix = gemm.Matrix(**(vars(w.matrix) | {"zero": values[:, columns]}))
        zero = torch.from_numpy(values).to(dtype)
        check(activations(rng, m, 130, dtype=x_dtype), Operand(**(vars(w) | {"zero": zero, "matrix": matrix})))


@pytest.mark.parametrize("zero", [None, "float"])
def test_without_scales(zero: str | None) -> None:
    rng = np.random.default_rng(5)
    check(activations(rng, 3, 70), operand(rng, "ternary:g32", 6, 70, scaled=False, zero=zero))
    check(activations(rng, 30, 70), operand(rng, "int5", 6, 70, scaled=False, zero=zero, layout="plain"))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_outputs_and_biases(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(6)
    w = operand(rng, "int4:g32", 130, 70)
    for i, bias_dtype in enumerate(DTYPES):
        for m, x_dtype in ((3, DTYPES[i]), (17, DTYPES[i - 1])):
            x, bias = activations(rng, m, 70, dtype=x_dtype), activations(rng, 130, dtype=bias_dtype)
            assert check(x, w, bias, models=("exact",), out_dtype=dtype)[0].dtype == dtype


# ---- what a weight may bring along


@pytest.mark.parametrize("layout", ["canonical", "plain", "tile16", "mma64"])
@pytest.mark.parametrize("element", ["uint2", "int4", "bipolar1"])
@pytest.mark.parametrize("high", [[0], [1, 2], [0, 3], [0, 1, 2, 3], []], ids=str)
def test_groups_of_two_widths(high: list[int], element: str, layout: str) -> None:
    rng = np.random.default_rng(7)
    for m, k, dtype in ((3, 57, torch.bfloat16), (18, 64, torch.float16)):
        w, more = mixed(rng, element, 25, k, 16, high, layout)
        check(activations(rng, m, k, dtype=dtype), w, models=("hardware",), **more)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_outliers(layout: str, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(8)
    for m, n, k, count in [(4, 4, 40, 0), (1, 5, 33, 11), (19, 130, 129, 300)]:
        w, more = with_outliers(rng, operand(rng, "int3:g16", n, k, zero="int", layout=layout), count, dtype)
        check(activations(rng, m, k, dtype=torch.bfloat16), w, activations(rng, n), **more)


def test_widths_and_outliers_together() -> None:
    rng = np.random.default_rng(9)
    w, more = mixed(rng, "uint2", 9, 96, 16, [1, 4], "canonical")
    w, outliers = with_outliers(rng, w, 20, torch.float16)
    for m in (4, 40):
        check(activations(rng, m, 96), w, **more, **outliers)


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("block", ["tensor", "row", "g16"])
def test_complex_weights(block: str, pair: bool) -> None:
    rng = np.random.default_rng(10)
    for (m, n, k), dtype in zip([(1, 1, 1), (3, 5, 40), (20, 17, 64)], DTYPES, strict=True):
        w = complex_operand(rng, block, n, k, pair=pair)
        check(activations(rng, m, 2 * k, dtype=dtype), w, activations(rng, 2 * n))


# ---- shapes


@pytest.mark.parametrize("m", [0, 1, 3, 8, 17, 64, 129])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows(dtype: torch.dtype, m: int) -> None:
    rng = np.random.default_rng(m)
    for layout in LAYOUTS:
        w = operand(rng, "uint4:g32", 67, 333, zero="int", layout=layout)
        check(activations(rng, m, 333, dtype=dtype), w, models=("hardware",))


def test_long_rows() -> None:
    rng = np.random.default_rng(11)
    for m, n, k, name in [(2, 3, 20_011, "int4:g128"), (17, 1, 9_001, "uint3:row")]:
        for layout in LAYOUTS:
            check(activations(rng, m, k, dtype=torch.bfloat16), operand(rng, name, n, k, layout=layout))


def test_strides() -> None:
    rng = np.random.default_rng(12)
    w = operand(rng, "int4:g32", 50, 130, layout="mma64")
    for dtype in DTYPES:
        for m in (3, 20):
            wide = activations(rng, 2 * m, 300, dtype=dtype)
            dense = wide[::2, 5:265:2].contiguous()
            want = run(lambda ops, x=dense: call(ops, x, w))
            assert same_bits(run(lambda ops, x=wide: call(ops, x[::2, 5:265:2], w)), want)
            assert same_bits(run(lambda ops, x=dense: call(ops, x.T.contiguous().T, w)), want)
            check(dense, w)
    x = activations(rng, 2, 2, 5, 130)
    assert same_bits(
        run(lambda ops: call(ops, x, w)).reshape(20, 50), run(lambda ops: call(ops, x.reshape(20, 130), w))
    )


# ---- determinism


def splits_k(function: Any, multiprocessors: int) -> bool:
    return any(launch["grid"][1] > 1 for launch in launches(function, multiprocessors=multiprocessors))


@pytest.mark.parametrize("name", ["int4:g32", "uint3:g128", "nf4:g64", "nvfp4", "int8:g40", "float8_e4m3fn"])
@pytest.mark.parametrize("model", MODELS)
def test_a_row_alone_and_in_a_batch(model: str, name: str) -> None:
    """Neither M, the loop for few or many rows, nor how many multiprocessors share K changes a bit of a row."""
    rng = np.random.default_rng(13)
    for dtype in DTYPES[:2] if model == "exact" else DTYPES[1:]:
        w = operand(rng, name, 20, 4300, layout="mma64")
        x = activations(rng, 65, 4300, dtype=dtype)
        whole = run(lambda ops, x=x, w=w: call(ops, x, w), mma=model)
        shared = [splits_k(lambda ops, x=x, w=w: call(ops, x[:1], w), count) for count in (1, 8)]
        assert shared == [False, True]
        for rows in (slice(0, 1), slice(40, 49), slice(64, 65)):
            for count in (1, 8):
                got = run(lambda ops, x=x[rows], w=w: call(ops, x, w), mma=model, multiprocessors=count)
                assert same_bits(got, whole[rows]), (rows, count)


def test_both_loops_and_all_layouts() -> None:
    """What the test above compares is not one kernel: few rows and many, and weights in registers or by way of rows,
    have kernels of their own. All layouts give the same bits."""
    rng = np.random.default_rng(14)
    results: dict[int, list[Tensor]] = {}
    names: dict[tuple[int, str], set[str]] = {}
    x = activations(rng, 40, 296, dtype=torch.bfloat16)
    for layout in ("canonical", "plain", "tile16", "mma64"):
        w = operand(np.random.default_rng(15), "int4:g32", 70, 296, layout=layout)
        for m in (3, 40):
            results.setdefault(m, []).append(run(lambda ops, x=x[:m], w=w: call(ops, x, w)))
            names[m, layout] = kernels(lambda ops, x=x[:m], w=w: call(ops, x, w))
    for same in results.values():
        assert all(same_bits(same[0], other) for other in same)
    assert same_bits(results[40][0][:3], results[3][0])
    assert len({frozenset(names[m, layout]) for m in (3, 40) for layout in ("canonical", "mma64")}) == 4
    assert all("narrow" in name for name in names[3, "mma64"])
    assert all("wide" in name for name in names[40, "mma64"])


def test_infinities_and_nan_stay_in_their_row_and_column() -> None:
    rng = np.random.default_rng(16)
    for m in (3, 20):
        for layout in LAYOUTS:
            w = operand(rng, "int4:g32", 8, 70, layout=layout)
            x = activations(rng, m, 70)
            x[1, 69] = torch.inf
            w.scale[5, 0] = torch.nan
            got = run(lambda ops, x=x, w=w: call(ops, x, w))
            nonzero = w.matrix.values[:, 69] != 0
            for column in range(8):
                assert torch.isfinite(got[[0, 2], column]).all() == (column != 5)
                assert not torch.isfinite(got[1, column])
                if column != 5:
                    assert torch.isinf(got[1, column]) == bool(nonzero[column])


# ---- architectures


@pytest.mark.parametrize("arch", ["89", "90", "120f"])
@pytest.mark.parametrize("m", [0, 1, 3, 8, 17, 64, 129])
def test_rows_on_architectures(m: int, arch: str) -> None:
    """Odd N and K, K smaller than a tile, any stride of x; exact sums of the tensor cores too."""
    rng = np.random.default_rng(m)
    for name, k, dtype in (("int4:g32", 77, torch.bfloat16), ("nf4:g64", 131, torch.float16), ("int3", 29, DTYPES[0])):
        w = operand(rng, name, 19, k, layout="mma64" if m % 2 else "canonical")
        x = activations(rng, m, 2 * k, dtype=dtype)[:, ::2]
        check(x, w, arch=arch, models=MODELS if m in (3, 64) else ("hardware",))


@pytest.mark.parametrize("arch", ["89", "90", "120f"])
@pytest.mark.parametrize("name", ["int4:g32", "uint3:g64", "float8_e4m3fn", "nf4:g64", "nvfp4", "mxfp6_e3m2"])
def test_architectures(name: str, arch: str) -> None:
    rng = np.random.default_rng(17)
    for i, (m, layout) in enumerate([(1, "mma64"), (5, "canonical"), (33, "mma64")]):
        w = operand(rng, name, 37, 300, layout=layout)
        check(activations(rng, m, 300, dtype=DTYPES[i]), w, arch=arch, models=("hardware",))


@pytest.mark.parametrize("arch", ["89", "90", "120f"])
@pytest.mark.parametrize("element", ELEMENTS)
def test_every_element_format_on_architectures(element: str, arch: str) -> None:
    """Odd N and K; few rows and many, in registers or by way of rows, in turn."""
    rng = np.random.default_rng(18)
    many, tiled = divmod((ELEMENTS.index(element) + ["89", "90", "120f"].index(arch)) % 4, 2)
    w = operand(rng, f"{element}:g32", 11, 75, layout=LAYOUTS[tiled])
    check(activations(rng, 17 if many else 3, 75, dtype=torch.bfloat16), w, arch=arch, models=("hardware",))
